/** What sites and the operator may ask: how a plan stands, the operator's proposal, the signed model. */

import { FederationError } from '../../src/errors.ts';
import { type BodyInit, envelopeFrom } from '../protocol/envelope.ts';
import { courseOf } from './course.ts';
import type { Desk } from './desk.ts';
import { checkPlanId, planUnknown } from './store/database.ts';

export async function planStatus(desk: Desk, planId: string): Promise<BodyInit<'status'>> {
  checkPlanId(planId);
  const plan = await desk.database.plan.findUnique({
    where: { id: planId },
    include: {
      answers: { orderBy: { site: 'asc' }, select: { site: true, accepted: true, code: true, reason: true } },
      model: { select: { modelHash: true } },
    },
  });
  if (plan === null) throw planUnknown();
  const { planHash, state, code, reason, round, answers } = plan;
  const contributions = await desk.database.message.count({ where: { planId, round, refused: false } });
  const of = courseOf(plan).plan.rounds;
  return {
    planId,
    planHash,
    state,
    code,
    reason,
    round,
    of,
    contributions,
    answers,
    modelHash: plan.model?.modelHash ?? '',
  };
}

export async function publishedPlan(desk: Desk, planId: string): Promise<BodyInit<'plan'>> {
  checkPlanId(planId);
  const plan = await desk.database.plan.findUnique({ where: { id: planId }, select: { proposal: true } });
  if (plan === null) throw planUnknown();
  return { proposal: envelopeFrom(plan.proposal) };
}

/** Throws PLAN_STATE until the plan is completed. */
export async function publishedModel(desk: Desk, planId: string): Promise<BodyInit<'published'>> {
  checkPlanId(planId);
  const plan = await desk.database.plan.findUnique({
    where: { id: planId },
    select: { state: true, model: { select: { envelope: true } } },
  });
  if (plan === null) throw planUnknown();
  if (plan.model === null) {
    throw new FederationError('PLAN_STATE', `The plan has no model; it is ${plan.state}.`, { where: planId });
  }
  return { model: envelopeFrom(plan.model.envelope) };
}
