/**
 * When a plan starts, a round closes, is opened again, or the plan ends: the whole policy, as pure functions.
 *
 * Limit: who is "expected" is a matter of waiting time only. A site that is not waited for is counted like any other
 * when its update arrives before the round closes.
 */

/** How often a round below quorum is opened again before the plan is aborted. */
export const MAX_REOPENINGS = 3;

type ProposalDecision = 'wait' | 'start' | 'abort';
type RoundDecision = 'wait' | 'close' | 'reopen' | 'abort';

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

/** Of `accepted` sites of the plan, `contributed` sent an update, `refused` declined, `awaited` are still expected. */
export function decideRound(facts: {
  accepted: number;
  contributed: number;
  refused: number;
  awaited: number;
  quorum: number;
  deadlineOver: boolean;
  reopenings: number;
}): RoundDecision {
  const { accepted, contributed, refused, awaited, quorum, deadlineOver, reopenings } = facts;
  if (accepted - refused < quorum) return 'abort';
  if (contributed >= quorum) return awaited === 0 || deadlineOver ? 'close' : 'wait';
  if (!deadlineOver) return 'wait';
  return reopenings < MAX_REOPENINGS ? 'reopen' : 'abort';
}
