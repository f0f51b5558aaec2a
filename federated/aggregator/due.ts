/**
 * Which step of a plan is due, from this process's view of it and the clock, without changing anything.
 *
 * A wrong answer from an old view does no harm: the step is refused by the fence, and asked for again after a refresh.
 */

import type { Board } from './board.ts';
import { decideProposal, decideStep } from './decide.ts';
import type { Desk } from './desk.ts';
import { awaitedKeys, isAlive, rosterOrder } from './epochs.ts';
import type { EpochRow, RoundRow } from './store/plans.ts';

export type Step =
  | { kind: 'wait' }
  | { kind: 'abort'; code: string; reason: string }
  /** The model is there and its evaluation will not be. */
  | { kind: 'skipEvaluation'; code: string; reason: string }
  | { kind: 'start'; sites: string[] }
  /** One more attempt at the open round, or once more its deadline where a second attempt could not succeed. */
  | { kind: 'again'; contributions: number; extend: boolean }
  /** A plain round; contributors in roster order. */
  | { kind: 'close'; contributors: string[] }
  | { kind: 'closeKeys'; advertisers: string[] }
  | { kind: 'closeShares'; holders: string[] }
  | { kind: 'closeInputs' }
  | { kind: 'closeAgreement' }
  | { kind: 'unmask' };

const WAIT: Step = { kind: 'wait' };
const acceptanceKey = (planId: string) => `${planId}/acceptance`;
export const roundKey = (planId: string, round: number) => `${planId}/${round}`;

/** What the open round waits for, by name; empty when none is open. */
export function phaseOf(board: Board): string {
  const round = board.current;
  if (!round?.open || board.plan.ended) return '';
  return round.phase === 'setup' ? (board.epoch?.phase ?? '') : round.phase;
}

/** Milliseconds left for what the open round waits for. */
export function phaseLeft(desk: Desk, board: Board, round: RoundRow): number {
  const key = `${roundKey(board.plan.id, round.number)}/${round.attempt}/${phaseOf(board)}/${round.extensions}`;
  return desk.deadlines.remaining(key, board.course.plan.roundDeadlineMs);
}

export function stepDue(desk: Desk, board: Board): Step {
  const { plan } = board;
  if (plan.ended) return WAIT;
  if (plan.rosterHash !== desk.party.rosterHash) {
    return { kind: 'abort', code: 'ROSTER_INVALID', reason: 'The roster changed while the plan ran.' };
  }
  if (plan.state === 'proposed') return proposalDue(desk, board);
  const round = board.current;
  if (round === undefined) return WAIT;
  if (!board.masked(round.number)) return plainDue(desk, board, round);
  const { epoch } = board;
  if (epoch === undefined) return WAIT;
  switch (round.phase) {
    case 'setup':
      return epoch.phase === 'keys' ? keysDue(desk, board, round, epoch) : sharesDue(desk, board, round, epoch);
    case 'inputs':
      return inputsDue(desk, board, round, epoch);
    case 'agreement':
    case 'reveal':
      return unmaskingDue(desk, board, round, epoch);
  }
}

function proposalDue(desk: Desk, board: Board): Step {
  const { plan, course, answers } = board;
  const sites = board.acceptedSites();
  const decision = decideProposal({
    sites: course.plan.sites,
    accepted: sites.length,
    refused: answers.size - sites.length,
    quorum: course.plan.quorum,
    deadlineOver: desk.deadlines.remaining(acceptanceKey(plan.id), plan.acceptanceDeadlineMs) === 0,
  });
  if (decision === 'abort') {
    return { kind: 'abort', code: 'QUORUM_LOST', reason: 'Fewer sites than the quorum accepted the plan.' };
  }
  return decision === 'start' ? { kind: 'start', sites: sites.sort() } : WAIT;
}

function plainDue(desk: Desk, board: Board, round: RoundRow): Step {
  const { number } = round;
  const updates = board.step('update', number);
  const contributed = [...updates.values()].filter(({ refused }) => !refused).map(({ site }) => site);
  // A site that declined to give counts cannot take part later: its gradients could not be weighed.
  const declined = (site: string) => board.declined(number, site) || board.declined(0, site);
  const open = board.acceptedSites().filter((site) => !declined(site));
  const awaited = open.filter((site) => !updates.has(site) && isExpected(desk, board, round, site));
  return settle(desk, board, round, {
    ...{ arrived: contributed.length, needed: board.course.plan.quorum, awaited: awaited.length },
    ...{ possible: open.length, hopeless: open.length < board.course.plan.quorum },
    close: () => ({ kind: 'close', contributors: rosterOrder(desk, contributed) }),
  });
}

