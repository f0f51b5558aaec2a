/**
 * The bank's side of training: answers plans, and makes each release in the order that keeps the budget whole.
 *
 * The exact sums are computed first, so a node that stops, or loses its training thread, in the middle of a pass over
 * the records has spent nothing. Then the release is reserved, with its audit entry, in one transaction before any noise
 * is drawn, and its bytes are committed in a second one before they leave. A reservation found without bytes belongs to
 * a process that died: it stays spent, is marked lost, and the release is paid for again or refused. A committed release
 * is repeated byte for byte.
 *
 * GUARANTEES.md: "Scorecard training", "Federated evaluation", "Budget". Limit: two processes of one node on the same round would each mark the
 * other's reservation lost; the loser's commit then fails and nothing of it leaves, but its budget is spent.
 */
import { decodeHistogram, encodeHistogram } from '../../federated/protocol/histogram.ts';
import { LearningError, PrivacyError } from '../errors.ts';
import { courseFor } from '../learning/course.ts';
import { parseFederatedPlan, releaseIn, statementOf } from '../learning/federatedPlan.ts';
import { parseEvaluation } from '../learning/modelEvaluation.ts';
import type { PlanStatement, Release } from '../learning/statement.ts';
import type { RosterFloors } from '../participant/policy.ts';
import type { LogWitness, ParticipantPort, ReleaseTask } from '../participant/port.ts';
import { requireBudget } from '../privacy/budget.ts';
import { type ReleaseRow, reservationEntry } from '../store/ledger.ts';
import type { NodeContext } from './context.ts';
import { releaseFacts } from './ledger.ts';
import { adoptModel } from './models.ts';
import { noteOpenedSum, requireUnopened } from './openedSums.ts';
import { answerPlan } from './planAnswers.ts';
import { prepareRelease } from './releaseValues.ts';
import { openTrainingData, type TrainingData } from './trainingData.ts';
import { openTrainingRefusals, type TrainingRefusals } from './trainingRefusals.ts';

/** What `--progress-json` prints. */
export type NodeEvent =
  | { event: 'plan'; plan: string; accepted: boolean; code?: string }
  | { event: 'release'; plan: string; round: number; ms: number }
  | { event: 'model'; plan: string; hash: string };

const ACTOR = 'node';

export function openParticipantPort(
  context: NodeContext,
  roster: RosterFloors,
  emit: (event: NodeEvent) => void,
  logs?: LogWitness,
): ParticipantPort {
  const data = openTrainingData(context);
  const { store } = context;
  const refusals = openTrainingRefusals(context);
  return {
    ...(logs !== undefined && { logs }),
    async answerPlan(plan, planHash, contract) {
      const answer = await answerPlan(context, roster, refusals, plan, planHash, contract);
      if (answer.accepted !== null) {
        const code = answer.accepted ? {} : { code: answer.code };
        emit({ event: 'plan', plan: plan.id, accepted: answer.accepted, ...code });
      }
      return answer;
    },
    async release(task) {
      const started = performance.now();
      const released = await release(context, data, refusals, task);
      emit({ event: 'release', plan: task.plan.id, round: task.round, ms: Math.round(performance.now() - started) });
      return released;
    },
    revealing: (sum) => noteOpenedSum(context, refusals, sum),
    async adopt(model, evidence) {
      const plan = await store.plans.find(evidence.planId);
      // The end of a plan comes again after a lost reply; by then a newer model may be champion.
      if (plan?.state === 'completed' && plan.hash === evidence.planHash) return;
      const dataset = plan?.datasetId == null ? null : await store.datasets.byId(plan.datasetId);
      if (plan?.state !== 'accepted' || plan.hash !== evidence.planHash || dataset === null) {
        throw notAccepted(evidence.planId);
      }
      const accepted = parseFederatedPlan(plan.plan);
      const { mode, sites, rounds, epsilon, delta } = accepted;
      const { planHash, modelHash } = evidence;
      parseEvaluation(evidence.evaluation, { plan: accepted, planHash, modelHash });
      await adoptModel(context, {
        ...{ contract: dataset.contract, model, expectedHash: modelHash, planId: evidence.planId },
        expectedTraining: { planHash, mode, sites, rounds, epsilon, delta },
        evidence: new TextEncoder().encode(JSON.stringify(evidence)),
        actor: 'aggregator',
      });
      emit({ event: 'model', plan: evidence.planId, hash: evidence.modelHash });
    },
    async planEnded(planId, state, reason) {
      await store.transaction(async (tx) => {
        if (!(await tx.plans.end(planId, state, reason))) return;
        await tx.append({ type: 'plan.ended', actor: 'aggregator', outcome: state, details: { planId, reason } });
      });
    },
  };
}

