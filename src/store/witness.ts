/**
 * What the node remembers of logs: the newest head of each log it witnesses, and who witnessed its own.
 *
 * Limit: accepting a head is a statement of its own and not part of a transaction, because it must be durable before the
 * cosignature exists; evidence is kept in a transaction with its audit entry.
 */
import type pg from 'pg';
import type { VerifierKey } from '../audit/note.ts';
import { mapped } from '../database/failures.ts';
import { cosignedSize, keepCosignature, type StoredCosignature } from '../journal/cosignatures.ts';
import { proveConsistency } from '../journal/prover.ts';
import { acceptedHead, acceptHead, keepEvidence, type ShownHead, type Verdict } from '../journal/witness.ts';
import type { Session } from './session.ts';

export { type Contradiction, evidenceDigest, type ShownHead } from '../journal/witness.ts';

export interface WitnessedHead {
  origin: string;
  verifierKey: string;
  /** Entries. */
  size: number;
  /** Signed note. */
  checkpoint: string;
}

export interface WitnessStore {
  /** The newest accepted head of each log. */
  heads(): Promise<WitnessedHead[]>;
  /** Entries of the newest accepted head of a log, 0 for none. */
  acceptedSize(origin: string): Promise<number>;
  /** Decides on a head; an accepted one is durable when this resolves. @throws AuditError. */
  accept(key: VerifierKey, head: ShownHead): Promise<Verdict>;
  /** Why the first `size` entries of the own log are a prefix of the first `of`. */
  prove(size: number, of: number): Promise<Uint8Array[]>;
  /** Entries of the newest own head that a witness cosigned, 0 for none. */
  cosignedSize(witness: string): Promise<number>;
  /** Keeps a verified cosignature of the own log. */
  keepCosignature(cosignature: StoredCosignature): Promise<void>;
}

export function readWitness(pool: pg.Pool): WitnessStore {
  return {
    heads: async () => {
      const { rows } = await mapped(
        pool.query<WitnessedHead>(
          `SELECT origin, verifier_key AS "verifierKey", size::float8 AS size, checkpoint
           FROM witness_heads ORDER BY origin`,
        ),
      );
      return rows;
    },
    acceptedSize: async (origin) => (await mapped(acceptedHead(pool, origin)))?.size ?? 0,
    accept: (key, head) => mapped(acceptHead(pool, key, head)),
    prove: (size, of) => mapped(proveConsistency(pool, size, of)),
    cosignedSize: (witness) => mapped(cosignedSize(pool, witness)),
    keepCosignature: (cosignature) => mapped(keepCosignature(pool, cosignature)),
  };
}

export function writeWitness({ client }: Session) {
  return {
    /** Keeps two notes that contradict each other, once, and so many of a log. */
    keepEvidence: (contradiction: Parameters<typeof keepEvidence>[1]) => keepEvidence(client, contradiction),
  };
}

export type WitnessWriter = ReturnType<typeof writeWitness>;
