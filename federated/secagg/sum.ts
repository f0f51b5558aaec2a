/**
 * One sum of an epoch: what it is over, what its masks are derived from, and what its members agree on.
 *
 * The mask two sites share depends on everything in `SumContext` but the log head, the model the round starts from
 * included: masks cancel only among sites that were told the same, which is what stops an aggregator from showing
 * one site another model (Pasquini, Francati, Ateniese, arXiv 2111.07380).
 */

import type { KeyObject } from 'node:crypto';
import { SecaggError } from '../../src/errors.ts';
import { frame } from '../protocol/canonical.ts';
import { type EpochContext, inRosterOrder } from './epoch.ts';
import { derivedKey, sharedSecret } from './keys.ts';
import type { Mask } from './masks.ts';
import { MAX_BITS, MAX_DIMENSION, MIN_BITS } from './ring.ts';
import { hashOf } from './transcript.ts';

export interface SumContext {
  readonly round: number;
  readonly attempt: number;
  /** A slot serves one attempt of one round, ever. */
  readonly slot: number;
  /** Names the model the round starts from, 32 bytes. */
  readonly stateHash: Uint8Array;
  /** Sites whose masks the inputs carry, roster order. */
  readonly members: readonly string[];
  readonly dimension: number;
  /** Sums are modulo 2^bits, 16 to 32. */
  readonly bits: number;
  /**
   * 32 bytes: SHA-256 of "size\nroot-base64\n" of the aggregator's log that the site has verified when it agrees, or
   * zeros. It counts in the agreement only; at other steps it may be anything of 32 bytes.
   */
  readonly logHead: Uint8Array;
}

/** A share of one secret: 32 bytes and its x coordinate. */
export interface OpenedShare {
  readonly site: string;
  readonly share: Uint8Array;
}

/** What a survivor opens of a sum. No site is in both lists. */
export interface Reveal {
  /** Of the self-mask seeds of survivors, roster order. */
  selfShares: OpenedShare[];
  /** Of the mask keys of members whose input is missing, roster order. */
  keyShares: OpenedShare[];
}

/** @throws SecaggError SECAGG_CONTEXT. */
export function checkSum(sum: SumContext, context: EpochContext): void {
  const { round, attempt, slot, stateHash, members, dimension, bits, logHead } = sum;
  const isCount = (value: number) => Number.isInteger(value) && value >= 0 && value < 2 ** 32;
  const ordered = inRosterOrder(members, context.roster);
  const rules: [string, boolean][] = [
    ['round', isCount(round)],
    ['attempt', isCount(attempt)],
    ['slot', isCount(slot) && slot < context.slots],
    ['stateHash', stateHash.length === 32],
    ['members', ordered.every((site, at) => site === members[at])],
    ['members', members.length >= Math.max(context.threshold, context.minimum)],
    ['dimension', Number.isInteger(dimension) && dimension >= 1 && dimension <= MAX_DIMENSION],
    ['bits', Number.isInteger(bits) && bits >= MIN_BITS && bits <= MAX_BITS],
    ['logHead', logHead.length === 32],
  ];
  const wrong = rules.find(([, holds]) => !holds);
  if (wrong) throw new SecaggError('SECAGG_CONTEXT', 'The sum is not one that can be made.', { where: wrong[0] });
}

/** Names a sum in one epoch with one list of keys: all of `SumContext` but the log head. @returns 32 bytes. */
export function sumHash(context: EpochContext, listHash: Uint8Array, sum: SumContext): Uint8Array<ArrayBuffer> {
  const { round, attempt, slot, stateHash, members, dimension, bits } = sum;
  const epoch = [context.rosterHash, context.planHash, context.epoch, listHash];
  return hashOf(['veilrisk/sum/v1', ...epoch, slot, round, attempt, stateHash, dimension, bits, ...members]);
}

/** What a survivor signs: this sum, these survivors, this log. @returns 32 bytes. */
export function agreementHash(name: Uint8Array, survivors: readonly string[], logHead: Uint8Array): Uint8Array {
  return hashOf(['veilrisk/agreement/v1', name, logHead, ...survivors]);
}

/** Everything the masks of a sum are derived from, besides secrets. */
export interface MaskContext {
  readonly salt: Uint8Array;
  /** `sumHash`. */
  readonly name: Uint8Array;
  /** Members in roster order. */
  readonly members: readonly string[];
}

/** The mask in the input of `owner` that `peer`'s cancels. @param secret of either of the two. @param publicKey of the other. */
export function pairMask(
  context: MaskContext,
  owner: string,
  peer: string,
  secret: KeyObject,
  publicKey: Uint8Array,
): Mask {
  const shared = sharedSecret(secret, publicKey);
  const mask = pairMaskOf(context, owner, peer, shared);
  shared.fill(0);
  return mask;
}

/** The same. @param shared the X25519 secret of the two in the sum's slot. */
export function pairMaskOf(context: MaskContext, owner: string, peer: string, shared: Uint8Array): Mask {
  const ownerFirst = context.members.indexOf(owner) < context.members.indexOf(peer);
  const [first, second] = ownerFirst ? [owner, peer] : [peer, owner];
  const info = frame(['veilrisk/mask/v1', context.name, first, second]);
  return { seed: derivedKey(shared, context.salt, info), sign: ownerFirst ? 1 : -1 };
}

/** The mask of a member's own in its input. @param seed 32 bytes. */
export function selfMask(context: MaskContext, owner: string, seed: Uint8Array): Mask {
  return { seed: derivedKey(seed, context.salt, frame(['veilrisk/self/v1', context.name, owner])), sign: 1 };
}
