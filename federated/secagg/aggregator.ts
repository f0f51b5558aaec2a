/**
 * The aggregator's side of one sum, as a state machine without I/O: collects masked inputs, agreements and opened shares,
 * and takes the masks off the sum (Bonawitz et al., CCS 2017, figure 4, server).
 *
 * It holds no secret of a single site. Receiving the same again changes nothing, receiving something else is refused, so
 * a crashed aggregator rebuilds it from stored messages.
 *
 * GUARANTEES.md: "Secure aggregation"
 */
import { SecaggError } from '../../src/errors.ts';
import { sha256 } from '../protocol/canonical.ts';
import { type Advertisement, checkEpoch, checkKeyList, type EpochContext, keyListHash, maskKeyOf } from './epoch.ts';
import { privateKey, publicKeyOf } from './keys.ts';
import { applyMasks, type Mask } from './masks.ts';
import { fromRing, unpackVector } from './ring.ts';
import { OPENED_BYTES, recover } from './shares.ts';
import { checkSum, type OpenedShare, pairMask, type Reveal, type SumContext, selfMask, sumHash } from './sum.ts';
import { equalBytes, hashOf } from './transcript.ts';

export class SumAggregator {
  readonly #context: EpochContext;
  readonly #keys: ReadonlyMap<string, Advertisement>;
  readonly #sum: SumContext;
  /** `sumHash`. */
  readonly #name: Uint8Array;
  /** Sum of all inputs, masks and all. */
  readonly #total: Uint32Array;
  /** Site -> SHA-256 of its input. */
  readonly #inputs = new Map<string, Uint8Array>();
  #survivors: readonly string[] | undefined;
  readonly #agreements = new Map<string, Uint8Array>();
  readonly #reveals = new Map<string, { hash: Uint8Array; reveal: Reveal }>();

