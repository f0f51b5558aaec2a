/**
 * What a node says to a training plan: its owner's policy, its data and its budget decide. Reads only; nothing is spent or
 * recorded. The answer to the aggregator (training.ts) and `veilrisk plan` ask the same function.
 */
import { parseRoster } from '../../federated/protocol/roster.ts';
import { type Contract, contractHash, parseContract } from '../contract/contract.ts';
import { LearningError, PrivacyError } from '../errors.ts';
import { courseFor } from '../learning/course.ts';
import { type FederatedPlan, statementOf } from '../learning/federatedPlan.ts';
import { checkPlan, type RosterFloors } from '../participant/policy.ts';
import type { PlanVerdict } from '../participant/port.ts';
import { type Budget, epsilonOf, requireBudget } from '../privacy/budget.ts';
import type { DatasetRow } from '../store/datasets.ts';
import type { NodeContext } from './context.ts';
import { budgetLeft } from './ledger.ts';
import { readJson } from './trainingPlans.ts';

const NO_DATA = 'This node holds no data under the contract of the plan.';

export interface PlanReview {
  /** May be sent to the operator. */
  verdict: PlanVerdict;
  /** The data set the plan would train on, or null when the node holds none under its contract. */
  dataset: DatasetRow | null;
  /** Its budget and what was spent of it as mu squared; null without a data set or a budget. */
  funds: { budget: Budget; spent: number } | null;
  /** What the bank itself may read about a refusal, and nobody else: it tells what was spent before. */
  internal: string | null;
}

/**
 * @param roster null where none is known: the roster's floors are then not checked.
 * @param given the plan's contract; null where it is not at hand: that of the node's data set is taken.
 */
export async function reviewPlan(
  { store, participation }: Pick<NodeContext, 'store' | 'participation'>,
  roster: RosterFloors | null,
  plan: FederatedPlan,
  given: Contract | null,
): Promise<PlanReview> {
  const dataset = await store.datasets.forContract(given === null ? plan.contractHash : contractHash(given));
  const totals = dataset === null ? null : await store.ledger.totals(dataset.id);
  const funds = totals && { budget: totals.budget, spent: totals.spent };
  const review = (verdict: PlanVerdict, internal: string | null = null): PlanReview => ({
    ...{ verdict, dataset, funds, internal },
  });
  const refuse = (code: string, reason: string, internal?: string) =>
    review({ accepted: false, code, reason }, internal ?? null);

  const verdict = checkPlan(participation, roster ?? { sites: plan.sites, minimumQuorum: 1 }, plan);
  if (!verdict.accepted) return review(verdict);
  const contract = given ?? (dataset === null ? null : parseContract(dataset.contract));
  if (contract === null) return refuse('NO_DATA', NO_DATA);
  // The declared sensitivity rests on these numbers being those of the contract.
  if (
    plan.contractHash !== contractHash(contract) ||
    plan.maxRecordsPerSubject !== contract.maxRecordsPerSubject ||
    !hasCourse(plan, contract)
  ) {
    return refuse('PLAN_MISMATCH', 'The plan and its contract disagree on hash, fields or records per customer.');
  }
  if (dataset === null) return refuse('NO_DATA', NO_DATA);
  if (funds === null) return refuse('NO_BUDGET', 'The data set has no privacy budget.');
  try {
    requireBudget(funds.budget, funds.spent, statementOf(plan).muSquaredTotal, dataset.name);
  } catch (error) {
    if (!(error instanceof PrivacyError)) throw error;
    // What was spent before is the bank's own matter; the plan's cost is public.
    const reason = `The bank cannot pay epsilon ${plan.epsilon} at delta ${plan.delta} for this plan.`;
    return refuse(error.code, reason, error.message);
  }
  return review({ accepted: true });
}

/** Whether the plan's model has the shape of the contract. */
function hasCourse(plan: FederatedPlan, contract: Contract): boolean {
  try {
    courseFor(plan, contract);
    return true;
  } catch (error) {
    if (error instanceof LearningError) return false;
    throw error;
  }
}

/** What a node would answer, with the figures its own bank may read. */
export interface NodeOpinion {
  node: string;
  dataset: string | null;
  accepted: boolean;
  /** Of the refusal, else null. */
  code: string | null;
  reason: string | null;
  /** Epsilons at the delta of the budget; null without data or a budget. */
  budget: { epsilon: number; delta: number; spentEpsilon: number; leftEpsilon: number } | null;
  /** What the plan would take of the whole budget, as a share of mu squared; null as above. */
  share: number | null;
}

/** Asks a node without telling it: nothing is recorded, and the plan may still be offered. */
export async function nodeOpinion(
  context: Pick<NodeContext, 'store' | 'participation' | 'name'>,
  roster: RosterFloors | null,
  plan: FederatedPlan,
  contract: Contract | null,
): Promise<NodeOpinion> {
  const { verdict, dataset, funds, internal } = await reviewPlan(context, roster, plan, contract);
  const { epsilon, delta, muSquared } = funds?.budget ?? { epsilon: 0, delta: 0, muSquared: 0 };
  return {
    ...{ node: context.name, dataset: dataset?.name ?? null, accepted: verdict.accepted },
    code: verdict.accepted ? null : verdict.code,
    reason: verdict.accepted ? null : (internal ?? verdict.reason),
    budget: funds && {
      ...{ epsilon, delta, spentEpsilon: epsilonOf(funds.spent, delta) },
      leftEpsilon: budgetLeft(funds.budget, funds.spent),
    },
    share: funds && statementOf(plan).muSquaredTotal / muSquared,
  };
}

/** Size and least quorum of the consortium of a roster file. @throws FederationError ROSTER_INVALID. */
export async function readRosterFloors(path: string): Promise<RosterFloors> {
  const { sites, minimumQuorum } = parseRoster(await readJson(path));
  return { sites: sites.length, minimumQuorum };
}
