/**
 * The keys and masked inputs of one plan of mode `sum` at one site: in memory only, so a process that ends takes them with
 * it and the site joins again in a new epoch.
 *
 * Source: Bonawitz et al., CCS 2017; the steps themselves are federated/secagg. Limit: the two newest epochs are kept.
 */

import type { Party } from '../../federated/protocol/envelope.ts';
import type { Advertisement } from '../../federated/secagg/epoch.ts';
import { EpochParticipant } from '../../federated/secagg/participant.ts';
import type { SumContext } from '../../federated/secagg/sum.ts';
import { FederationError } from '../errors.ts';
import type { FederatedPlan } from '../learning/federatedPlan.ts';
import type { RandomSource } from '../random.ts';

const KEPT_EPOCHS = 2;

interface Epoch {
  readonly slots: number;
  readonly participant: EpochParticipant;
  readonly advertisement: Advertisement;
}

/** One attempt at a round, from the masked input on. */
export interface OpenSum {
  readonly epoch: number;
  readonly context: SumContext;
  readonly participant: EpochParticipant;
  /** The site's cosignature of the log it agrees on; empty without one. */
  readonly cosignature: string;
  /** 32 bytes: on all members once the input is masked, on the survivors it was told since then. */
  agreement: Uint8Array | null;
}

export class PlanSums {
  readonly #plan: FederatedPlan;
  readonly #planHash: string;
  readonly #party: Party;
  readonly #random: RandomSource;
  readonly #epochs = new Map<number, Epoch>();
  readonly #sums = new Map<string, OpenSum>();

  constructor(plan: FederatedPlan, planHash: string, party: Party, random: RandomSource) {
    this.#plan = plan;
    this.#planHash = planHash;
    this.#party = party;
    this.#random = random;
  }

  /**
   * Fresh keys for an epoch, the same ones when it is asked for again.
   * @throws FederationError EPOCH_UNKNOWN for an epoch before the newest, or asked for with other slots.
   */
  advertise(number: number, slots: number): Advertisement {
    const known = this.#epochs.get(number);
    if (known !== undefined && known.slots === slots) return known.advertisement;
    if (known !== undefined || [...this.#epochs.keys()].some((other) => other > number)) throw unknownEpoch(number);
    const { threshold, quorum: minimum } = this.#plan;
    const { roster, rosterHash, name } = this.#party;
    const participant = new EpochParticipant(
      {
        ...{ planHash: this.#planHash, epoch: number, threshold, minimum, slots },
        rosterHash: new Uint8Array(Buffer.from(rosterHash, 'hex')),
        roster: roster.sites.map(({ id }) => id),
      },
      name,
      this.#random,
    );
    const advertisement = participant.advertise();
    this.#epochs.set(number, { slots, participant, advertisement });
    this.#forget(number - KEPT_EPOCHS);
    return advertisement;
  }

  /** @throws FederationError EPOCH_UNKNOWN: made by a process before this one, or too long ago. */
  participant(epoch: number): EpochParticipant {
    const known = this.#epochs.get(epoch);
    if (known === undefined) throw unknownEpoch(epoch);
    return known.participant;
  }

  slots(epoch: number): number {
    return this.#epochs.get(epoch)?.slots ?? 0;
  }

  find(round: number, attempt: number): OpenSum | undefined {
    return this.#sums.get(`${round}/${attempt}`);
  }

  /**
   * The sum of an attempt, to be kept once it was masked.
   * @throws FederationError ROUND_MISMATCH when the attempt was opened in another epoch or slot; what else differs is found
   *   by the masks, which are bound to everything.
   */
  open(epoch: number, context: SumContext, cosignature: string): OpenSum {
    const participant = this.participant(epoch);
    const { round, attempt, slot } = context;
    const before = this.find(round, attempt);
    if (before !== undefined && (before.epoch !== epoch || before.context.slot !== slot)) {
      throw new FederationError('ROUND_MISMATCH', 'The attempt was opened in another slot.', {
        where: `round ${round}, attempt ${attempt}`,
      });
    }
    // A task that comes again has the same log head, or the sites do not agree.
    const logHead = before?.context.logHead ?? context.logHead;
    return {
      ...{ epoch, participant, context: { ...context, logHead } },
      cosignature: before?.cosignature ?? cosignature,
      agreement: before?.agreement ?? null,
    };
  }

  keep(sum: OpenSum): void {
    const { round, attempt } = sum.context;
    this.#sums.set(`${round}/${attempt}`, sum);
  }

  /** Wipes every secret. */
  close(): void {
    this.#forget(Number.POSITIVE_INFINITY);
  }

  #forget(newest: number): void {
    for (const [number, { participant }] of this.#epochs) {
      if (number > newest) continue;
      participant.close();
      this.#epochs.delete(number);
    }
    for (const [key, { epoch }] of this.#sums) if (epoch <= newest) this.#sums.delete(key);
  }
}

function unknownEpoch(epoch: number): FederationError {
  return new FederationError('EPOCH_UNKNOWN', 'This process has no keys of the epoch.', { where: `epoch ${epoch}` });
}
