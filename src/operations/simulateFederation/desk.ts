/**
 * What the simulated aggregator has on disk for the round that is open, and the sum it rebuilds from it in memory.
 *
 * Messages are kept as they came. A sum is made of them again after the aggregator was started anew, as the real one
 * does from its database.
 */

import { SumAggregator } from '../../../federated/secagg/aggregator.ts';
import type { Advertisement, EpochContext } from '../../../federated/secagg/epoch.ts';
import type { Reveal, SumContext } from '../../../federated/secagg/sum.ts';
import type { Message } from './messages.ts';

export interface EpochRecord {
  readonly number: number;
  /** By site: its keys, the message that brought them, and the process that holds the secrets. */
  readonly keys: Map<string, { advertisement: Advertisement; message: Message; incarnation: string }>;
  /** Sites of the key list, roster order; empty until it is fixed. */
  list: string[];
  /** By sender, its shares by receiver. */
  readonly shares: Map<string, ReadonlyMap<string, Uint8Array>>;
  /** Sites whose shares all others hold, roster order; empty until it is fixed. */
  holders: string[];
  nextSlot: number;
  /** Sites that have shown by an input that they hold their shares. */
  readonly seated: Set<string>;
}

export function newEpoch(number: number): EpochRecord {
  return { number, keys: new Map(), list: [], shares: new Map(), holders: [], nextSlot: 0, seated: new Set() };
}

/** One attempt of a masked round. */
export class Attempt {
  readonly sum: SumContext;
  readonly epoch: EpochRecord;
  readonly inputs = new Map<string, Uint8Array>();
  readonly agreements = new Map<string, { bytes: Uint8Array; message: Message }>();
  readonly reveals = new Map<string, Reveal>();
  /** Whose inputs are in the sum, roster order; empty until it is fixed. */
  survivors: string[] = [];
  readonly #context: EpochContext;
  readonly #quorum: number;
  #memory: SumAggregator | null = null;

  constructor(context: EpochContext, quorum: number, epoch: EpochRecord, sum: SumContext) {
    this.#context = context;
    this.#quorum = quorum;
    this.epoch = epoch;
    this.sum = sum;
  }

  /** Takes a message in; the same again changes nothing. @throws SecaggError for another or a wrong one. */
  input(site: string, packed: Uint8Array): void {
    this.#sums().input(site, packed);
    this.inputs.set(site, packed);
  }

  closeInputs(): string[] {
    this.survivors = this.#sums().closeInputs(this.#quorum);
    return this.survivors;
  }

  agreement(site: string, bytes: Uint8Array, message: Message): void {
    this.#sums().agreement(site, bytes);
    this.agreements.set(site, { bytes, message });
  }

  reveal(site: string, reveal: Reveal): void {
    this.#sums().reveal(site, reveal);
    this.reveals.set(site, reveal);
  }

  canUnmask(): boolean {
    return this.#sums().canUnmask();
  }

  unmask(): Promise<Float64Array> {
    return this.#sums().unmask();
  }

  /** The process that held the sum is gone. */
  forget(): void {
    this.#memory = null;
  }

  #sums(): SumAggregator {
    if (this.#memory !== null) return this.#memory;
    const { list, keys } = this.epoch;
    // Safe: the list holds sites whose keys are there.
    const advertisements = list.map((site) => keys.get(site)!.advertisement);
    const memory = new SumAggregator(this.#context, advertisements, this.sum);
    for (const [site, packed] of this.inputs) memory.input(site, packed);
    if (this.survivors.length > 0) memory.closeInputs(this.#quorum);
    for (const [site, { bytes }] of this.agreements) memory.agreement(site, bytes);
    for (const [site, reveal] of this.reveals) memory.reveal(site, reveal);
    this.#memory = memory;
    return memory;
  }
}
