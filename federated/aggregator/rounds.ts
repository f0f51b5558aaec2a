/**
 * The state machine: every step of a plan, taken inside one transaction that holds the plan's lock.
 *
 * proposed -> counting (round 0) -> training (rounds 1..E) -> completed; any of the first three -> aborted.
 * The next state depends on nothing but rows: a plan continued by another process after a crash gives the same model,
 * bit for bit, from the same messages.
 */

import { VeilriskError } from '../../src/errors.ts';
import { canonicalBytes, sha256Hex } from '../protocol/canonical.ts';
import { modelMessageId } from '../protocol/client.ts';
import { envelopeBytes } from '../protocol/envelope.ts';
import { stateHash } from '../protocol/weights.ts';
import { type Course, courseOf, finish, firstState, nextState, weightsOf } from './course.ts';
import { decideProposal, decideRound } from './decide.ts';
import type { AggregatorEvent, Desk } from './desk.ts';
import type { PlanRow, Round, Transaction } from './store/database.ts';
import { sumOfUpdates } from './sums.ts';

export const acceptanceKey = (planId: string) => `${planId}/acceptance`;
export const roundKey = (planId: string, round: number, attempt: number) => `${planId}/${round}/${attempt}`;

/** Takes every step that is due. The caller holds the plan's lock; announce the events after the commit. */
export async function advance(tx: Transaction, desk: Desk, plan: PlanRow): Promise<AggregatorEvent[]> {
  if (plan.endedAt !== null) return [];
  if (plan.rosterHash !== desk.party.rosterHash) {
    return abort(tx, desk, plan, 'ROSTER_INVALID', 'The roster changed while the plan ran.');
  }
  return plan.state === 'proposed' ? advanceProposal(tx, desk, plan) : advanceRound(tx, desk, plan);
}

async function advanceProposal(tx: Transaction, desk: Desk, plan: PlanRow): Promise<AggregatorEvent[]> {
  const answers = await tx.answer.findMany({ where: { planId: plan.id }, select: { site: true, accepted: true } });
  const course = courseOf(plan);
  const accepted = answers.filter((answer) => answer.accepted).map((answer) => answer.site);
  const decision = decideProposal({
    sites: course.plan.sites,
    accepted: accepted.length,
    refused: answers.length - accepted.length,
    quorum: course.plan.quorum,
    deadlineOver: desk.deadlines.remaining(acceptanceKey(plan.id), plan.acceptanceDeadlineMs) === 0,
  });
  if (decision === 'wait') return [];
  if (decision === 'abort') {
    return abort(tx, desk, plan, 'QUORUM_LOST', 'Fewer sites than the quorum accepted the plan.');
  }
  await openRound(tx, desk, course, plan, 0, firstState(course));
  await tx.plan.update({ where: { id: plan.id }, data: { state: 'counting', round: 0 } });
  return [{ event: 'plan', plan: plan.id, state: 'counting', sites: accepted.sort() }];
}

async function advanceRound(tx: Transaction, desk: Desk, plan: PlanRow): Promise<AggregatorEvent[]> {
  const course = courseOf(plan);
  const round = await tx.round.findUniqueOrThrow({
    where: { planId_number: { planId: plan.id, number: plan.round } },
    select: { number: true, attempt: true },
  });
  const answers = await tx.answer.findMany({ where: { planId: plan.id, accepted: true }, select: { site: true } });
  const messages = await tx.message.findMany({
    where: { planId: plan.id, round: { in: [0, round.number] } },
    select: { site: true, round: true, refused: true },
  });
  const contributed = new Set(messages.filter((m) => m.round === round.number && !m.refused).map((m) => m.site));
  // A site that gave no counts cannot take part later: its gradients could not be weighed.
  const refused = new Set(messages.filter((m) => m.refused).map((m) => m.site));
  const previous =
    round.number === 0
      ? null
      : await tx.round.findUniqueOrThrow({
          where: { planId_number: { planId: plan.id, number: round.number - 1 } },
          select: { contributors: true },
        });
  const awaited = answers.filter(({ site }) => {
    if (contributed.has(site) || refused.has(site)) return false;
    // Who missed the last round and is not even connected is welcome, but nobody waits for it.
    return previous === null || previous.contributors.includes(site) || desk.listeners.connected(site);
  });
  const key = roundKey(plan.id, round.number, round.attempt);
  const decision = decideRound({
    accepted: answers.length,
    contributed: contributed.size,
    refused: refused.size,
    awaited: awaited.length,
    quorum: course.plan.quorum,
    deadlineOver: desk.deadlines.remaining(key, course.plan.roundDeadlineMs) === 0,
    reopenings: round.attempt,
  });
  switch (decision) {
    case 'wait':
      return [];
    case 'abort':
      return abort(tx, desk, plan, 'QUORUM_LOST', `Round ${round.number} ended with fewer updates than the quorum.`);
    case 'reopen': {
      const attempt = round.attempt + 1;
      await tx.round.update({ where: { planId_number: { planId: plan.id, number: round.number } }, data: { attempt } });
      return [{ event: 'reopened', plan: plan.id, round: round.number, attempt, contributions: contributed.size }];
    }
    case 'close': {
      const contributors = desk.party.roster.sites.map((site) => site.id).filter((site) => contributed.has(site));
      return closeRound(tx, desk, course, plan, round, contributors);
    }
  }
}

