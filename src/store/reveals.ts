/**
 * Which sum of a round this node helped to unmask: one, for ever.
 *
 * A bank gives the same noised numbers to every attempt at a round. Two sums of them over different sets of banks differ
 * by the message of single banks, so a node opens one sum a round and remembers which. A row is written once (triggers);
 * whoever composes `note` appends the audit entry in the same transaction, before any share leaves.
 */
import type { RevealedSum } from './generated/client.ts';
import { asBytes, type Db, type Session } from './session.ts';

export interface RevealRow {
  planId: string;
  round: number;
  /** Attempt at the round whose sum was unmasked, from 1. */
  attempt: number;
  /** What the survivors agreed on, 32 bytes. */
  agreement: Uint8Array;
  revealedAt: Date;
}

export function readReveals(db: Db) {
  return {
    async find(planId: string, round: number): Promise<RevealRow | null> {
      const row = await db.revealedSum.findUnique({ where: { planId_round: { planId, round } } });
      return row === null ? null : toReveal(row);
    },
  };
}

export function writeReveals({ db, client }: Session) {
  return {
    ...readReveals(db),
    /**
     * Notes a sum, unless one of the round is noted already; waits for another transaction that is about to.
     * @returns what stands: `isNew` when this call wrote it.
     */
    async note(sum: Omit<RevealRow, 'revealedAt'>): Promise<{ isNew: boolean; row: RevealRow }> {
      const { planId, round, attempt, agreement } = sum;
      const { rowCount } = await client.query(
        `INSERT INTO revealed_sums (plan_id, round, attempt, agreement) VALUES ($1, $2, $3, $4)
         ON CONFLICT (plan_id, round) DO NOTHING`,
        [planId, round, attempt, asBytes(agreement)],
      );
      const row = await db.revealedSum.findUniqueOrThrow({ where: { planId_round: { planId, round } } });
      return { isNew: rowCount === 1, row: toReveal(row) };
    },
  };
}

export type RevealReader = ReturnType<typeof readReveals>;
export type RevealWriter = ReturnType<typeof writeReveals>;

const toReveal = (row: RevealedSum): RevealRow => ({ ...row });
