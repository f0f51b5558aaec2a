/** What sites and the operator may ask: how a plan stands, the operator's proposal, the signed model, the roster. */

import { FederationError } from '../../src/errors.ts';
import { canonicalBytes } from '../protocol/canonical.ts';
import { type BodyInit, envelopeFrom } from '../protocol/envelope.ts';
import { Board } from './board.ts';
import type { Desk } from './desk.ts';
import { phaseOf } from './due.ts';
import { checkPlanId, planUnknown } from './store/database.ts';
import { loadPlan } from './store/plans.ts';

/** Read from the database: this process may not have heard of the newest step. */
export async function planStatus(desk: Desk, planId: string): Promise<BodyInit<'status'>> {
  checkPlanId(planId);
  const { pool, prisma } = desk.database;
  const snapshot = await loadPlan(pool, planId);
  if (snapshot === null) throw planUnknown();
  const [answers, model] = await Promise.all([
    prisma.answer.findMany({
      where: { planId },
      orderBy: { site: 'asc' },
      select: { site: true, accepted: true, code: true, reason: true },
    }),
    prisma.model.findUnique({ where: { planId }, select: { modelHash: true } }),
  ]);
  const board = new Board(snapshot);
  const { planHash, state, code, reason, round } = board.plan;
  return {
    ...{ planId, planHash, state, code, reason, round, answers },
    of: board.course.plan.rounds,
    contributions: contributionsTo(board),
    modelHash: model?.modelHash ?? '',
    phase: phaseOf(board),
    attempt: board.current?.attempt ?? 0,
  };
}

/** Of the open round so far, or in the sum of the last one. */
function contributionsTo(board: Board): number {
  const round = board.current;
  if (round === undefined) return 0;
  if (!round.open) return round.contributors.length;
  if (round.survivors.length > 0) return round.survivors.length;
  const attempt = board.masked(round.number) ? round.attempt : 0;
  return [...board.step('update', round.number, attempt).values()].filter(({ refused }) => !refused).length;
}

export async function publishedPlan(desk: Desk, planId: string): Promise<BodyInit<'plan'>> {
  const board = await desk.boards.find(planId);
  return { proposal: envelopeFrom(board.plan.proposal) };
}

/** Throws PLAN_STATE until the plan is completed. */
export async function publishedModel(desk: Desk, planId: string): Promise<BodyInit<'published'>> {
  checkPlanId(planId);
  const plan = await desk.database.prisma.plan.findUnique({
    where: { id: planId },
    select: { state: true, model: { select: { envelope: true } } },
  });
  if (plan === null) throw planUnknown();
  if (plan.model === null) {
    throw new FederationError('PLAN_STATE', `The plan has no model; it is ${plan.state}.`, { where: planId });
  }
  return { model: envelopeFrom(plan.model.envelope) };
}

/** Throws ROSTER_INVALID when the process was started with a roster the operator did not sign. */
export async function publishedRoster(desk: Desk): Promise<BodyInit<'roster'>> {
  if (desk.signedRoster === null) {
    throw new FederationError('ROSTER_INVALID', 'The aggregator has no roster the operator signed.', {
      where: 'roster',
      fix: 'Ask the operator for the roster, and to start the aggregator with the signed file.',
    });
  }
  return { rosterJson: canonicalBytes(desk.signedRoster) };
}
