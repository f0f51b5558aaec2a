/** The tasks of the simulated aggregator, as they stand on the wire. */
import { encodeWeights, stateHash } from '../../../federated/protocol/weights.ts';
import type { EpochRecord } from './desk.ts';
import { envelopeOf, type Message, type TaskInit } from './messages.ts';
import type { Workload } from './workload.ts';

/** @param sum for a round under masks. */
export function roundTask(
  work: Workload,
  round: number,
  attempt: number,
  sum?: { epoch: number; slot: number; members: string[]; bits: number },
): TaskInit {
  const { intercept, flat } = work.weights(round);
  const value = {
    ...{ ...planOf(work), round, of: work.lastRound, intercept, weights: encodeWeights(flat), attempt },
    ...{ stateHash: stateHash({ intercept, flat }), deadlineMs: work.terms.deadlineMs },
    ...(sum === undefined ? {} : { sum }),
  };
  return { case: 'round', value };
}

export function keysTask(work: Workload, { number: epoch }: EpochRecord, slots: number): TaskInit {
  return { case: 'keys', value: { ...planOf(work), epoch, slots, deadlineMs: work.terms.deadlineMs } };
}

export function sharesTask(work: Workload, { number: epoch, list, keys }: EpochRecord): TaskInit {
  // Safe: the list holds sites whose keys are there.
  const envelopes = list.map((site) => envelopeOf(keys.get(site)!.message));
  return { case: 'shares', value: { ...planOf(work), epoch, keys: envelopes, deadlineMs: work.terms.deadlineMs } };
}

/** The shares that the holders sealed for a site. */
export function epochTask(work: Workload, { number: epoch, holders, shares }: EpochRecord, site: string): TaskInit {
  const delivered = holders.flatMap((from) => {
    const sealed = shares.get(from)?.get(site);
    return sealed === undefined ? [] : [{ site: from, sealed }];
  });
  return { case: 'epoch', value: { ...planOf(work), epoch, shares: delivered } };
}

export function agreementTask(work: Workload, round: number, attempt: number, survivors: string[]): TaskInit {
  const value = { ...planOf(work), round, attempt, survivors, deadlineMs: work.terms.deadlineMs };
  return { case: 'agreement', value };
}

export function revealTask(work: Workload, round: number, attempt: number, agreed: readonly Message[]): TaskInit {
  const agreements = agreed.map(envelopeOf);
  return { case: 'reveal', value: { ...planOf(work), round, attempt, agreements, deadlineMs: work.terms.deadlineMs } };
}

function planOf(work: Workload): { planId: string; planHash: string } {
  return { planId: 'simulated', planHash: work.terms.planHash };
}
