/**
 * Opening an attempt at a round: plainly, under the masks of an epoch that is ready, or with a new epoch to set up first.
 */

import type { EntryDraft } from '../../src/audit/entry.ts';
import type { Board } from './board.ts';
import { commitStep, entry } from './commit.ts';
import type { AggregatorEvent, Desk } from './desk.ts';
import { membersFor, needsEpoch, newEpoch } from './epochs.ts';
import type { Transaction } from './store/database.ts';
import type { EpochRow, RoundPhase } from './store/plans.ts';

export interface Opening {
  readonly phase: RoundPhase;
  readonly epoch: number;
  readonly slot: number;
  readonly members: string[];
  /** To be stored with it. */
  readonly newEpoch?: EpochRow;
}

/** What an attempt at a round starts with, from what the board knows now. */
export function openingOf(desk: Desk, board: Board, round: number): Opening {
  if (!board.masked(round)) return { phase: 'inputs', epoch: 0, slot: 0, members: [] };
  const { epoch } = board;
  if (epoch !== undefined && !needsEpoch(desk, board, round)) return maskedOpening(desk, board, round, epoch);
  const made = newEpoch(desk, board);
  return { phase: 'setup', epoch: made.number, slot: 0, members: [], newEpoch: made };
}

function maskedOpening(desk: Desk, board: Board, round: number, epoch: EpochRow): Opening {
  const members = membersFor(desk, board, round);
  return { phase: 'inputs', epoch: epoch.number, slot: epoch.nextSlot, members };
}

/** Rows of the epoch an opening uses; the round's own row is the caller's. */
export async function storeOpening(tx: Transaction, planId: string, opening: Opening): Promise<void> {
  const { phase, epoch, slot, newEpoch } = opening;
  if (newEpoch !== undefined) {
    await tx.query(
      `INSERT INTO epochs (plan_id, number, phase, slots, next_slot, asked, advertisers, holders)
       VALUES ($1, $2, $3, $4, $5, $6, '{}', '{}')`,
      [planId, newEpoch.number, newEpoch.phase, newEpoch.slots, newEpoch.nextSlot, newEpoch.asked],
    );
  } else if (epoch > 0 && phase === 'inputs') {
    await tx.query({
      name: 'use-slot',
      text: 'UPDATE epochs SET next_slot = $3 WHERE plan_id = $1 AND number = $2',
      values: [planId, epoch, slot + 1],
    });
  }
}

/** The same on the board. */
export function noteOpening(board: Board, opening: Opening): void {
  if (opening.newEpoch !== undefined) board.epochs = [...board.epochs.slice(-1), { ...opening.newEpoch }];
  else if (opening.epoch > 0 && board.epoch !== undefined) board.epoch.nextSlot = opening.slot + 1;
}

/** Entry of the log once the sites can be asked for their inputs; its head is what they will agree on. */
export function openedEntries(
  board: Board,
  round: { number: number; attempt: number; stateHash: string },
  { phase, members }: Pick<Opening, 'phase' | 'members'>,
): EntryDraft[] {
  if (phase !== 'inputs') return [];
  const { number, attempt, stateHash } = round;
  const planId = board.plan.id;
  const sites = board.masked(number) ? members : board.acceptedSites();
  return [entry('round.opened', { planId, round: number, attempt, stateHash, members: sites })];
}

/** What to announce of an attempt that begins; a plain round's beginning is no news. */
export function openingEvents(board: Board, round: number, attempt: number, opening: Opening): AggregatorEvent[] {
  if (opening.epoch === 0) return [];
  const phase = opening.phase === 'setup' ? 'keys' : opening.phase;
  return [{ event: 'phase', plan: board.plan.id, round, attempt, phase }];
}

/** One more attempt at the open round: a plain one keeps what came, a masked one starts from nothing. */
export async function attemptAgain(desk: Desk, board: Board, token: number, contributions: number): Promise<boolean> {
  const round = board.current;
  if (round === undefined) return false;
  const { number } = round;
  const attempt = round.attempt + 1;
  const opening = openingOf(desk, board, number);
  const { phase, epoch, slot, members } = opening;
  desk.sums.forget(board.plan.id);
  return commitStep(desk, board, token, {
    rows: async (tx) => {
      await storeOpening(tx, board.plan.id, opening);
      await tx.query(
        `UPDATE rounds SET attempt = $3, phase = $4, epoch = $5, slot = $6, members = $7, survivors = '{}'
         WHERE plan_id = $1 AND number = $2`,
        [board.plan.id, number, attempt, phase, epoch, slot, members],
      );
    },
    entries: openedEntries(board, { number, attempt, stateHash: round.stateHash }, opening),
    board: () => {
      noteOpening(board, opening);
      Object.assign(round, { attempt, phase, epoch, slot, members, survivors: [] });
    },
    events: [
      { event: 'reopened', plan: board.plan.id, round: number, attempt, contributions },
      ...openingEvents(board, number, attempt, opening),
    ],
  });
}

/** Once more the deadline of unmasking: what was opened cannot be opened for another attempt. */
export async function extendDeadline(desk: Desk, board: Board, token: number): Promise<boolean> {
  const round = board.current;
  if (round === undefined) return false;
  const extensions = round.extensions + 1;
  return commitStep(desk, board, token, {
    rows: (tx) =>
      tx.query('UPDATE rounds SET extensions = $3 WHERE plan_id = $1 AND number = $2', [
        ...[board.plan.id, round.number, extensions],
      ]),
    board: () => Object.assign(round, { extensions }),
  });
}