  /**
   * @param keys of all sites of the epoch, the very list they sealed shares for, not only of the sum's members.
   * @throws SecaggError SECAGG_CONTEXT, SECAGG_KEYS.
   */
  constructor(context: EpochContext, keys: readonly Advertisement[], sum: SumContext) {
    checkEpoch(context);
    checkKeyList(keys, context);
    checkSum(sum, context);
    this.#context = context;
    this.#keys = new Map(keys.map((advertisement) => [advertisement.site, advertisement]));
    if (!sum.members.every((site) => this.#keys.has(site))) {
      throw new SecaggError('SECAGG_CONTEXT', 'A member of the sum has no keys in this epoch.', { where: 'members' });
    }
    this.#sum = sum;
    this.#name = sumHash(context, keyListHash(keys, context), sum);
    this.#total = new Uint32Array(sum.dimension);
  }

  /** @param packed `dimension` integers of `bits` bits. @throws SecaggError SECAGG_CONTEXT, SECAGG_RANGE. */
  input(site: string, packed: Uint8Array): void {
    this.#among(site, this.#sum.members, 'members');
    const hash = sha256(packed);
    if (this.#known(this.#inputs.get(site), hash, site)) return;
    if (this.#survivors !== undefined) throw refused('The inputs of the sum are closed.', site);
    const words = unpackVector(packed, this.#sum.dimension, this.#sum.bits);
    for (let at = 0; at < words.length; at++) this.#total[at] += words[at];
    this.#inputs.set(site, hash);
  }

  /** Sites whose inputs are here, roster order. */
  inputs(): string[] {
    return this.#sum.members.filter((site) => this.#inputs.has(site));
  }

  /**
   * Takes no more inputs. @param quorum fewest inputs. @returns the survivors, roster order; the same at every call.
   * @throws SecaggError SECAGG_THRESHOLD; inputs may then still come.
   */
  closeInputs(quorum: number): string[] {
    const inputs = this.inputs();
    if (inputs.length < Math.max(quorum, this.#context.threshold, this.#context.minimum)) {
      throw new SecaggError('SECAGG_THRESHOLD', 'Too few inputs for a sum.', { where: 'inputs' });
    }
    this.#survivors = inputs;
    return inputs;
  }

  /** @throws SecaggError SECAGG_CONTEXT unless inputs are closed and the site is a survivor. */
  agreement(site: string, bytes: Uint8Array): void {
    this.#among(site, this.#closed(), 'survivors');
    if (bytes.length !== 32) throw refused('An agreement is not 32 bytes long.', site);
    if (this.#known(this.#agreements.get(site), bytes, site)) return;
    this.#agreements.set(site, new Uint8Array(bytes));
  }

  /**
   * The largest group of survivors that agree on the same, roster order: only their agreements are to be shown to sites.
   * Enough when it has the threshold's size.
   */
  agreed(): string[] {
    const groups = new Map<string, string[]>();
    for (const site of this.#sum.members) {
      const agreement = this.#agreements.get(site);
      if (agreement === undefined) continue;
      const name = Buffer.from(agreement).toString('hex');
      groups.set(name, [...(groups.get(name) ?? []), site]);
    }
    return [...groups.values()].reduce((most, group) => (group.length > most.length ? group : most), []);
  }

  /** @throws SecaggError SECAGG_SHARES unless there is one share for each member, of the right kind; SECAGG_CONTEXT. */
  reveal(site: string, reveal: Reveal): void {
    const survivors = this.#closed();
    this.#among(site, survivors, 'survivors');
    const missing = this.#sum.members.filter((member) => !survivors.includes(member));
    if (!covers(reveal.selfShares, survivors) || !covers(reveal.keyShares, missing)) {
      throw new SecaggError('SECAGG_SHARES', 'A site did not open just the shares the sum needs.', { where: site });
    }
    const fields = (shares: readonly OpenedShare[]) => shares.flatMap((opened) => [opened.site, opened.share]);
    const hash = hashOf([...fields(reveal.selfShares), 'keys', ...fields(reveal.keyShares)]);
    if (this.#known(this.#reveals.get(site)?.hash, hash, site)) return;
    this.#reveals.set(site, { hash, reveal });
  }

  /** Sites that have opened their shares, roster order. */
  revealed(): string[] {
    return this.#sum.members.filter((site) => this.#reveals.has(site));
  }

  canUnmask(): boolean {
    return this.#reveals.size >= this.#context.threshold;
  }

  /**
   * The sum of the survivors' vectors, centred: exact as long as it lies in [-2^(bits-1), 2^(bits-1)).
   * @throws SecaggError SECAGG_THRESHOLD when too few have revealed; SECAGG_SHARES when a secret does not come out, in
   * which case further reveals may help.
   */
  async unmask(): Promise<Float64Array> {
    const survivors = this.#closed();
    if (!this.canUnmask()) {
      throw new SecaggError('SECAGG_THRESHOLD', 'Too few survivors have opened their shares.', { where: 'reveals' });
    }
    const { slot, members, bits } = this.#sum;
    const masking = { salt: this.#context.rosterHash, name: this.#name, members };
    const total = this.#total.slice();
    const masks: Mask[] = [];
    for (const owner of members) {
      if (survivors.includes(owner)) {
        const seed = recover(this.#opened('selfShares', owner), this.#context.threshold, owner);
        masks.push(opposite(selfMask(masking, owner, seed)));
        seed.fill(0);
      } else {
        const publicKey = this.#maskKey(owner, slot);
        const fits = (secret: Uint8Array) => equalBytes(publicKeyOf(secret), publicKey);
        const secret = recover(this.#opened('keyShares', owner), this.#context.threshold, owner, fits);
        const key = privateKey(secret);
        secret.fill(0);
        // What the missing member would have added is what is left of its peers' masks.
        for (const peer of survivors) masks.push(pairMask(masking, owner, peer, key, this.#maskKey(peer, slot)));
      }
    }
    applyMasks(total, masks);
    for (const { seed } of masks) seed.fill(0);
    return fromRing(total, bits);
  }

  #opened(list: 'selfShares' | 'keyShares', owner: string): Uint8Array[] {
    return this.revealed().flatMap((site) =>
      (this.#reveals.get(site)?.reveal[list] ?? []).filter((opened) => opened.site === owner).map(({ share }) => share),
    );
  }

  #maskKey(site: string, slot: number): Uint8Array {
    const advertisement = this.#keys.get(site);
    if (advertisement === undefined) throw refused('A site has no keys in this epoch.', site);
    return maskKeyOf(advertisement, slot);
  }

  #closed(): readonly string[] {
    if (this.#survivors === undefined) throw refused('The inputs of the sum are not closed.', 'inputs');
    return this.#survivors;
  }

  #among(site: string, sites: readonly string[], where: string): void {
    if (!sites.includes(site)) throw refused('A site is not part of this step of the sum.', `${where}: ${site}`);
  }

  /** Whether the same came before. @throws SecaggError SECAGG_CONTEXT when something else did. */
  #known(before: Uint8Array | undefined, now: Uint8Array, site: string): boolean {
    if (before === undefined) return false;
    if (equalBytes(before, now)) return true;
    throw refused('A site sent something else before in this step of the sum.', site);
  }
}

function covers(shares: readonly OpenedShare[], sites: readonly string[]): boolean {
  const named = new Set(shares.map(({ site }) => site));
  return (
    shares.length === sites.length &&
    sites.every((site) => named.has(site)) &&
    shares.every(({ share }) => share.length === OPENED_BYTES)
  );
}

function opposite({ seed, sign }: Mask): Mask {
  return { seed, sign: sign === 1 ? -1 : 1 };
}

function refused(message: string, where: string): SecaggError {
  return new SecaggError('SECAGG_CONTEXT', message, { where });
}
