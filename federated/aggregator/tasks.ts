/**
 * What a site has to do now, read from the database: the same answer after every reconnection and restart.
 */

import { type BodyInit, envelopeFrom } from '../protocol/envelope.ts';
import { encodeWeights, stateHash } from '../protocol/weights.ts';
import { courseOf, weightsOf } from './course.ts';
import type { Desk } from './desk.ts';
import { roundKey } from './rounds.ts';
import type { Plan } from './store/database.ts';

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
    include: { answers: { where: { site } } },
    orderBy: { createdAt: 'asc' },
  });
  const tasks: PendingTask[] = [];
  for (const plan of open) {
    const answer = plan.answers[0];
    if (plan.state === 'proposed') {
      if (answer === undefined) tasks.push(offer(plan));
    } else if (answer?.accepted === true) {
      const task = plan.endedAt === null ? await roundTask(desk, plan, site) : await ended(desk, plan);
      if (task !== null) tasks.push(task);
    }
  }
  return tasks;
}

function offer(plan: Plan): PendingTask {
  const proposal = envelopeFrom(plan.proposal);
  return { key: `${plan.id}/offer`, task: { task: { case: 'offer', value: { proposal } } } };
}

/** Counts first, also when late; then the open round. */
async function roundTask(desk: Desk, plan: Plan, site: string): Promise<PendingTask | null> {
  const sent = await desk.database.message.findMany({
    where: { planId: plan.id, site, round: { in: [0, plan.round] } },
    select: { round: true, refused: true },
  });
  const counts = sent.find((message) => message.round === 0);
  if (counts?.refused === true) return null;
  const number = counts === undefined ? 0 : plan.round;
  if (sent.some((message) => message.round === number)) return null;
  const course = courseOf(plan);
  const round = await desk.database.round.findUnique({ where: { planId_number: { planId: plan.id, number } } });
  const current =
    number === plan.round
      ? round
      : await desk.database.round.findUnique({ where: { planId_number: { planId: plan.id, number: plan.round } } });
  if (round === null || current === null) return null;
  const weights = weightsOf(course, number, round.trainerState);
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
          stateHash: stateHash(weights),
          deadlineMs: Math.ceil(desk.deadlines.remaining(clock, course.plan.roundDeadlineMs)),
          attempt: round.attempt,
        },
      },
    },
  };
}

async function ended(desk: Desk, plan: Plan): Promise<PendingTask> {
  const { id: planId, planHash, state, code, reason } = plan;
  const model = await desk.database.model.findUnique({ where: { planId } });
  const value = {
    ...{ planId, planHash, state, code, reason },
    ...(model === null ? {} : { model: envelopeFrom(model.envelope) }),
  };
  return { key: `${planId}/ended`, task: { task: { case: 'ended', value } } };
}
