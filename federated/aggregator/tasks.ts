/**
 * What a site has to do now, from this process's view of the plans: the same answer after every reconnection and restart.
 */

import { type BodyInit, envelopeFrom } from '../protocol/envelope.ts';
import { encodeWeights, type Weights } from '../protocol/weights.ts';
import type { Board } from './board.ts';
import type { Desk } from './desk.ts';
import { phaseLeft } from './due.ts';
import { epochTasks, stillHolds, unmaskingTask } from './maskedTasks.ts';
import { loadTrainerState, type RoundRow } from './store/plans.ts';

export interface PendingTask {
  /** A stream sends each key once. */
  key: string;
  make(): BodyInit<'task'> | Promise<BodyInit<'task'>>;
}

/** Offers not answered, steps not done, ends not acknowledged, oldest plan first. */
export function pendingTasks(desk: Desk, site: string): PendingTask[] {
  const tasks: PendingTask[] = [];
  for (const board of desk.boards.all()) {
    const { plan } = board;
    const answer = board.answers.get(site);
    if (plan.ended) {
      if (answer?.accepted && !answer.acknowledged)
        tasks.push({ key: `${plan.id}/ended`, make: () => ended(desk, board) });
    } else if (plan.state === 'proposed') {
      // A plan under another roster is about to be ended.
      if (answer === undefined && plan.rosterHash === desk.party.rosterHash) tasks.push(offer(board));
    } else if (answer?.accepted) {
      tasks.push(...stepTasks(desk, board, site));
    }
  }
  return tasks;
}

function offer({ plan }: Board): PendingTask {
  const make = () => ({ task: { case: 'offer' as const, value: { proposal: envelopeFrom(plan.proposal) } } });
  return { key: `${plan.id}/offer`, make };
}

/** Set-up of an epoch, counts (also when late), then what the open round waits for. */
function stepTasks(desk: Desk, board: Board, site: string): PendingTask[] {
  const round = board.current;
  if (!round?.open || board.declined(0, site)) return [];
  const tasks = epochTasks(desk, board, site);
  if (board.course.firstRound === 0 && !board.masked(0) && !board.step('update', 0).has(site)) {
    const counts = board.rounds.get(0);
    if (counts !== undefined) tasks.push(roundTask(desk, board, counts));
    return tasks;
  }
  if (board.declined(round.number, site)) return tasks;
  const { number, attempt, phase } = round;
  const masked = board.masked(number);
  // A process that was started since has no masks; asked for them all the same, it would decline the round for good.
  if (masked && (phase === 'setup' || !round.members.includes(site) || !stillHolds(desk, board, site))) return tasks;
  if (phase === 'inputs' && !board.step('update', number, masked ? attempt : 0).has(site)) {
    tasks.push(roundTask(desk, board, round));
  }
  if (phase === 'agreement' || phase === 'reveal') tasks.push(...unmaskingTask(desk, board, round, site));
  return tasks;
}

function roundTask(desk: Desk, board: Board, round: RoundRow): PendingTask {
  // Late counts are due with the open round.
  const clock = board.current ?? round;
  const { number, attempt } = round;
  const key = `${board.plan.id}/${number}/${attempt}/${clock.number}`;
  return { key, make: () => roundTaskBody(desk, board, round, clock) };
}

async function roundTaskBody(desk: Desk, board: Board, round: RoundRow, clock: RoundRow): Promise<BodyInit<'task'>> {
  const { plan, course } = board;
  const { number, attempt, stateHash, epoch, slot, members } = round;
  const bits = course.ringBits(number);
  const sum = bits === 0 ? {} : { sum: { epoch, slot, members: [...members], bits } };
  const weights = desk.weights.get(stateHash) ?? (await loadWeights(desk, board, round));
  const value = {
    ...{ planId: plan.id, planHash: plan.planHash, round: number, of: course.plan.rounds, attempt, ...sum },
    weights: encodeWeights(weights.flat),
    intercept: weights.intercept,
    stateHash: new Uint8Array(Buffer.from(stateHash, 'hex')),
    deadlineMs: Math.ceil(phaseLeft(desk, board, clock)),
  };
  return { task: { case: 'round', value } };
}

async function loadWeights(desk: Desk, { plan, course }: Board, round: RoundRow): Promise<Weights> {
  const state = await loadTrainerState(desk.database.pool, plan.id, round.number);
  const weights = course.weights(round.number, state);
  desk.weights.put(round.stateHash, weights);
  return weights;
}

async function ended(desk: Desk, { plan }: Board): Promise<BodyInit<'task'>> {
  const { id: planId, planHash, state, code, reason } = plan;
  const model = await desk.database.prisma.model.findUnique({ where: { planId } });
  const value = {
    ...{ planId, planHash, state, code, reason },
    ...(model === null ? {} : { model: envelopeFrom(model.envelope) }),
  };
  return { task: { case: 'ended', value } };
}
