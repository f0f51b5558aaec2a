/**
 * A site's side of an epoch and of its sums, as a state machine without I/O: Bonawitz et al., CCS 2017, figure 4, with the
 * consistency check of section 6.2. It never opens both shares of one site in one slot, and never one slot for two
 * contexts, two vectors, two lists of survivors, or two slots for one round.
 *
 * Secrets live in this object only and are never stored: a site that restarts takes part again in the next epoch. What
 * must survive a restart (that a round was opened) is for the caller to note before it sends a reveal.
 *
 * GUARANTEES.md: "Secure aggregation"
 */
import type { KeyObject } from 'node:crypto';
import { SecaggError } from '../../src/errors.ts';
import type { RandomSource } from '../../src/random.ts';
import { sha256 } from '../protocol/canonical.ts';
import {
  type Advertisement,
  checkEpoch,
  checkKeyList,
  type EpochContext,
  inRosterOrder,
  keyListHash,
  maskKeyOf,
  type SealedShare,
  sameAdvertisement,
} from './epoch.ts';
import { KEY_BYTES, privateKey, publicKeyOf } from './keys.ts';
import { applyMasks } from './masks.ts';
import { packVector, toRing } from './ring.ts';
import { SecretBytes } from './secret.ts';
import { type Channel, openShare, placeOf, SLOT_BYTES, sealShare, sliceShare, splitSecret } from './shares.ts';
import { SlotSecrets } from './slotSecrets.ts';
import { agreementHash, checkSum, pairMaskOf, type Reveal, type SumContext, selfMask, sumHash } from './sum.ts';
import { equalBytes, hashOf } from './transcript.ts';

export const GUARANTEE = 'Secure aggregation';

/** The epoch once the list of its keys is known. */
interface Sealing {
  readonly list: readonly Advertisement[];
  readonly listHash: Uint8Array;
  readonly shares: Promise<{ readonly own: SecretBytes; readonly sealed: SealedShare[] }>;
}

/** A slot in use. */
interface Slot {
  readonly name: Uint8Array;
  readonly round: number;
  readonly valuesHash: Uint8Array;
  survivors?: readonly string[];
  agreement?: Uint8Array;
  reveal?: Reveal;
}

