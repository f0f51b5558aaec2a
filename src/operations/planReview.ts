/**
 * What a node says to a training plan: its owner's policy, its data and its budget decide. Reads only; nothing is spent or
 * recorded. The answer to the aggregator (training.ts) and `veilrisk plan` ask the same function.
 */
import { type Contract, contractHash } from '../contract/contract.ts';
import { PrivacyError } from '../errors.ts';
import type { TrainingPlan } from '../learning/plan.ts';
import { privacyStatement } from '../learning/statement.ts';
import { checkPlan, type RosterFloors } from '../participant/policy.ts';
import type { PlanVerdict } from '../participant/port.ts';
import { type Budget, requireBudget } from '../privacy/budget.ts';
import type { DatasetRow } from '../store/datasets.ts';
import type { NodeContext } from './context.ts';

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

/** @param roster null where none is known: the roster's floors are then not checked. */
export async function reviewPlan(
  { store, participation }: Pick<NodeContext, 'store' | 'participation'>,
  roster: RosterFloors | null,
  plan: TrainingPlan,
  contract: Contract,
): Promise<PlanReview> {
  const dataset = await store.datasets.forContract(contractHash(contract));
  const totals = dataset === null ? null : await store.ledger.totals(dataset.id);
  const funds = totals && { budget: totals.budget, spent: totals.spent };
  const review = (verdict: PlanVerdict, internal: string | null = null): PlanReview => ({
    ...{ verdict, dataset, funds, internal },
  });
  const refuse = (code: string, reason: string, internal?: string) =>
    review({ accepted: false, code, reason }, internal ?? null);

  const verdict = checkPlan(participation, roster ?? { sites: plan.sites, minimumQuorum: 1 }, plan);
  if (!verdict.accepted) return review(verdict);
  // The declared sensitivity rests on these numbers being those of the contract.
  if (
    plan.contractHash !== contractHash(contract) ||
    plan.fields !== contract.fields.length ||
    plan.maxRecordsPerSubject !== contract.maxRecordsPerSubject
  ) {
    return refuse('PLAN_MISMATCH', 'The plan and its contract disagree on hash, fields or records per customer.');
  }
  if (dataset === null) return refuse('NO_DATA', 'This node holds no data under the contract of the plan.');
  if (funds === null) return refuse('NO_BUDGET', 'The data set has no privacy budget.');
  try {
    requireBudget(funds.budget, funds.spent, privacyStatement(plan).muSquaredTotal, dataset.name);
  } catch (error) {
    if (!(error instanceof PrivacyError)) throw error;
    // What was spent before is the bank's own matter; the plan's cost is public.
    const reason = `The bank cannot pay epsilon ${plan.epsilon} at delta ${plan.delta} for this plan.`;
    return refuse(error.code, reason, error.message);
  }
  return review({ accepted: true });
}
