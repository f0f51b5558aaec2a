/**
 * Taking one step of a plan: fence, rows, log entries and notice in one transaction; then this process's view, the
 * sites' streams and the events follow.
 */

import type { EntryDraft, Json } from '../../src/audit/entry.ts';
import type { Board } from './board.ts';
import type { AggregatorEvent, Desk } from './desk.ts';
import { type Fence, type PlanStep, type Transaction, takePhase, takeStep, transaction } from './store/database.ts';
import { noticeOf, notify } from './store/notifications.ts';

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
  const fence = { planId: plan.id, token, revision: plan.revision };
  const taken = await transaction(desk.database.pool, async (tx) => {
    if (!(await takeStep(tx, fence, step.plan ?? {}))) return false;
    await step.rows?.(tx);
    if (entries.length > 0) await desk.journal?.append(tx, entries);
    await notify(tx, desk.process, plan.id);
    return true;
  });
  if (taken && entries.length > 0) desk.journal?.committed();
  return conclude(desk, board, fence, step, taken);
}

/** Moves the open round of a masked sum to its next phase. @returns false as `commitStep` does. */
export async function commitPhase(
  desk: Desk,
  board: Board,
  token: number,
  to: { round: number; phase: string; survivors: readonly string[] },
  step: Pick<StepTaken, 'board' | 'events'>,
): Promise<boolean> {
  const { plan } = board;
  const fence = { planId: plan.id, token, revision: plan.revision };
  const notice = noticeOf(desk.process, plan.id);
  return conclude(desk, board, fence, step, await takePhase(desk.database.pool, fence, { ...to, notice }));
}

async function conclude(desk: Desk, board: Board, fence: Fence, step: StepTaken, taken: boolean): Promise<boolean> {
  const { plan } = board;
  if (!taken) {
    desk.leases.lost(plan.id);
    desk.sums.forget(plan.id);
    await desk.boards.refresh(plan.id);
    return false;
  }
  // A reading may have brought the step before its commit was known of here. Counted twice, it would put this view ahead of
  // the database, where every later step is refused and no reading is news.
  if (plan.revision === fence.revision) {
    Object.assign(plan, step.plan);
    plan.revision++;
    step.board?.();
    board.prune();
  }
  desk.announce(step.events ?? []);
  desk.boards.changed(plan.id);
  return true;
}

/** A log entry about a plan by the aggregator. */
export function entry(type: string, details: Readonly<Record<string, Json>>, outcome = 'ok'): EntryDraft {
  return { type, actor: 'aggregator', outcome, details };
}