async function release(
  context: NodeContext,
  data: TrainingData,
  refusals: TrainingRefusals,
  task: ReleaseTask,
): Promise<{ histogram: Float64Array; releaseId: string }> {
  const { plan, planHash, contract, round, model } = task;
  const { store } = context;
  const accepted = await store.plans.find(plan.id);
  if (accepted?.state !== 'accepted' || accepted.hash !== planHash || accepted.datasetId === null) {
    throw notAccepted(plan.id);
  }
  await requireUnopened(context, refusals, task);
  const { datasetId } = accepted;
  const earlier = await store.ledger.latest(datasetId, plan.id, round);
  if (earlier?.state === 'committed' && earlier.payload !== null) {
    await requireSameState(earlier, task, refusals);
    const cells = courseFor(plan, contract).dimension(round);
    return { histogram: decodeHistogram(earlier.payload, cells), releaseId: earlier.id };
  }
  const statement = statementOf(plan);
  const priced = releaseIn(plan, statement, round);
  // Each round is charged for its own sensitivity and noise: counts in the place of a gradient would cost too little.
  if (plan.family === 'scorecard' && (round === 0) !== (model === null)) throw wrongRound(round);
  if (earlier?.state === 'refused') await requireRoom(context, datasetId, priced);
  // Whatever can fail without noise comes before the reservation: it must not cost anything.
  const draw = await prepareRelease(context, data, datasetId, task);
  const reserved = await reserve(context, datasetId, earlier, task, statement);
  // From here on the loss is spent, whatever happens.
  const noisy = await draw(context.random);
  await store.transaction(async (tx) => {
    const { payloadSha256 } = await tx.ledger.commit(reserved.id, encodeHistogram(noisy));
    await tx.append({
      type: 'privacy.commit',
      actor: ACTOR,
      outcome: 'committed',
      details: { planId: plan.id, round, attempt: reserved.attempt, releaseId: reserved.id, payloadSha256 },
    });
  });
  return { histogram: noisy, releaseId: reserved.id };
}

/** Pays for a release. @throws PrivacyError BUDGET_EXHAUSTED after the refusal was recorded. */
async function reserve(
  { store }: NodeContext,
  datasetId: number,
  earlier: ReleaseRow | null,
  { plan, planHash, round, stateHash }: ReleaseTask,
  statement: PlanStatement,
): Promise<ReleaseRow> {
  const { name, muSquared } = releaseIn(plan, statement, round);
  const outcome = await store.transaction(async (tx) => {
    // The budget before the log: every reservation takes the two locks in this order.
    await tx.ledger.lockBudget(datasetId);
    if (earlier?.state === 'reserved') {
      await tx.ledger.markLost(earlier.id);
      await tx.append({
        type: 'privacy.lost',
        actor: ACTOR,
        outcome: 'lost',
        details: { planId: plan.id, round, attempt: earlier.attempt, muSquared: earlier.muSquared },
      });
    }
    const result = await tx.ledger.reserve({
      ...{ datasetId, planId: plan.id, round, muSquared },
      statement: { planHash, stateHash, ...releaseFacts(plan, statement, round) },
    });
    await tx.append(
      result.reserved
        ? reservationEntry(result.release, ACTOR)
        : {
            type: 'privacy.refuse',
            actor: ACTOR,
            outcome: 'refused',
            reasonCodes: ['BUDGET_EXHAUSTED'],
            details: {
              planId: plan.id,
              round,
              muSquared,
              spent: result.totals.spent,
              budget: result.totals.budget.muSquared,
            },
          },
    );
    return result;
  });
  if (outcome.reserved) return outcome.release;
  requireBudget(outcome.totals.budget, outcome.totals.spent, muSquared, name);
  // The database compares exact decimals and may refuse what the rounded sum would still allow.
  throw new PrivacyError('BUDGET_EXHAUSTED', 'the budget of the data set is spent', { where: name });
}

/** A release made at one model must never be passed off as one made at another. */
async function requireSameState(
  earlier: ReleaseRow,
  { plan, stateHash, round }: ReleaseTask,
  refusals: TrainingRefusals,
): Promise<void> {
  // Safe: `reserve` above writes every statement; one without the member is refused.
  const { stateHash: paidFor } = earlier.statement as { stateHash?: string };
  if (paidFor === stateHash) return;
  const details = { round, stateHash };
  await refusals.record({ type: 'privacy.refuse', code: 'RELEASE_REPLAYED', planId: plan.id, details });
  throw new PrivacyError('RELEASE_REPLAYED', 'this round was answered before, at another model', {
    where: `round ${round}`,
    fix: 'The aggregator must ask for the same state again; a new state needs a new plan.',
  });
}

/** Repeats a refusal without recording it again, as long as the budget has not changed. */
async function requireRoom({ store }: NodeContext, datasetId: number, { name, muSquared }: Release): Promise<void> {
  const totals = await store.ledger.totals(datasetId);
  if (totals !== null) requireBudget(totals.budget, totals.spent, muSquared, name);
}

function wrongRound(round: number): LearningError {
  return new LearningError('TRAINING_INPUT', 'Round 0 asks for counts, a later one of the plan at its model.', {
    where: `round ${round}`,
  });
}

function notAccepted(planId: string): LearningError {
  return new LearningError('TRAINING_INPUT', 'The node has not accepted this plan, or it has ended.', {
    where: planId,
  });
}
