/**
 * What a site has to do now, read from the database: the same answer after every reconnection and restart.
 */

import { type BodyInit, envelopeFrom } from '../protocol/envelope.ts';
import { encodeWeights, type Weights } from '../protocol/weights.ts';
import { courseOf } from './course.ts';
import type { Desk } from './desk.ts';
import { roundKey } from './due.ts';
import type { PlanRow } from './store/database.ts';

export interface PendingTask {
  /** A stream sends each key once. */
  key: string;
  task: BodyInit<'task'>;
}

/** Offers not answered, rounds not answered, ends not acknowledged, oldest plan first. */
export async function pendingTasks(desk: Desk, site: string): Promise<PendingTask[]> {
  const open = await desk.database.plan.findMany({
    where: {
      OR: [
        { endedAt: null, rosterHash: desk.party.rosterHash },
        { endedAt: { not: null }, answers: { some: { site, accepted: true, acknowledgedAt: null } } },
      ],
    },
    omit: { proposal: true },
    include: { answers: { where: { site }, select: { accepted: true } } },
    orderBy: { createdAt: 'asc' },
  });
  const tasks: PendingTask[] = [];
  for (const plan of open) {
    const answer = plan.answers[0];
    if (plan.state === 'proposed') {
      if (answer === undefined) tasks.push(await offer(desk, plan.id));
    } else if (answer?.accepted === true) {
      const task = plan.endedAt === null ? await roundTask(desk, plan, site) : await ended(desk, plan);
      if (task !== null) tasks.push(task);
    }
  }
  return tasks;
}

async function offer(desk: Desk, planId: string): Promise<PendingTask> {
  const plan = await desk.database.plan.findUniqueOrThrow({ where: { id: planId }, select: { proposal: true } });
  const proposal = envelopeFrom(plan.proposal);
  return { key: `${planId}/offer`, task: { task: { case: 'offer', value: { proposal } } } };
}

/** Counts first, also when late; then the open round. */
async function roundTask(desk: Desk, plan: PlanRow, site: string): Promise<PendingTask | null> {
  const sent = await desk.database.message.findMany({
    where: { planId: plan.id, site, round: { in: [0, plan.round] } },
    select: { round: true, refused: true },
  });
  const counts = sent.find((message) => message.round === 0);
  if (counts?.refused === true) return null;
  const number = counts === undefined ? 0 : plan.round;
  if (sent.some((message) => message.round === number)) return null;
  const course = courseOf(plan);
  const rounds = await desk.database.round.findMany({
    where: { planId: plan.id, number: { in: [number, plan.round] } },
    select: { number: true, attempt: true, stateHash: true },
  });
  const round = rounds.find((each) => each.number === number);
  const current = rounds.find((each) => each.number === plan.round);
  if (round === undefined || current === undefined) return null;
  const weights = desk.weights.get(round.stateHash) ?? (await loadWeights(desk, plan, round));
  const clock = roundKey(plan.id, current.number, current.attempt);
  return {
    key: `${roundKey(plan.id, number, round.attempt)}/${current.number}`,
    task: {
      task: {
        case: 'round',
        value: {
          planId: plan.id,
          planHash: plan.planHash,
          round: number,
          of: course.plan.rounds,
          weights: encodeWeights(weights.flat),
          intercept: weights.intercept,
          stateHash: new Uint8Array(Buffer.from(round.stateHash, 'hex')),
          deadlineMs: Math.ceil(desk.deadlines.remaining(clock, course.plan.roundDeadlineMs)),
          attempt: round.attempt,
        },
      },
    },
  };
}

async function loadWeights(desk: Desk, plan: PlanRow, round: { number: number; stateHash: string }): Promise<Weights> {
  const { trainerState } = await desk.database.round.findUniqueOrThrow({
    where: { planId_number: { planId: plan.id, number: round.number } },
    select: { trainerState: true },
  });
  const weights = courseOf(plan).weights(round.number, trainerState);
  desk.weights.put(round.stateHash, weights);
  return weights;
}

async function ended(desk: Desk, plan: PlanRow): Promise<PendingTask> {
  const { id: planId, planHash, state, code, reason } = plan;
  const model = await desk.database.model.findUnique({ where: { planId } });
  const value = {
    ...{ planId, planHash, state, code, reason },
    ...(model === null ? {} : { model: envelopeFrom(model.envelope) }),
  };
  return { key: `${planId}/ended`, task: { task: { case: 'ended', value } } };
}
