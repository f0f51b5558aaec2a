/**
 * An independent reading of the audit log for tests: replays budgets and reservations in the order of the log, and says
 * whether there was a moment at which more was reserved than the budget of that moment allowed.
 */
import { openBudget } from '../../src/privacy/budget.ts';
import type { NodeStore } from '../../src/store/nodeStore.ts';

export interface Replay {
  /** Data set id -> sum of reserved mu squared. */
  reserved: Map<number, number>;
  /** Where a reservation went beyond the budget that was in force, `data set N, index I`. */
  overspent: string[];
  reservations: number;
  refusals: { planId: string; round: number; code: string }[];
}

/** @param nameOf name of a data set by id: reservations are logged by id, budgets by name. */
export async function replayLog(store: NodeStore, nameOf: ReadonlyMap<number, string>): Promise<Replay> {
  const limits = new Map<string, number>();
  const replay: Replay = { reserved: new Map(), overspent: [], reservations: 0, refusals: [] };
  const { size } = await store.audit.head();
  for await (const { index, bytes } of store.audit.entries(0, size)) {
    const { type, outcome, reasonCodes, details } = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (type === 'dataset.create') {
      limits.set(details.dataset, openBudget(details.budget.epsilon, details.budget.delta).muSquared);
    }
    if (type === 'privacy.refuse') {
      replay.refusals.push({ planId: details.planId, round: details.round, code: reasonCodes[0] });
    }
    if (type !== 'privacy.reserve' || outcome !== 'reserved') continue;
    replay.reservations++;
    const sum = (replay.reserved.get(details.datasetId) ?? 0) + details.muSquared;
    replay.reserved.set(details.datasetId, sum);
    const limit = limits.get(nameOf.get(details.datasetId) ?? '') ?? 0;
    // The sum of a hundred doubles is good to 1e-13.
    if (sum > limit * (1 + 1e-13)) replay.overspent.push(`data set ${details.datasetId}, index ${index}`);
  }
  return replay;
}
