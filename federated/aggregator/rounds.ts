/**
 * The state machine: every step of a plan, taken inside one transaction that holds the plan's lock.
 *
 * proposed -> counting (round 0) -> training (rounds 1..E) -> [evaluating (round E + 1)] -> completed; the first three
 * may end in aborted, evaluating in completed without figures: a model that was paid for is published.
 * The next state depends on nothing but rows: a plan continued by another process after a crash gives the same model,
 * bit for bit, from the same messages.
 */

import { VeilriskError } from '../../src/errors.ts';
import {
  type Evaluated,
  evaluateModel,
  type ModelEvaluation,
  missingEvaluation,
} from '../../src/learning/modelEvaluation.ts';
import { modelHash as hashOf, type Scorecard } from '../../src/learning/scorecard.ts';
import { canonicalBytes, sha256Hex } from '../protocol/canonical.ts';
import { modelMessageId } from '../protocol/client.ts';
import { envelopeBytes } from '../protocol/envelope.ts';
import { stateHash } from '../protocol/weights.ts';
import { type Course, courseOf } from './course.ts';
import type { AggregatorEvent, Desk } from './desk.ts';
import { roundKey, stepDue } from './due.ts';
import { type PlanRow, type Transaction, withPlan } from './store/database.ts';
import { sumOfUpdates } from './sums.ts';

/** Takes the step that is due, if any, from anywhere: looks without a lock first, so that waiting costs no write. */
export async function advancePlan(desk: Desk, planId: string): Promise<void> {
  const seen = await desk.database.plan.findUnique({ where: { id: planId }, omit: { proposal: true } });
  if (seen === null || (await stepDue(desk.database, desk, seen)).kind === 'wait') return;
  desk.announce(await withPlan(desk.database, planId, (tx, plan) => advance(tx, desk, plan)));
}

/** Takes the step that is due. The caller holds the plan's lock; announce the events after the commit. */
export async function advance(tx: Transaction, desk: Desk, plan: PlanRow): Promise<AggregatorEvent[]> {
  const step = await stepDue(tx, desk, plan);
  switch (step.kind) {
    case 'wait':
      return [];
    case 'abort':
      return abort(tx, desk, plan, step.code, step.reason);
    case 'start': {
      const course = courseOf(plan);
      await openRound(tx, desk, course, plan, 0, course.firstState());
      await tx.plan.update({ where: { id: plan.id }, data: { state: 'counting', round: 0 } });
      return [{ event: 'plan', plan: plan.id, state: 'counting', sites: step.sites }];
    }
    case 'reopen': {
      const { number, contributions } = step;
      const attempt = step.attempt + 1;
      await tx.round.update({ where: { planId_number: { planId: plan.id, number } }, data: { attempt } });
      return [{ event: 'reopened', plan: plan.id, round: number, attempt, contributions }];
    }
    case 'skipEvaluation': {
      desk.log.warn({ plan: plan.id, code: step.code }, step.reason);
      const { model, subject } = await trained(tx, courseOf(plan), plan);
      await tx.round.updateMany({
        where: { planId: plan.id, state: 'open' },
        data: { state: 'closed', closedAt: new Date() },
      });
      return publish(tx, desk, plan, model, missingEvaluation(subject, step.code, step.reason));
    }
    case 'close': {
      const course = courseOf(plan);
      if (step.number === course.evaluation) return closeEvaluation(tx, desk, course, plan, step);
      return closeRound(tx, desk, course, plan, step, step.contributors);
    }
  }
}

