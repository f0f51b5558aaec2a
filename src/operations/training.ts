/**
 * The bank's side of training: answers plans, and makes each release in the order that keeps the budget whole.
 *
 * The exact sums are computed first, so a node that stops, or loses its training thread, in the middle of a pass over
 * the records has spent nothing. Then the release is reserved, with its audit entry, in one transaction before any noise
 * is drawn, and its bytes are committed in a second one before they leave. A reservation found without bytes belongs to
 * a process that died: it stays spent, is marked lost, and the release is paid for again or refused. A committed release
 * is repeated byte for byte.
 *
 * GUARANTEES.md: "Scorecard training", "Budget". Limit: two processes of one node on the same round would each mark the
 * other's reservation lost; the loser's commit then fails and nothing of it leaves, but its budget is spent.
 */
import { decodeHistogram, encodeHistogram } from '../../federated/protocol/histogram.ts';
import { type Contract, contractHash, layoutOf } from '../contract/contract.ts';
import { LearningError, PrivacyError } from '../errors.ts';
import { parsePlan, residualGrid, type TrainingPlan } from '../learning/plan.ts';
import { addNoise } from '../learning/site.ts';
import { type PrivacyStatement, privacyStatement, type Release } from '../learning/statement.ts';
import { checkPlan, type RosterFloors } from '../participant/policy.ts';
import type { ParticipantPort, PlanVerdict, ReleaseTask } from '../participant/port.ts';
import { requireBudget } from '../privacy/budget.ts';
import { rationalText } from '../privacy/rational.ts';
import { type ReleaseRow, reservationEntry } from '../store/ledger.ts';
import type { NodeContext } from './context.ts';
import { adoptModel } from './models.ts';
import { openTrainingData, type TrainingData } from './trainingData.ts';

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
): ParticipantPort {
  const data = openTrainingData(context);
  const { store } = context;
  return {
    async answerPlan(plan, planHash, contract) {
      const verdict = await answer(context, roster, plan, planHash, contract);
      const code = verdict.accepted ? {} : { code: verdict.code };
      emit({ event: 'plan', plan: plan.id, accepted: verdict.accepted, ...code });
      return verdict;
    },
    async release(task) {
      const started = performance.now();
      const released = await release(context, data, task);
      emit({ event: 'release', plan: task.plan.id, round: task.round, ms: Math.round(performance.now() - started) });
      return released;
    },
    async adopt(model, evidence) {
      const plan = await store.plans.find(evidence.planId);
      // The end of a plan comes again after a lost reply; by then a newer model may be champion.
      if (plan?.state === 'completed' && plan.hash === evidence.planHash) return;
      const dataset = plan?.datasetId == null ? null : await store.datasets.byId(plan.datasetId);
      if (plan?.state !== 'accepted' || plan.hash !== evidence.planHash || dataset === null) {
        throw notAccepted(evidence.planId);
      }
      const { mode, sites, rounds, epsilon, delta } = parsePlan(plan.plan);
      await adoptModel(context, {
        ...{ contract: dataset.contract, model, expectedHash: evidence.modelHash, planId: evidence.planId },
        expectedTraining: { planHash: evidence.planHash, mode, sites, rounds, epsilon, delta },
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

/** Decides on a plan once; asked again, the same answer. The decision and its audit entry commit together. */
async function answer(
  context: NodeContext,
  roster: RosterFloors,
  plan: TrainingPlan,
  planHash: string,
  contract: Contract,
): Promise<PlanVerdict> {
  const { store, participation } = context;
  const known = await store.plans.find(plan.id);
  if (known !== null) {
    if (known.hash !== planHash) return refusal('PLAN_STATE', 'Another plan of this id was answered before.');
    return known.state === 'refused' ? readRefusal(known.reason ?? '') : { accepted: true };
  }
  const dataset = await store.datasets.forContract(contractHash(contract));
  const verdict = await decide();
  await store.transaction(async (tx) => {
    await tx.plans.insert({
      ...{ id: plan.id, hash: planHash, plan, datasetId: dataset?.id ?? null },
      ...(verdict.accepted
        ? { state: 'accepted' }
        : { state: 'refused', reason: `${verdict.code}: ${verdict.reason}` }),
    });
    await tx.append({
      type: 'plan.answered',
      actor: 'operator',
      outcome: verdict.accepted ? 'accepted' : 'refused',
      reasonCodes: verdict.accepted ? [] : [verdict.code],
      details: {
        planId: plan.id,
        planHash,
        contractHash: plan.contractHash,
        epsilon: plan.epsilon,
        delta: plan.delta,
        rounds: plan.rounds,
        mode: plan.mode,
      },
    });
  });
  return verdict;

  async function decide(): Promise<PlanVerdict> {
    const verdict = checkPlan(participation, roster, plan);
    if (!verdict.accepted) return verdict;
    // The declared sensitivity rests on these two numbers being those of the contract.
    if (plan.fields !== contract.fields.length || plan.maxRecordsPerSubject !== contract.maxRecordsPerSubject) {
      return refusal('PLAN_MISMATCH', 'The plan and its contract disagree on fields or records per customer.');
    }
    if (dataset === null) {
      return refusal('NO_DATA', 'This node holds no data under the contract of the plan.');
    }
    const totals = await store.ledger.totals(dataset.id);
    if (totals === null) return refusal('NO_BUDGET', 'The data set has no privacy budget.');
    try {
      requireBudget(totals.budget, totals.spent, privacyStatement(plan).muSquaredTotal, dataset.name);
    } catch (error) {
      if (!(error instanceof PrivacyError)) throw error;
      context.log.warn({ plan: plan.id, code: error.code }, error.message);
      // What was spent before is the bank's own matter; the plan's cost is public.
      return refusal(error.code, `The bank cannot pay epsilon ${plan.epsilon} at delta ${plan.delta} for this plan.`);
    }
    return { accepted: true };
  }
}

function refusal(code: string, reason: string): PlanVerdict {
  return { accepted: false, code, reason };
}

/** A stored refusal: code, colon, sentence. */
function readRefusal(text: string): PlanVerdict {
  const end = text.indexOf(': ');
  return end < 0 ? refusal('PLAN_REFUSED', text) : refusal(text.slice(0, end), text.slice(end + 2));
}

async function release(
  context: NodeContext,
  data: TrainingData,
  task: ReleaseTask,
): Promise<{ histogram: Float64Array; releaseId: string }> {
  const { plan, planHash, contract, round, model } = task;
  const { store } = context;
  const { total } = layoutOf(contract);
  const accepted = await store.plans.find(plan.id);
  if (accepted?.state !== 'accepted' || accepted.hash !== planHash || accepted.datasetId === null) {
    throw notAccepted(plan.id);
  }
  const { datasetId } = accepted;
  const earlier = await store.ledger.latest(datasetId, plan.id, round);
  if (earlier?.state === 'committed' && earlier.payload !== null) {
    requireSameState(earlier, task);
    return { histogram: decodeHistogram(earlier.payload, total), releaseId: earlier.id };
  }
  const statement = privacyStatement(plan);
  if (earlier?.state === 'refused') await requireRoom(context, datasetId, statement.releases[round]);
  // Whatever can fail without noise comes before the reservation: it must not cost anything.
  const rows = await data.load(datasetId, contract);
  const isCount = round === 0 || model === null;
  const exact = isCount
    ? await context.training.counts(rows)
    : await context.training.gradient(rows, model, residualGrid(plan, round));
  const reserved = await reserve(context, datasetId, earlier, task, statement);
  // From here on the loss is spent, whatever happens.
  const noisy = addNoise(exact, isCount ? statement.sigmaCountSquared : statement.sigmaRoundSquared, context.random);
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
  statement: PrivacyStatement,
): Promise<ReleaseRow> {
  const { name, muSquared } = statement.releases[round];
  const { sigmaCount, sigmaRound } = statement;
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
      statement: {
        ...{ planHash, stateHash, release: name, mode: plan.mode, unit: 'customer' },
        maxRecordsPerSubject: plan.maxRecordsPerSubject,
        sigma: rationalText(round === 0 ? sigmaCount : sigmaRound),
      },
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
function requireSameState(earlier: ReleaseRow, { stateHash, round }: ReleaseTask): void {
  // Safe: `reserve` above writes every statement; one without the member is refused.
  const { stateHash: paidFor } = earlier.statement as { stateHash?: string };
  if (paidFor === stateHash) return;
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

function notAccepted(planId: string): LearningError {
  return new LearningError('TRAINING_INPUT', 'The node has not accepted this plan, or it has ended.', {
    where: planId,
  });
}
