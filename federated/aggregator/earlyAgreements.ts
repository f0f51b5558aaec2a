/**
 * Agreements that came with the inputs: that a sum is over all its members. When nobody is missing they save the step in
 * which the survivors are agreed on. Kept in memory as they come, read from their updates' rows when they are not there.
 */

import { fromBinary } from '@bufbuild/protobuf';
import { envelopeFrom } from '../protocol/envelope.ts';
import { AgreementSchema, type SignedEnvelope, UpdateSchema } from '../protocol/generated/veilrisk_pb.js';
import type { Board } from './board.ts';
import type { Database } from './store/database.ts';
import { loadEnvelopes, type RoundRow } from './store/plans.ts';

interface Attempt {
  readonly name: string;
  readonly bySite: Map<string, SignedEnvelope>;
  /** Once they are there: every site is shown the same. */
  enough: SignedEnvelope[] | null;
}

export class EarlyAgreements {
  readonly #database: Database;
  /** Of the open attempt of each plan. */
  readonly #kept = new Map<string, Attempt>();

  constructor(database: Database) {
    this.#database = database;
  }

  /** @param envelope of kind "agreement", verified. */
  keep(planId: string, round: number, attempt: number, site: string, envelope: SignedEnvelope): void {
    this.#attempt(planId, `${round}/${attempt}`).bySite.set(site, envelope);
  }

  forget(planId: string): void {
    this.#kept.delete(planId);
  }

  /** As many equal ones as the threshold, roster order; null when somebody is missing or they differ. */
  async enough(board: Board, { number, attempt, members, survivors }: RoundRow): Promise<SignedEnvelope[] | null> {
    const { threshold } = board.course.plan;
    if (survivors.length > 0 && survivors.length < members.length) return null;
    const kept = this.#attempt(board.plan.id, `${number}/${attempt}`);
    if (kept.enough !== null) return kept.enough;
    const { bySite } = kept;
    const missing = members.filter((site) => !bySite.has(site));
    if (missing.length > 0) {
      const step = { planId: board.plan.id, kind: 'update' as const, round: number, attempt };
      for (const [site, stored] of await loadEnvelopes(this.#database.pool, step, missing)) {
        const { agreement } = fromBinary(UpdateSchema, envelopeFrom(stored).body);
        if (agreement !== undefined) bySite.set(site, agreement);
      }
    }
    const all = members.flatMap((site) => bySite.get(site) ?? []);
    kept.enough = all.length === members.length ? enoughAlike(all, threshold) : null;
    return kept.enough;
  }

  #attempt(planId: string, name: string): Attempt {
    const kept = this.#kept.get(planId);
    if (kept?.name === name) return kept;
    const attempt = { name, bySite: new Map<string, SignedEnvelope>(), enough: null };
    this.#kept.set(planId, attempt);
    return attempt;
  }
}

/**
 * As many agreements on the same as a reveal needs, of envelopes of kind "agreement"; null when there are fewer. Each is
 * one more signature for every site to verify.
 */
export function enoughAlike(envelopes: readonly SignedEnvelope[], threshold: number): SignedEnvelope[] | null {
  const groups = new Map<string, SignedEnvelope[]>();
  for (const envelope of envelopes) {
    const name = Buffer.from(fromBinary(AgreementSchema, envelope.body).agreement).toString('hex');
    groups.set(name, [...(groups.get(name) ?? []), envelope]);
  }
  const enough = [...groups.values()].find((group) => group.length >= threshold);
  return enough?.slice(0, threshold) ?? null;
}