/** Who missed the last round and is not even connected is welcome, but nobody waits for it. */
function isExpected(desk: Desk, board: Board, round: RoundRow, site: string): boolean {
  const last = board.rounds.get(round.number - 1);
  return last === undefined || last.contributors.includes(site) || desk.presence.connected(site);
}

function keysDue(desk: Desk, board: Board, round: RoundRow, epoch: EpochRow): Step {
  const sent = board.step('keys', epoch.number);
  const able = board.acceptedSites().filter((site) => board.eligible(round.number, site));
  return settle(desk, board, round, {
    ...{
      arrived: able.filter((site) => sent.has(site)).length,
      needed: board.course.plan.quorum,
      possible: able.length,
    },
    ...{ awaited: awaitedKeys(desk, board, round, epoch).length, hopeless: able.length < board.course.plan.quorum },
    close: () => ({ kind: 'closeKeys', advertisers: rosterOrder(desk, sent.keys()) }),
  });
}

function sharesDue(desk: Desk, board: Board, round: RoundRow, epoch: EpochRow): Step {
  const sent = board.step('shares', epoch.number);
  const able = epoch.advertisers.filter((site) => isAlive(desk, board, epoch, site));
  const useful = able.filter((site) => board.eligible(round.number, site));
  return settle(desk, board, round, {
    ...{ arrived: useful.filter((site) => sent.has(site)).length, needed: board.course.plan.quorum, hopeless: false },
    ...{ awaited: able.filter((site) => !sent.has(site)).length, possible: useful.length },
    close: () => ({ kind: 'closeShares', holders: rosterOrder(desk, sent.keys()) }),
  });
}

function inputsDue(desk: Desk, board: Board, round: RoundRow, epoch: EpochRow): Step {
  const updates = board.step('update', round.number, round.attempt);
  const sum = desk.sums.of(board);
  const arrived = round.members.filter((site) => sum?.holds(site));
  // One that came while the sum was being fed counts as still to come.
  const coming = (site: string) => !updates.has(site) || (!updates.get(site)?.refused && sum?.isNew('inputs', site));
  const able = round.members.filter((site) => coming(site) && isAlive(desk, board, epoch, site));
  const others = board.acceptedSites().filter((site) => board.eligible(round.number, site));
  return settle(desk, board, round, {
    ...{ arrived: arrived.length, needed: board.course.plan.quorum, possible: arrived.length + able.length },
    awaited: able.filter((site) => isExpected(desk, board, round, site)).length,
    hopeless: others.length < board.course.plan.quorum,
    close: () => ({ kind: 'closeInputs' }),
  });
}

/** Agreements and reveals: the threshold is enough, so nobody is waited for once it is there. */
function unmaskingDue(desk: Desk, board: Board, round: RoundRow, epoch: EpochRow): Step {
  const { attempt, number, survivors, phase } = round;
  const sent = board.step(phase === 'agreement' ? 'agreement' : 'reveal', number, attempt);
  const able = survivors.filter((site) => !sent.has(site) && isAlive(desk, board, epoch, site));
  const sum = desk.sums.of(board);
  // Not what was sent, but what is of use: agreements that are the same, reveals from which the secrets come out.
  const arrived = phase === 'agreement' ? (sum?.agreed ?? 0) : (sum?.usable ?? 0);
  return settle(desk, board, round, {
    ...{ arrived, needed: board.course.plan.threshold, awaited: 0, possible: sent.size + able.length, hopeless: false },
    // A site opens a round once: after the first reveal another attempt could not be opened by it.
    extend: phase === 'reveal' && sent.size > 0,
    close: () => ({ kind: phase === 'agreement' ? 'closeAgreement' : 'unmask' }),
  });
}

interface Facts {
  arrived: number;
  needed: number;
  awaited: number;
  possible: number;
  /** No attempt can come about any more. */
  hopeless: boolean;
  extend?: boolean;
  close: () => Step;
}

function settle(desk: Desk, board: Board, round: RoundRow, facts: Facts): Step {
  const { hopeless, extend = false, close, arrived, needed, awaited, possible } = facts;
  const decision = hopeless
    ? 'abort'
    : decideStep({
        ...{ arrived, needed, awaited, possible },
        deadlineOver: phaseLeft(desk, board, round) === 0,
        reopenings: round.attempt + round.extensions,
      });
  switch (decision) {
    case 'wait':
      return WAIT;
    case 'close':
      return close();
    case 'again':
      // Nobody is left who could open what others have opened already.
      if (extend && possible < needed) return lost(board, round);
      return { kind: 'again', contributions: arrived, extend };
    case 'abort':
      return lost(board, round);
  }
}

function lost(board: Board, { number }: RoundRow): Step {
  return {
    kind: number === board.course.evaluation ? 'skipEvaluation' : 'abort',
    code: 'QUORUM_LOST',
    reason: `Round ${number} ended with fewer updates than the quorum.`,
  };
}