export class EpochParticipant {
  readonly #context: EpochContext;
  readonly #self: string;
  /** Channel secret key. */
  readonly #channel: SecretBytes;
  /** Of every slot: mask secret key, self-mask seed. */
  readonly #secret: SecretBytes;
  #advertisement: Advertisement | undefined;
  #sealing: Sealing | undefined;
  /** Shares of the holders' secrets, this site's own included, once delivered. */
  #held: Map<string, SecretBytes> | undefined;
  #ownShare: SecretBytes | undefined;
  #deliveredHash: Uint8Array | undefined;
  readonly #slots = new Map<number, Slot>();
  readonly #shared = new SlotSecrets(
    (slot) => this.#partOf(slot, 'key'),
    (peer, slot) => maskKeyOf(advertised(this.#sealing?.list ?? [], peer), slot),
  );
  /** Round -> slot that was opened for it. */
  readonly #opened = new Map<number, number>();
  #closed = false;

  /** @throws SecaggError SECAGG_CONTEXT. */
  constructor(context: EpochContext, self: string, random: RandomSource) {
    checkEpoch(context);
    if (!context.roster.includes(self)) throw wrongContext('The roster does not name this site.', 'self');
    this.#context = context;
    this.#self = self;
    this.#channel = new SecretBytes(randomBytes(random, KEY_BYTES));
    this.#secret = new SecretBytes(randomBytes(random, context.slots * SLOT_BYTES));
  }

  /** This site's public keys; the same at every call. */
  advertise(): Advertisement {
    this.#checkOpen();
    if (this.#advertisement === undefined) {
      const maskKeys = new Uint8Array(this.#context.slots * KEY_BYTES);
      for (let slot = 0; slot < this.#context.slots; slot++) {
        maskKeys.set(publicKeyOf(this.#partOf(slot, 'key')), slot * KEY_BYTES);
      }
      this.#advertisement = { site: this.#self, channelKey: publicKeyOf(this.#channel.reveal()), maskKeys };
    }
    return this.#advertisement;
  }

  /**
   * Takes the keys of all sites and seals a share of this site's secrets for each other one. The same list gives the same
   * bytes again; another list is refused for ever.
   * @throws SecaggError SECAGG_KEYS, SECAGG_CONTEXT.
   */
  async seal(list: readonly Advertisement[]): Promise<{ listHash: Uint8Array; shares: SealedShare[] }> {
    this.#checkOpen();
    const own = this.advertise();
    const listHash = keyListHash(list, this.#context);
    if (this.#sealing === undefined) {
      checkKeyList(list, this.#context);
      const mine = list.find(({ site }) => site === this.#self);
      if (mine === undefined || !sameAdvertisement(mine, own)) {
        throw new SecaggError('SECAGG_KEYS', "The list does not have this site's own keys.", { where: this.#self });
      }
      // Set before the first pause: two calls at once must not seal two different shares under one key.
      this.#sealing = { list, listHash, shares: this.#sealAll(list, listHash) };
    } else if (!equalBytes(this.#sealing.listHash, listHash)) {
      throw wrongContext('Shares were sealed for another list of keys.', 'keys');
    }
    const { own: ownShare, sealed } = await this.#sealing.shares;
    if (this.#closed) ownShare.wipe();
    this.#checkOpen();
    this.#ownShare = ownShare;
    return { listHash, shares: sealed };
  }

  async #sealAll(list: readonly Advertisement[], listHash: Uint8Array) {
    const channel = privateKey(this.#channel.reveal());
    const split = await splitSecret(this.#secret.reveal(), list.length, this.#context.threshold);
    let own = new SecretBytes(new Uint8Array(0));
    const sealed: SealedShare[] = [];
    list.forEach(({ site, channelKey }, at) => {
      const share = split[at];
      if (site === this.#self) own = new SecretBytes(new Uint8Array(share));
      else sealed.push({ site, sealed: sealShare(share, this.#channelTo(site, channelKey, channel, listHash)) });
      share.fill(0);
    });
    return { own, sealed };
  }

  /**
   * Opens the shares the other sites sealed for this one. Their senders and this site are the epoch's holders. The same
   * again changes nothing; another set is refused.
   * @throws SecaggError SECAGG_SHARES naming the sender, SECAGG_THRESHOLD when there are too few, SECAGG_CONTEXT.
   */
  accept(delivered: readonly SealedShare[]): void {
    this.#checkOpen();
    const sealing = this.#sealing;
    const ownShare = this.#ownShare;
    if (sealing === undefined || ownShare === undefined) throw wrongContext('No shares were sealed yet.', 'shares');
    const senders = inRosterOrder(
      delivered.map(({ site }) => site),
      sealing.list.map(({ site }) => site).filter((site) => site !== this.#self),
    );
    const bySite = new Map(delivered.map(({ site, sealed }) => [site, sealed]));
    const inOrder = senders.map((site) => ({ site, sealed: bySite.get(site) ?? new Uint8Array(0) }));
    const deliveredHash = hashOf(inOrder.flatMap(({ site, sealed }) => [site, sealed]));
    if (this.#deliveredHash !== undefined) {
      if (equalBytes(this.#deliveredHash, deliveredHash)) return;
      throw wrongContext('Other shares were delivered before.', 'shares');
    }
    if (senders.length + 1 < Math.max(this.#context.threshold, this.#context.minimum)) {
      throw new SecaggError('SECAGG_THRESHOLD', 'Too few sites have sealed shares.', {
        where: 'shares',
        fix: 'Start a new epoch when more sites are connected.',
      });
    }
    const channel = privateKey(this.#channel.reveal());
    const held = new Map([[this.#self, ownShare]]);
    for (const { site, sealed } of inOrder) {
      const { channelKey } = advertised(sealing.list, site);
      const opening = { ...this.#channelTo(site, channelKey, channel, sealing.listHash), from: site, to: this.#self };
      held.set(site, new SecretBytes(openShare(sealed, opening)));
    }
    this.#held = held;
    this.#deliveredHash = deliveredHash;
    // Each channel has carried all it ever will.
    this.#channel.wipe();
  }

  /**
   * Masks a vector for one sum. @param values exact integers, |x| < 2^(bits-1). @returns `dimension` integers, packed.
   * The same context and vector give the same bytes until the sum is opened; anything else in the slot is refused.
   * @throws SecaggError SECAGG_CONTEXT, SECAGG_RANGE.
   */
  mask(context: SumContext, values: Float64Array): Uint8Array {
    const { held } = this.#ready();
    const name = this.#nameOf(context);
    this.#checkRound(context);
    if (!context.members.includes(this.#self)) throw wrongContext('This site is not a member of the sum.', 'members');
    if (!context.members.every((site) => held.has(site))) {
      throw wrongContext('A member of the sum gave this site no shares.', 'members');
    }
    if (values.length !== context.dimension) throw wrongContext('The vector has another dimension.', 'dimension');
    const words = toRing(values, context.bits);
    const valuesHash = sha256(new Uint8Array(words.buffer));
    const slot = this.#slots.get(context.slot);
    if (slot === undefined) this.#slots.set(context.slot, { name, round: context.round, valuesHash });
    else this.#checkSame(slot, name, valuesHash);
    if (slot?.reveal) throw wrongContext('The sum of this slot has been opened.', 'slot');

    const masking = { salt: this.#context.rosterHash, name, members: context.members };
    const peers = context.members.filter((site) => site !== this.#self);
    const shared = this.#shared.of(context.slot, peers);
    const masks = peers.map((peer, at) => pairMaskOf(masking, this.#self, peer, shared[at]));
    masks.push(selfMask(masking, this.#self, this.#partOf(context.slot, 'seed')));
    applyMasks(words, masks);
    for (const { seed } of masks) seed.fill(0);
    return packVector(words, context.bits);
  }

  /**
   * Works out the secrets this site shares in a slot with the other holders, so that its next input need not wait for
   * them. Changes nothing else; does nothing for a slot there is not, or before the epoch is set up.
   */
  prepare(slot: number): void {
    if (this.#closed || this.#held === undefined || slot >= this.#context.slots || this.#slots.has(slot)) return;
    this.#shared.of(
      slot,
      [...this.#held.keys()].filter((site) => site !== this.#self),
    );
  }

  /**
   * Agrees that the sum is over these survivors. Once for each slot: the same survivors give the first agreement again,
   * with the log head it was made with; others are refused.
   * @param quorum fewest survivors this site's policy wants. @returns 32 bytes.
   * @throws SecaggError SECAGG_CONTEXT, SECAGG_THRESHOLD.
   */
  agree(context: SumContext, survivors: readonly string[], quorum: number): Uint8Array {
    const slot = this.#masked(context);
    this.#checkRound(context);
    const ordered = inRosterOrder(survivors, context.members);
    if (ordered.some((site, at) => site !== survivors[at])) {
      throw wrongContext('The survivors are not in roster order.', 'survivors');
    }
    if (!ordered.includes(this.#self)) throw wrongContext("This site's input is not in the sum.", 'survivors');
    if (ordered.length < Math.max(quorum, this.#context.minimum, this.#context.threshold)) {
      throw new SecaggError('SECAGG_THRESHOLD', 'The sum is over fewer sites than the plan allows.', {
        where: 'survivors',
      });
    }
    const agreement = agreementHash(slot.name, ordered, context.logHead);
    if (slot.agreement === undefined || slot.survivors === undefined) {
      slot.survivors = ordered;
      slot.agreement = agreement;
    } else if (slot.survivors.join() !== ordered.join()) {
      throw new SecaggError('SECAGG_AGREEMENT', 'This site agreed on other survivors of the same sum.', {
        where: 'survivors',
        fix: 'Ask the operator: the aggregator has told two stories.',
      });
    }
    return slot.agreement;
  }

  /**
   * Agrees that the sum is over all its members, as far as this site can tell when it has masked its own input. Binds it to
   * nothing: it may still agree on fewer, and opens the sum for one of the two.
   * @returns 32 bytes. @throws SecaggError SECAGG_CONTEXT, SECAGG_AGREEMENT after an agreement on fewer.
   */
  agreeOnAll(context: SumContext): Uint8Array {
    const slot = this.#masked(context);
    this.#checkRound(context);
    if (slot.survivors !== undefined && slot.survivors.length < context.members.length) {
      throw new SecaggError('SECAGG_AGREEMENT', 'This site agreed on fewer survivors of the same sum.', {
        where: 'survivors',
      });
    }
    return slot.agreement ?? agreementHash(slot.name, context.members, context.logHead);
  }

  /**
   * Opens what the sum needs: of each member either the share of its seed or that of its mask key.
   * @param agreements of survivors, signatures checked by the caller; this site's own may be among them and counts anyway.
   * @throws SecaggError SECAGG_AGREEMENT when one differs or there are fewer than the threshold, SECAGG_CONTEXT.
   */
  reveal(context: SumContext, agreements: readonly { site: string; agreement: Uint8Array }[]): Reveal {
    const slot = this.#masked(context);
    this.#checkRound(context);
    // Without an agreement on some of them, only one on all members can be meant.
    const { survivors = context.members, agreement = this.agreeOnAll(context) } = slot;
    const agreeing = new Set([this.#self]);
    const named = new Set<string>();
    for (const { site, agreement: other } of agreements) {
      if (!survivors.includes(site) || named.has(site) || !equalBytes(other, agreement)) {
        throw new SecaggError('SECAGG_AGREEMENT', "An agreement is not a survivor's, is there twice, or differs.", {
          where: site,
          fix: 'Ask the operator: the aggregator or that site has told two stories.',
        });
      }
      named.add(site);
      agreeing.add(site);
    }
    if (agreeing.size < this.#context.threshold) {
      throw new SecaggError('SECAGG_AGREEMENT', 'Fewer survivors than the threshold agree.', { where: 'agreement' });
    }
    if (slot.reveal === undefined) {
      const { held } = this.#ready();
      const open = (part: 'key' | 'seed', sites: readonly string[]) =>
        sites.map((site) => ({ site, share: sliceShare(shareOf(held, site), context.slot, part) }));
      const missing = context.members.filter((site) => !survivors.includes(site));
      slot.survivors = survivors;
      slot.agreement = agreement;
      slot.reveal = { selfShares: open('seed', survivors), keyShares: open('key', missing) };
      this.#opened.set(context.round, context.slot);
      this.#shared.forget(context.slot);
      // The slot is spent: neither its masks nor its other shares are needed again.
      this.#secret.reveal(placeOf(context.slot, 'key'), placeOf(context.slot + 1, 'key')).fill(0);
      for (const share of held.values()) {
        share.reveal(placeOf(context.slot, 'key'), placeOf(context.slot + 1, 'key')).fill(0);
      }
    }
    return slot.reveal;
  }

  /** Wipes all secrets; nothing works afterwards. */
  close(): void {
    this.#closed = true;
    this.#channel.wipe();
    this.#secret.wipe();
    this.#ownShare?.wipe();
    for (const share of this.#held?.values() ?? []) share.wipe();
    this.#shared.forget();
    this.#slots.clear();
  }

  #checkOpen(): void {
    if (this.#closed) throw wrongContext('The epoch has been closed at this site.', 'epoch');
  }

  #ready() {
    this.#checkOpen();
    if (this.#sealing === undefined || this.#held === undefined) {
      throw wrongContext('The epoch is not set up at this site.', 'epoch');
    }
    return { list: this.#sealing.list, listHash: this.#sealing.listHash, held: this.#held };
  }

  #nameOf(context: SumContext): Uint8Array {
    const { listHash } = this.#ready();
    checkSum(context, this.#context);
    return sumHash(this.#context, listHash, context);
  }

  #masked(context: SumContext): Slot {
    const name = this.#nameOf(context);
    const slot = this.#slots.get(context.slot);
    if (slot === undefined) throw wrongContext('This site masked nothing in the slot.', 'slot');
    this.#checkSame(slot, name, slot.valuesHash);
    return slot;
  }

  #checkSame(slot: Slot, name: Uint8Array, valuesHash: Uint8Array): void {
    if (!equalBytes(slot.name, name)) throw wrongContext('The slot was used for another sum.', 'slot');
    if (!equalBytes(slot.valuesHash, valuesHash)) throw wrongContext('The slot masked another vector.', 'slot');
  }

  /** The same vector in two opened sums over different sites would show what one of them gave. */
  #checkRound({ round, slot }: SumContext): void {
    const opened = this.#opened.get(round);
    if (opened !== undefined && opened !== slot) throw wrongContext('A sum of this round was opened before.', 'round');
  }

  #partOf(slot: number, part: 'key' | 'seed'): Uint8Array {
    return this.#secret.reveal(placeOf(slot, part), placeOf(slot, part) + KEY_BYTES);
  }

  #channelTo(site: string, publicKey: Uint8Array, secret: KeyObject, listHash: Uint8Array): Channel {
    return { context: this.#context, listHash, from: this.#self, to: site, secret, publicKey };
  }
}

function advertised(list: readonly Advertisement[], site: string): Advertisement {
  const found = list.find((advertisement) => advertisement.site === site);
  if (found === undefined) throw wrongContext('A site has no keys in this epoch.', site);
  return found;
}

function shareOf(held: ReadonlyMap<string, SecretBytes>, site: string): Uint8Array {
  const share = held.get(site);
  if (share === undefined) throw wrongContext('A member of the sum gave this site no shares.', site);
  return share.reveal();
}

function randomBytes(random: RandomSource, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  random.fill(bytes);
  return bytes;
}

function wrongContext(message: string, where: string): SecaggError {
  return new SecaggError('SECAGG_CONTEXT', message, { where });
}
