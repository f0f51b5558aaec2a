/**
 * Answers to training plans: by the bank's policy at once, or by a person where the policy says so.
 *
 * A plan is decided once. The decision and its audit entry commit together, in whatever process it was made; a running
 * node reads it from the database.
 */
import { type Contract, contractHash, parseContract } from '../contract/contract.ts';
import { FederationError, StoreError } from '../errors.ts';
import { type FederatedPlan, parseFederatedPlan } from '../learning/federatedPlan.ts';
import type { RosterFloors } from '../participant/policy.ts';
import type { PlanAnswer, PlanVerdict } from '../participant/port.ts';
import type { PlanRow } from '../store/plans.ts';
import type { NodeContext } from './context.ts';
import { reviewPlan } from './planReview.ts';
import { type Statement, statePlan } from './planStatement.ts';
import type { TrainingRefusals } from './trainingRefusals.ts';

/** Code of a plan that a person at the bank did not want. */
const DECLINED = 'PLAN_DECLINED';

/** Decides on a plan once; asked again, the same answer. Null: a person has not decided yet. */
export async function answerPlan(
  context: NodeContext,
  roster: RosterFloors,
  refusals: TrainingRefusals,
  plan: FederatedPlan,
  planHash: string,
  contract: Contract,
): Promise<PlanAnswer> {
  const { store, participation } = context;
  const known = await store.plans.find(plan.id);
  if (known !== null) {
    if (known.hash === planHash) return answerOf(known);
    await refusals.record({ type: 'plan.refuse', code: 'PLAN_STATE', planId: plan.id, details: { planHash } });
    return refusal('PLAN_STATE', 'Another plan of this id was answered before.');
  }
  const { verdict, dataset, internal } = await reviewPlan(context, roster, plan, contract);
  if (!verdict.accepted) context.log.warn({ plan: plan.id, code: verdict.code }, internal ?? verdict.reason);
  const isOffered = verdict.accepted && participation.answers === 'manual';
  const state = isOffered ? 'offered' : verdict.accepted ? 'accepted' : 'refused';
  await store.transaction(async (tx) => {
    await tx.plans.insert({
      ...{ id: plan.id, hash: planHash, plan, datasetId: dataset?.id ?? null, state },
      ...(!verdict.accepted && { reason: `${verdict.code}: ${verdict.reason}` }),
    });
    await tx.append({
      ...{ type: isOffered ? 'plan.offered' : 'plan.answered', actor: 'operator' },
      outcome: isOffered ? 'waiting' : state,
      reasonCodes: verdict.accepted ? [] : [verdict.code],
      details: factsOf(plan, planHash),
    });
  });
  if (isOffered) context.log.info({ plan: plan.id }, 'a plan waits for `veilrisk train accept`');
  return isOffered ? { accepted: null } : verdict;
}

function answerOf({ state, reason }: PlanRow): PlanAnswer {
  if (state === 'offered') return { accepted: null };
  if (state === 'refused') return readRefusal(reason ?? '');
  if (state === 'aborted') return refusal('PLAN_STATE', 'The plan has ended.');
  return { accepted: true };
}

function factsOf(plan: FederatedPlan, planHash: string) {
  const { id: planId, contractHash, epsilon, delta, rounds, mode, family } = plan;
  const sum = { threshold: plan.threshold, colluders: plan.colluders, dropouts: plan.dropouts };
  return { ...{ planId, planHash, contractHash, family, epsilon, delta, rounds, mode }, ...(mode === 'sum' && sum) };
}

/** A plan that waits for a person. */
export interface Offer {
  planId: string;
  planHash: string;
  dataset: string | null;
  /** RFC 3339. */
  offeredAt: string;
  statement: Statement;
}

/** Oldest first. */
export async function listOffers({ store }: Pick<NodeContext, 'store'>): Promise<Offer[]> {
  const waiting = (await store.plans.list()).filter(({ state }) => state === 'offered').reverse();
  return Promise.all(
    waiting.map(async (row) => {
      const dataset = row.datasetId === null ? null : await store.datasets.byId(row.datasetId);
      const contract = dataset === null ? null : parseContract(dataset.contract);
      return {
        ...{ planId: row.id, planHash: row.hash, dataset: dataset?.name ?? null },
        offeredAt: row.createdAt.toISOString(),
        statement: statePlan(parseFederatedPlan(row.plan), contract),
      };
    }),
  );
}

export type Decision = { accept: true } | { accept: false; reason: string };

/**
 * A person's decision; the running node sends it within a second or two.
 * @throws StoreError NOT_FOUND for a plan that does not wait (any more); FederationError PLAN_REFUSED when the policy or
 *   the budget would refuse it by now.
 */
export async function decidePlan(context: NodeContext, planId: string, decision: Decision): Promise<void> {
  const { store } = context;
  const row = await store.plans.find(planId);
  if (row?.state !== 'offered') throw notWaiting(planId, row);
  const plan = parseFederatedPlan(row.plan);
  if (decision.accept) await requireStillFit(context, row, plan);
  const declined = decision.accept ? null : `${DECLINED}: ${decision.reason}`;
  await store.transaction(async (tx) => {
    const state = decision.accept ? 'accepted' : 'refused';
    if (!(await tx.plans.decide(planId, state, declined))) throw notWaiting(planId, await tx.plans.find(planId));
    await tx.append({
      ...{ type: 'plan.answered', actor: 'administrator', outcome: state },
      reasonCodes: decision.accept ? [] : [DECLINED],
      details: factsOf(plan, row.hash),
    });
  });
}

/** Another plan may have spent the budget, or the policy may have changed, while this one waited. */
async function requireStillFit(context: NodeContext, row: PlanRow, plan: FederatedPlan): Promise<void> {
  const dataset = row.datasetId === null ? null : await context.store.datasets.byId(row.datasetId);
  const contract = dataset === null ? null : parseContract(dataset.contract);
  const given = contract !== null && contractHash(contract) === plan.contractHash ? contract : null;
  const { verdict, internal } = await reviewPlan(context, null, plan, given);
  if (verdict.accepted) return;
  throw new FederationError('PLAN_REFUSED', `${verdict.code}: ${internal ?? verdict.reason}`, {
    where: plan.id,
    fix: 'Refuse the plan, or change the policy of this node.',
  });
}

function notWaiting(planId: string, row: PlanRow | null): StoreError {
  return new StoreError(
    'NOT_FOUND',
    row === null ? 'no such plan was offered to this node' : `the plan is ${row.state} and waits for nobody`,
    { where: planId, fix: '`veilrisk train offers` lists what waits' },
  );
}

function refusal(code: string, reason: string): PlanVerdict {
  return { accepted: false, code, reason };
}

/** A stored refusal: code, colon, sentence. */
function readRefusal(text: string): PlanVerdict {
  const end = text.indexOf(': ');
  return end < 0 ? refusal('PLAN_REFUSED', text) : refusal(text.slice(0, end), text.slice(end + 2));
}
