/**
 * Taking one step of a plan: fence, rows, log entries and notice in one transaction; then this process's view, the
 * sites' streams and the events follow.
 */

import type { EntryDraft, Json } from '../../src/audit/entry.ts';
import type { Board } from './board.ts';
import type { AggregatorEvent, Desk } from './desk.ts';
import { type PlanStep, type Transaction, takeStep, transaction } from './store/database.ts';
import { notify } from './store/notifications.ts';

export interface StepTaken {
  plan?: PlanStep;
  /** Changes of rows, under the plan's lock. */
  rows?: (tx: Transaction) => Promise<unknown>;
  entries?: readonly EntryDraft[];
  /** Changes the board as the rows were changed. */
  board?: () => void;
  events?: readonly AggregatorEvent[];
}

/** @returns false when another process or the operator was faster: nothing was done, and the board is read again. */
export async function commitStep(desk: Desk, board: Board, token: number, step: StepTaken): Promise<boolean> {
  const { plan } = board;
  const entries = step.entries ?? [];
  const taken = await transaction(desk.database.pool, async (tx) => {
    const fence = { planId: plan.id, token, revision: plan.revision };
    if (!(await takeStep(tx, fence, step.plan ?? {}))) return false;
    await step.rows?.(tx);
    if (entries.length > 0) await desk.journal?.append(tx, entries);
    await notify(tx, desk.process, plan.id);
    return true;
  });
  if (!taken) {
    desk.leases.lost(plan.id);
    desk.sums.forget(plan.id);
    await desk.boards.refresh(plan.id);
    return false;
  }
  if (entries.length > 0) desk.journal?.committed();
  Object.assign(plan, step.plan);
  plan.revision++;
  step.board?.();
  board.prune();
  desk.announce(step.events ?? []);
  desk.boards.changed(plan.id);
  return true;
}

/** A log entry about a plan by the aggregator. */
export function entry(type: string, details: Readonly<Record<string, Json>>, outcome = 'ok'): EntryDraft {
  return { type, actor: 'aggregator', outcome, details };
}
