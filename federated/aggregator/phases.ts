/**
 * The steps inside an attempt at a masked round: keys -> shares -> inputs -> agreement -> reveal. What comes out of the
 * last is closed by rounds.ts like any other sum.
 */

import type { Board } from './board.ts';
import { commitPhase, commitStep } from './commit.ts';
import type { Desk } from './desk.ts';
import { membersFor } from './epochs.ts';
import { attemptAgain, noteOpening, type Opening, openedEntries, storeOpening } from './opening.ts';
import type { EpochRow, RoundPhase } from './store/plans.ts';

/** Fixes the list of keys: every site is sent the same. */
export async function closeKeys(desk: Desk, board: Board, token: number, advertisers: string[]): Promise<boolean> {
  const { epoch } = board;
  if (epoch === undefined) return false;
  return commitStep(desk, board, token, {
    rows: (tx) =>
      tx.query(`UPDATE epochs SET phase = 'shares', advertisers = $3 WHERE plan_id = $1 AND number = $2`, [
        ...[board.plan.id, epoch.number, advertisers],
      ]),
    board: () => Object.assign(epoch, { phase: 'shares', advertisers }),
    events: phaseEvents(board, 'shares'),
  });
}

/** The epoch is ready, and the inputs of the round that waited for it open in the same step. */
export async function closeShares(desk: Desk, board: Board, token: number, holders: string[]): Promise<boolean> {
  const { epoch, current: round } = board;
  if (epoch === undefined || round === undefined) return false;
  const ready: EpochRow = { ...epoch, phase: 'ready', holders };
  board.epochs[board.epochs.length - 1] = ready;
  const members = membersFor(desk, board, round.number);
  board.epochs[board.epochs.length - 1] = epoch;
  // Somebody restarted in the last moment.
  if (members.length < board.course.plan.quorum) return attemptAgain(desk, board, token, members.length);
  const opening: Opening = { phase: 'inputs', epoch: epoch.number, slot: epoch.nextSlot, members };
  return commitStep(desk, board, token, {
    rows: async (tx) => {
      await tx.query(`UPDATE epochs SET phase = 'ready', holders = $3 WHERE plan_id = $1 AND number = $2`, [
        ...[board.plan.id, epoch.number, holders],
      ]);
      await storeOpening(tx, board.plan.id, opening);
      await tx.query(
        `UPDATE rounds SET phase = 'inputs', epoch = $3, slot = $4, members = $5 WHERE plan_id = $1 AND number = $2`,
        [board.plan.id, round.number, opening.epoch, opening.slot, members],
      );
    },
    entries: openedEntries(board, round, opening),
    board: () => {
      Object.assign(epoch, { phase: 'ready', holders });
      noteOpening(board, opening);
      Object.assign(round, { phase: 'inputs', epoch: opening.epoch, slot: opening.slot, members });
    },
    events: phaseEvents(board, 'inputs'),
  });
}

/** Fixes who is in the sum. When that is everybody, what came with the inputs is agreement enough. */
export async function closeInputs(desk: Desk, board: Board, token: number): Promise<boolean> {
  const round = board.current;
  const survivors = desk.sums.of(board)?.closeInputs(board.course.plan.quorum);
  if (survivors === undefined || round === undefined) return false;
  const early = survivors.length === round.members.length && (await desk.earlyAgreements.enough(board, round)) !== null;
  return toPhase(desk, board, token, early ? 'reveal' : 'agreement', survivors);
}

export async function closeAgreement(desk: Desk, board: Board, token: number): Promise<boolean> {
  return toPhase(desk, board, token, 'reveal', board.current?.survivors ?? []);
}

async function toPhase(
  desk: Desk,
  board: Board,
  token: number,
  phase: RoundPhase,
  survivors: readonly string[],
): Promise<boolean> {
  const round = board.current;
  if (round === undefined) return false;
  const to = { round: round.number, phase, survivors };
  return commitPhase(desk, board, token, to, {
    board: () => Object.assign(round, { phase, survivors }),
    events: phaseEvents(board, phase),
  });
}

function phaseEvents(board: Board, phase: string) {
  const { id: plan, round } = board.plan;
  return [{ event: 'phase' as const, plan, round, attempt: board.current?.attempt ?? 0, phase }];
}
