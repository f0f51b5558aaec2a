/**
 * An epoch: one set-up of keys for many sums, after Bonawitz et al., "Practical Secure Aggregation", CCS 2017, rounds 0
 * and 1 of figure 4. Each sum uses one of the epoch's slots; each slot has mask keys and self-mask seeds of its own, so
 * what is opened to unmask one sum opens no other.
 */
import { SecaggError } from '../../src/errors.ts';
import { checkPublicKey, KEY_BYTES } from './keys.ts';
import { equalBytes, hashOf } from './transcript.ts';

/** The protocol's bound of a consortium. */
const MAX_SITES = 100;
const MAX_SLOTS = 4096;

/** What all sites of an epoch know alike. */
export interface EpochContext {
  /** SHA-256 of the roster, 32 bytes. */
  readonly rosterHash: Uint8Array;
  /** 64 hex digits. */
  readonly planHash: string;
  readonly epoch: number;
  /** Shares that open a secret, and sites that must agree on a sum. At least 2 and more than half of the sites with keys. */
  readonly threshold: number;
  /** Fewest sites with keys, fewest members of a sum, and fewest inputs in it: the plan's quorum. */
  readonly minimum: number;
  /** Sums the epoch can make. */
  readonly slots: number;
  /** All site ids in roster order, which fixes the order of members. */
  readonly roster: readonly string[];
}

/** The public keys of a site, X25519. */
export interface Advertisement {
  readonly site: string;
  /** 32 bytes: seals shares. */
  readonly channelKey: Uint8Array;
  /** 32 bytes for each slot, one after the other. */
  readonly maskKeys: Uint8Array;
}

/** Shares of a site's secrets for one other site. */
export interface SealedShare {
  /** Receiver when sent, sender when delivered. */
  readonly site: string;
  readonly sealed: Uint8Array;
}

/** @throws SecaggError SECAGG_CONTEXT. */
export function checkEpoch(context: EpochContext): void {
  const { rosterHash, planHash, epoch, threshold, minimum, slots, roster } = context;
  const rules: [string, boolean][] = [
    ['rosterHash', rosterHash.length === 32],
    ['planHash', /^[0-9a-f]{64}$/.test(planHash)],
    ['epoch', Number.isInteger(epoch) && epoch >= 0 && epoch < 2 ** 32],
    ['roster', roster.length >= 2 && roster.length <= MAX_SITES && new Set(roster).size === roster.length],
    ['threshold', Number.isInteger(threshold) && threshold >= 2 && threshold <= roster.length],
    ['minimum', Number.isInteger(minimum) && minimum >= 1 && minimum <= roster.length],
    ['slots', Number.isInteger(slots) && slots >= 1 && slots <= MAX_SLOTS],
  ];
  const wrong = rules.find(([, holds]) => !holds);
  if (wrong) throw new SecaggError('SECAGG_CONTEXT', 'The epoch is not one that can be made.', { where: wrong[0] });
}

/** Sites sorted as in the roster. @throws SecaggError SECAGG_CONTEXT for a site twice or not in the roster. */
export function inRosterOrder(sites: Iterable<string>, roster: readonly string[]): string[] {
  const list = [...sites];
  const set = new Set(list);
  const ordered = roster.filter((site) => set.has(site));
  if (ordered.length !== list.length) {
    throw new SecaggError('SECAGG_CONTEXT', 'A list of sites names one twice, or one that the roster does not.', {
      where: 'sites',
    });
  }
  return ordered;
}

/** The public mask key of a slot. */
export function maskKeyOf(advertisement: Advertisement, slot: number): Uint8Array {
  return advertisement.maskKeys.subarray(slot * KEY_BYTES, (slot + 1) * KEY_BYTES);
}

/**
 * Checks the keys of an epoch as a site must: known sites, each once, in roster order, as many as the plan wants, and no
 * key twice anywhere.
 * @throws SecaggError SECAGG_KEYS.
 */
export function checkKeyList(list: readonly Advertisement[], context: EpochContext): void {
  const { roster, threshold, minimum, slots } = context;
  const order = list.map(({ site }) => roster.indexOf(site));
  if (order.some((place, at) => place < 0 || (at > 0 && place <= order[at - 1]))) {
    throw refused('The list of keys is not of roster sites, each once, in roster order.');
  }
  if (list.length < Math.max(threshold, minimum)) {
    throw refused('The list of keys has fewer sites than the plan allows.');
  }
  // With two groups of `threshold` sites that have none in common, two sums of one slot could be opened.
  if (2 * threshold <= list.length) throw refused('The threshold is not more than half of the sites with keys.');
  const seen = new Set<string>();
  for (const advertisement of list) {
    const { site, channelKey, maskKeys } = advertisement;
    if (maskKeys.length !== slots * KEY_BYTES) throw refused('A site has keys for another number of slots.', site);
    for (let slot = -1; slot < slots; slot++) {
      const key = slot < 0 ? channelKey : maskKeyOf(advertisement, slot);
      checkPublicKey(key, site);
      const name = Buffer.from(key).toString('latin1');
      if (seen.has(name)) throw refused('A key is in the list twice.', site);
      seen.add(name);
    }
  }
}

/** Names a list of keys in one epoch of one plan. @returns 32 bytes. */
export function keyListHash(list: readonly Advertisement[], context: EpochContext): Uint8Array<ArrayBuffer> {
  const { rosterHash, planHash, epoch, threshold, minimum, slots } = context;
  const head = ['veilrisk/keys/v1', rosterHash, planHash, epoch, threshold, minimum, slots];
  return hashOf([...head, ...list.flatMap(({ site, channelKey, maskKeys }) => [site, channelKey, maskKeys])]);
}

export function sameAdvertisement(a: Advertisement, b: Advertisement): boolean {
  return a.site === b.site && equalBytes(a.channelKey, b.channelKey) && equalBytes(a.maskKeys, b.maskKeys);
}

function refused(message: string, where = 'keys'): SecaggError {
  return new SecaggError('SECAGG_KEYS', message, { where });
}
