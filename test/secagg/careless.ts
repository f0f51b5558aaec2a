/**
 * A site that takes part in an epoch and makes one of the mistakes that secure aggregation has been shipped with. It checks
 * nothing it is told. For attack tests: an attack must succeed on it, or the test proves nothing.
 */
import type { Advertisement, EpochContext, SealedShare } from '../../federated/secagg/epoch.ts';
import { keyListHash, maskKeyOf } from '../../federated/secagg/epoch.ts';
import { privateKey, publicKeyOf } from '../../federated/secagg/keys.ts';
import { applyMasks, type Mask } from '../../federated/secagg/masks.ts';
import { packVector, toRing } from '../../federated/secagg/ring.ts';
import { openShare, placeOf, sealShare, sliceShare, splitSecret } from '../../federated/secagg/shares.ts';
import {
  agreementHash,
  pairMask,
  type Reveal,
  type SumContext,
  selfMask,
  sumHash,
} from '../../federated/secagg/sum.ts';
import { systemRandom } from '../../src/random.ts';
import type { Site } from './epoch.ts';

export type Flaw =
  /** None but that it does whatever it is asked, again and again: both shares of one peer, two sums of a round. */
  | 'obedient'
  /** Mask seeds have 14 bits (shipped ones: 28 to 32). */
  | 'folded'
  /** A mask is one number for all coordinates. */
  | 'scalar'
  /** No mask at all. */
  | 'clear'
  /** One mask key for all slots. */
  | 'oneKey'
  /** Masks do not depend on the model. */
  | 'noModel'
  /** The set-up fails unless every site with keys has sealed shares. */
  | 'allOrNothing';

export class CarelessSite implements Site {
  readonly #context: EpochContext;
  readonly #self: string;
  readonly #flaw: Flaw;
  readonly #channel = random(32);
  readonly #secret: Uint8Array;
  #list: readonly Advertisement[] = [];
  #sealed: SealedShare[] = [];
  readonly #held = new Map<string, Uint8Array>();
  #survivors: readonly string[] = [];

  constructor(context: EpochContext, self: string, flaw: Flaw) {
    this.#context = context;
    this.#self = self;
    this.#flaw = flaw;
    this.#secret = random(placeOf(context.slots, 'key'));
    if (flaw === 'oneKey') {
      for (let slot = 1; slot < context.slots; slot++) {
        this.#secret.set(this.#secret.subarray(0, 32), placeOf(slot, 'key'));
      }
    }
  }

  advertise(): Advertisement {
    const keys = Array.from({ length: this.#context.slots }, (_, slot) => publicKeyOf(this.#part(slot, 'key')));
    return { site: this.#self, channelKey: publicKeyOf(this.#channel), maskKeys: new Uint8Array(Buffer.concat(keys)) };
  }

  async seal(list: readonly Advertisement[]) {
    const listHash = keyListHash(list, this.#context);
    if (this.#list.length === 0) {
      this.#list = list;
      const shares = await splitSecret(this.#secret, list.length, this.#context.threshold);
      list.forEach(({ site, channelKey }, at) => {
        if (site === this.#self) this.#held.set(site, shares[at]);
        else this.#sealed.push({ site, sealed: sealShare(shares[at], this.#to(site, channelKey)) });
      });
    }
    return { listHash, shares: this.#sealed };
  }

  accept(delivered: readonly SealedShare[]): void {
    for (const { site, sealed } of delivered) {
      const sender = this.#list.find((keys) => keys.site === site)!;
      const channel = { ...this.#to(site, sender.channelKey), from: site, to: this.#self };
      this.#held.set(site, openShare(sealed, channel));
    }
    if (this.#flaw === 'allOrNothing' && this.#held.size < this.#list.length) throw new TypeError('set-up aborted');
  }

  mask(sum: SumContext, values: Float64Array): Uint8Array {
    const words = toRing(values, sum.bits);
    if (this.#flaw === 'clear') return packVector(words, sum.bits);
    const masking = { salt: this.#context.rosterHash, name: this.#name(sum), members: sum.members };
    const secret = privateKey(this.#part(sum.slot, 'key'));
    const masks = this.#list
      .filter(({ site }) => site !== this.#self && sum.members.includes(site))
      .map((peer) => pairMask(masking, this.#self, peer.site, secret, maskKeyOf(peer, sum.slot)))
      .map((mask) => (this.#flaw === 'folded' ? { ...mask, seed: foldedSeed(mask.seed) } : mask));
    const own: Mask = selfMask(masking, this.#self, this.#part(sum.slot, 'seed'));
    if (this.#flaw === 'scalar') {
      const one = new Uint32Array(1);
      applyMasks(one, [...masks, own]);
      for (let at = 0; at < words.length; at++) words[at] += one[0];
    } else {
      applyMasks(words, [...masks, own]);
    }
    return packVector(words, sum.bits);
  }

  agree(sum: SumContext, survivors: readonly string[]): Uint8Array {
    this.#survivors = survivors;
    return agreementHash(this.#name(sum), survivors, sum.logHead);
  }

  agreeOnAll(sum: SumContext): Uint8Array {
    return agreementHash(this.#name(sum), sum.members, sum.logHead);
  }

  reveal(sum: SumContext): Reveal {
    const open = (sites: readonly string[], part: 'key' | 'seed') =>
      sites.map((site) => ({ site, share: sliceShare(this.#held.get(site)!, sum.slot, part) }));
    const missing = sum.members.filter((site) => !this.#survivors.includes(site));
    return { selfShares: open(this.#survivors, 'seed'), keyShares: open(missing, 'key') };
  }

  #name(sum: SumContext): Uint8Array {
    const told = this.#flaw === 'noModel' ? { ...sum, stateHash: new Uint8Array(32) } : sum;
    return sumHash(this.#context, keyListHash(this.#list, this.#context), told);
  }

  #part(slot: number, part: 'key' | 'seed'): Uint8Array {
    return this.#secret.subarray(placeOf(slot, part), placeOf(slot, part) + 32);
  }

  #to(site: string, publicKey: Uint8Array) {
    const listHash = keyListHash(this.#list, this.#context);
    const secret = privateKey(this.#channel);
    return { context: this.#context, listHash, from: this.#self, to: site, secret, publicKey };
  }
}

/** What is left of a seed that was folded to 14 bits: the rest is zero. */
export function foldedSeed(seed: Uint8Array): Uint8Array {
  const folded = new Uint8Array(32);
  folded[0] = seed[0];
  folded[1] = seed[1] & 0x3f;
  return folded;
}

function random(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  systemRandom().fill(bytes);
  return bytes;
}