type RoundHead = Pick<Round, 'number' | 'attempt'>;

async function closeRound(
  tx: Transaction,
  desk: Desk,
  course: Course,
  plan: PlanRow,
  round: RoundHead,
  contributors: string[],
): Promise<AggregatorEvent[]> {
  const started = roundKey(plan.id, round.number, round.attempt);
  let state: string;
  let model: unknown;
  try {
    const { trainerState } = await tx.round.findUniqueOrThrow({
      where: { planId_number: { planId: plan.id, number: round.number } },
      select: { trainerState: true },
    });
    const counts = await sumOfUpdates(tx, course, plan.id, 0, contributors);
    const gradient = round.number === 0 ? null : await sumOfUpdates(tx, course, plan.id, round.number, contributors);
    state = nextState(trainerState, counts, gradient, contributors.length);
    model = round.number === course.plan.rounds ? finish(course, state) : null;
  } catch (error) {
    if (!(error instanceof VeilriskError)) throw error;
    desk.log.error({ plan: plan.id, round: round.number, code: error.code }, error.message);
    return abort(tx, desk, plan, error.code, `Round ${round.number} could not be absorbed: ${error.message}`);
  }
  await tx.round.update({
    where: { planId_number: { planId: plan.id, number: round.number } },
    data: { state: 'closed', contributors, closedAt: new Date() },
  });
  const events: AggregatorEvent[] = [
    {
      event: 'round',
      plan: plan.id,
      round: round.number,
      of: course.plan.rounds,
      contributions: contributors.length,
      ms: Math.round(desk.deadlines.elapsed(started)),
    },
  ];
  if (model === null) {
    await openRound(tx, desk, course, plan, round.number + 1, state);
    await tx.plan.update({ where: { id: plan.id }, data: { state: 'training', round: round.number + 1 } });
    return events;
  }
  return [...events, ...(await publish(tx, desk, plan, model))];
}

async function publish(tx: Transaction, desk: Desk, plan: PlanRow, model: unknown): Promise<AggregatorEvent[]> {
  const modelJson = canonicalBytes(model);
  const modelHash = sha256Hex(modelJson);
  const { planHash } = plan;
  const envelope = desk.party.seal('model', modelMessageId(planHash), {
    planId: plan.id,
    planHash,
    modelJson,
    modelHash,
  });
  await tx.model.create({ data: { planId: plan.id, modelJson, modelHash, envelope: envelopeBytes(envelope) } });
  await tx.plan.update({ where: { id: plan.id }, data: { state: 'completed', endedAt: new Date() } });
  return [
    { event: 'model', plan: plan.id, modelHash },
    { event: 'plan', plan: plan.id, state: 'completed' },
  ];
}

async function openRound(
  tx: Transaction,
  desk: Desk,
  course: Course,
  plan: PlanRow,
  number: number,
  trainerState: string,
) {
  const weights = weightsOf(course, number, trainerState);
  const hash = Buffer.from(stateHash(weights)).toString('hex');
  desk.weights.put(hash, weights);
  await tx.round.create({ data: { planId: plan.id, number, state: 'open', trainerState, stateHash: hash } });
  // Starts the round's clock; if this transaction fails, the round's deadline has merely begun a little early.
  desk.deadlines.remaining(roundKey(plan.id, number, 0), 0);
}

async function abort(
  tx: Transaction,
  desk: Desk,
  plan: PlanRow,
  code: string,
  reason: string,
): Promise<AggregatorEvent[]> {
  await tx.round.updateMany({
    where: { planId: plan.id, state: 'open' },
    data: { state: 'closed', closedAt: new Date() },
  });
  await tx.plan.update({ where: { id: plan.id }, data: { state: 'aborted', code, reason, endedAt: new Date() } });
  desk.log.warn({ plan: plan.id, code }, reason);
  return [{ event: 'plan', plan: plan.id, state: 'aborted', code, reason }];
}
