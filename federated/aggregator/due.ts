/**
 * Which step of a plan is due, from the database and the clock, without changing anything.
 *
 * May be asked without the plan's lock; whoever acts on the answer asks again under it.
 */

import { courseOf } from './course.ts';
import { decideProposal, decideRound } from './decide.ts';
import type { Desk } from './desk.ts';
import type { PlanRow, Transaction } from './store/database.ts';

type Step =
  | { kind: 'wait' }
  | { kind: 'abort'; code: string; reason: string }
  /** The model is there and its evaluation will not be. */
  | { kind: 'skipEvaluation'; code: string; reason: string }
  | { kind: 'start'; sites: string[] }
  | { kind: 'reopen'; number: number; attempt: number; contributions: number }
  /** Contributors in roster order. */
  | { kind: 'close'; number: number; attempt: number; contributors: string[] };

const acceptanceKey = (planId: string) => `${planId}/acceptance`;
export const roundKey = (planId: string, round: number, attempt: number) => `${planId}/${round}/${attempt}`;

export async function stepDue(tx: Transaction, desk: Desk, plan: PlanRow): Promise<Step> {
  if (plan.endedAt !== null) return { kind: 'wait' };
  if (plan.rosterHash !== desk.party.rosterHash) {
    return { kind: 'abort', code: 'ROSTER_INVALID', reason: 'The roster changed while the plan ran.' };
  }
  return plan.state === 'proposed' ? proposalDue(tx, desk, plan) : roundDue(tx, desk, plan);
}

async function proposalDue(tx: Transaction, desk: Desk, plan: PlanRow): Promise<Step> {
  const answers = await tx.answer.findMany({ where: { planId: plan.id }, select: { site: true, accepted: true } });
  const course = courseOf(plan);
  const sites = answers.filter((answer) => answer.accepted).map((answer) => answer.site);
  const decision = decideProposal({
    sites: course.plan.sites,
    accepted: sites.length,
    refused: answers.length - sites.length,
    quorum: course.plan.quorum,
    deadlineOver: desk.deadlines.remaining(acceptanceKey(plan.id), plan.acceptanceDeadlineMs) === 0,
  });
  if (decision === 'abort') {
    return { kind: 'abort', code: 'QUORUM_LOST', reason: 'Fewer sites than the quorum accepted the plan.' };
  }
  return decision === 'start' ? { kind: 'start', sites: sites.sort() } : { kind: 'wait' };
}

async function roundDue(tx: Transaction, desk: Desk, plan: PlanRow): Promise<Step> {
  const course = courseOf(plan);
  const { quorum, roundDeadlineMs } = course.plan;
  const planId = plan.id;
  // The open round, and the one before it for who was there.
  const rounds = await tx.round.findMany({
    where: { planId, number: { in: [plan.round - 1, plan.round] } },
    select: { number: true, attempt: true, contributors: true },
    orderBy: { number: 'desc' },
  });
  const [{ number, attempt }, previous] = rounds;
  const answers = await tx.answer.findMany({ where: { planId, accepted: true }, select: { site: true } });
  const messages = await tx.message.findMany({
    where: { planId, round: { in: [0, number] } },
    select: { site: true, round: true, refused: true },
  });
  const contributed = new Set(messages.filter((m) => m.round === number && !m.refused).map((m) => m.site));
  // A site that gave no counts cannot take part later: its gradients could not be weighed.
  const refused = new Set(messages.filter((m) => m.refused).map((m) => m.site));
  const awaited = answers.filter(({ site }) => {
    if (contributed.has(site) || refused.has(site)) return false;
    // Who missed the last round and is not even connected is welcome, but nobody waits for it.
    return previous === undefined || previous.contributors.includes(site) || desk.listeners.connected(site);
  });
  const decision = decideRound({
    ...{ accepted: answers.length, contributed: contributed.size, refused: refused.size, awaited: awaited.length },
    ...{ quorum, reopenings: attempt },
    deadlineOver: desk.deadlines.remaining(roundKey(planId, number, attempt), roundDeadlineMs) === 0,
  });
  switch (decision) {
    case 'wait':
      return { kind: 'wait' };
    case 'abort':
      return {
        kind: number === course.evaluation ? 'skipEvaluation' : 'abort',
        code: 'QUORUM_LOST',
        reason: `Round ${number} ended with fewer updates than the quorum.`,
      };
    case 'reopen':
      return { kind: 'reopen', number, attempt, contributions: contributed.size };
    case 'close': {
      const roster = desk.party.roster.sites.map((site) => site.id);
      return { kind: 'close', number, attempt, contributors: roster.filter((site) => contributed.has(site)) };
    }
  }
}