async function closeRound(
  tx: Transaction,
  desk: Desk,
  course: Course,
  plan: PlanRow,
  round: { number: number; attempt: number },
  contributors: string[],
): Promise<AggregatorEvent[]> {
  let state: string;
  let model: Scorecard | null;
  try {
    const { trainerState } = await tx.round.findUniqueOrThrow({
      where: { planId_number: { planId: plan.id, number: round.number } },
      select: { trainerState: true },
    });
    const sum = await sumOfUpdates(tx, course, plan.id, round.number, contributors);
    const counts = course.needsCounts(round.number) ? await sumOfUpdates(tx, course, plan.id, 0, contributors) : null;
    state = course.nextState(trainerState, round.number, sum, counts, contributors.length);
    // Also before an evaluation: a state that gives no model is found here, where it ends the plan.
    model = round.number === course.plan.rounds ? modelOf(course, state) : null;
  } catch (error) {
    if (!(error instanceof VeilriskError)) throw error;
    desk.log.error({ plan: plan.id, round: round.number, code: error.code }, error.message);
    return abort(tx, desk, plan, error.code, `Round ${round.number} could not be absorbed: ${error.message}`);
  }
  const closed = await markClosed(tx, desk, course, plan, { ...round, contributors });
  if (model !== null && course.evaluation === null) {
    return [closed, ...(await publish(tx, desk, plan, model, null))];
  }
  const next = { state: model === null ? 'training' : 'evaluating', round: round.number + 1 };
  await openRound(tx, desk, course, plan, next.round, state);
  await tx.plan.update({ where: { id: plan.id }, data: next });
  return [closed];
}

/** The evaluation sums up what its sites sent; one that cannot be estimated leaves the model without figures. */
async function closeEvaluation(
  tx: Transaction,
  desk: Desk,
  course: Course,
  plan: PlanRow,
  round: ClosedRound,
): Promise<AggregatorEvent[]> {
  const { model, subject } = await trained(tx, course, plan);
  let evaluation: ModelEvaluation;
  try {
    const sum = await sumOfUpdates(tx, course, plan.id, round.number, round.contributors);
    evaluation = evaluateModel(subject, sum, round.contributors);
  } catch (error) {
    if (!(error instanceof VeilriskError)) throw error;
    desk.log.error({ plan: plan.id, round: round.number, code: error.code }, error.message);
    evaluation = missingEvaluation(subject, error.code, `The evaluation could not be estimated: ${error.message}`);
  }
  const closed = await markClosed(tx, desk, course, plan, round);
  return [closed, ...(await publish(tx, desk, plan, model, evaluation))];
}

/** The finished model, from the state its evaluation round was opened with. */
async function trained(
  tx: Transaction,
  course: Course,
  plan: PlanRow,
): Promise<{ model: Scorecard; subject: Evaluated }> {
  const { trainerState } = await tx.round.findUniqueOrThrow({
    where: { planId_number: { planId: plan.id, number: course.plan.rounds + 1 } },
    select: { trainerState: true },
  });
  const model = modelOf(course, trainerState);
  const { planHash } = course;
  return {
    model,
    subject: { plan: course.plan, planHash, modelHash: hashOf(model), intercept: model.intercept },
  };
}

// Safe: the courses there are end in a scorecard.
const modelOf = (course: Course, state: string) => course.finish(state).document as Scorecard;

interface ClosedRound {
  number: number;
  attempt: number;
  contributors: string[];
}

async function markClosed(
  tx: Transaction,
  desk: Desk,
  course: Course,
  plan: PlanRow,
  { number, attempt, contributors }: ClosedRound,
): Promise<AggregatorEvent> {
  await tx.round.update({
    where: { planId_number: { planId: plan.id, number } },
    data: { state: 'closed', contributors, closedAt: new Date() },
  });
  const ms = Math.round(desk.deadlines.elapsed(roundKey(plan.id, number, attempt)));
  const of = course.plan.rounds;
  return { event: 'round', plan: plan.id, round: number, of, contributions: contributors.length, ms };
}

async function publish(
  tx: Transaction,
  desk: Desk,
  plan: PlanRow,
  model: Scorecard,
  evaluation: ModelEvaluation | null,
): Promise<AggregatorEvent[]> {
  const modelJson = canonicalBytes(model);
  const modelHash = sha256Hex(modelJson);
  const { planHash } = plan;
  const envelope = desk.party.seal('model', modelMessageId(planHash), {
    planId: plan.id,
    planHash,
    modelJson,
    modelHash,
    ...(evaluation === null ? {} : { evaluationJson: canonicalBytes(evaluation) }),
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
  const weights = course.weights(number, trainerState);
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
