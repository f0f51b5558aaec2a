/**
 * When a plan starts, a step closes, is tried again, or the plan ends: the whole policy, as pure functions.
 *
 * Limit: who is "awaited" is a matter of waiting time only. A site that is not waited for is counted like any other
 * when its message arrives before the step closes.
 */

/** How often a round that does not come about is opened again, or waited for once more, before the plan is aborted. */
export const MAX_REOPENINGS = 3;

type ProposalDecision = 'wait' | 'start' | 'abort';
type StepDecision = 'wait' | 'close' | 'again' | 'abort';

/** `sites` all in the roster; `accepted` and `refused` of them answered. */
export function decideProposal(facts: {
  sites: number;
  accepted: number;
  refused: number;
  quorum: number;
  deadlineOver: boolean;
}): ProposalDecision {
  const { sites, accepted, refused, quorum, deadlineOver } = facts;
  if (sites - refused < quorum) return 'abort';
  if (accepted + refused === sites || deadlineOver) return accepted >= quorum ? 'start' : 'abort';
  return 'wait';
}

/**
 * One step of a round. Of the messages it takes, `arrived` are here, `needed` make it close, `awaited` are still
 * expected, and no more than `possible` can there ever be in this attempt. `reopenings` so far.
 */
export function decideStep(facts: {
  arrived: number;
  needed: number;
  awaited: number;
  possible: number;
  deadlineOver: boolean;
  reopenings: number;
}): StepDecision {
  const { arrived, needed, awaited, possible, deadlineOver, reopenings } = facts;
  if (arrived >= needed) return awaited === 0 || deadlineOver ? 'close' : 'wait';
  if (possible >= needed && !deadlineOver) return 'wait';
  return reopenings < MAX_REOPENINGS ? 'again' : 'abort';
}
