/**
 * Shamir's secret sharing over GF(256), byte by byte (Shamir 1979), by the audited library `shamir-secret-sharing`, and the
 * sealing of shares for one receiver: AES-256-GCM under HKDF of the two channel keys.
 *
 * A site shares one long secret, the mask key and the self-mask seed of every slot. As bytes are shared independently, the
 * slice of a share with the share's x coordinate is a share of the slice of the secret, and opens nothing else.
 *
 * Limit: the library draws coefficients from the system's generator itself, not from a RandomSource; and a wrong share
 * gives a wrong secret, not an error: see `recover`.
 */

import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import { split } from 'shamir-secret-sharing';
import { SecaggError } from '../../src/errors.ts';
import { frame } from '../protocol/canonical.ts';
import type { EpochContext } from './epoch.ts';
import { interpolate } from './interpolation.ts';
import { KEY_BYTES, sharedKey } from './keys.ts';
import { equalBytes } from './transcript.ts';

/** Bytes of one slot in the long secret: mask secret key, then self-mask seed. */
export const SLOT_BYTES = 2 * KEY_BYTES;
/** Bytes of an opened share: of 32 bytes, and the x coordinate. */
export const OPENED_BYTES = KEY_BYTES + 1;

const TAG_BYTES = 16;
// Each key seals one message, ever, so the nonce may be fixed (NIST SP 800-38D, section 8: unique per key).
const NONCE = new Uint8Array(12);

export type Part = 'key' | 'seed';

/** Where a slot's part lies in the long secret and in each of its shares. */
export function placeOf(slot: number, part: Part): number {
  return slot * SLOT_BYTES + (part === 'key' ? 0 : KEY_BYTES);
}

/** One share for each of `count` sites; any `threshold` of them give the secret, fewer say nothing about it. */
export async function splitSecret(secret: Uint8Array, count: number, threshold: number): Promise<Uint8Array[]> {
  return await split(secret, count, threshold);
}

/** The share of one slot's part, cut out of a share of the long secret. A copy. */
export function sliceShare(share: Uint8Array, slot: number, part: Part): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(OPENED_BYTES);
  const at = placeOf(slot, part);
  out.set(share.subarray(at, at + KEY_BYTES));
  out[KEY_BYTES] = share[share.length - 1];
  return out;
}

/** Subsets tried before shares are given up, so that a forger cannot make the aggregator try them all. */
const MAX_TRIES = 200;

/**
 * The secret behind opened shares.
 *
 * With `fits` (a mask key, whose public key is known) subsets of the threshold's size are tried until one fits. Without
 * (a seed), the secret is believed when a share more than the threshold lies on the same polynomial; with just the
 * threshold it cannot be checked. Limit: so one lying site can spoil a sum, as it can by its input.
 * @throws SecaggError SECAGG_SHARES.
 */
export function recover(
  shares: readonly Uint8Array[],
  threshold: number,
  where: string,
  fits?: (secret: Uint8Array) => boolean,
): Uint8Array {
  for (const subset of subsets(shares.length, threshold, fits === undefined)) {
    const chosen = subset.map((at) => shares[at]);
    // Two sites whose shares have one x coordinate: at least one of them, or who dealt the shares, is wrong.
    if (new Set(chosen.map((share) => share[KEY_BYTES])).size !== chosen.length) continue;
    const base = chosen.slice(0, threshold);
    const secret = interpolate(base);
    // Every byte of every further share, not the secret that comes out with and without it: that is the same by chance for
    // one forged share in 255, whatever its bytes.
    const lies = (share: Uint8Array) => equalBytes(interpolate(base, share[KEY_BYTES]), share.subarray(0, KEY_BYTES));
    if (fits ? fits(secret) : chosen.slice(threshold).every(lies)) return secret;
  }
  throw new SecaggError('SECAGG_SHARES', 'The shares opened for a site do not give its secret.', {
    where,
    fix: 'Wait for more survivors to open their shares, or attempt the round again with fresh masks.',
  });
}

/**
 * Index sets, likeliest first. To fit a key: the first `threshold` ones, then with one replaced by the next, then two. To
 * agree among themselves: all, then all but one, then all but two, as long as one more than the threshold remains.
 */
function* subsets(count: number, threshold: number, agreeing: boolean): Generator<number[]> {
  const least = agreeing && count > threshold ? threshold + 1 : threshold;
  let tries = 0;
  for (let left = 0; count - left >= least; left++) {
    const pool = agreeing ? count : threshold + left;
    for (const without of choices(pool, left)) {
      if (tries++ === MAX_TRIES) return;
      yield Array.from({ length: pool }, (_, at) => at).filter((at) => !without.includes(at));
    }
  }
}

/** Ascending index sets of `size` out of `count`, those with the smallest first. */
function* choices(count: number, size: number, from = 0): Generator<number[]> {
  if (size === 0) {
    yield [];
    return;
  }
  for (let at = from; at <= count - size; at++) {
    for (const rest of choices(count, size - 1, at + 1)) yield [at, ...rest];
  }
}

/** Who seals what for whom: the channel, the epoch and its key list are all in the key and authenticated. */
export interface Channel {
  readonly context: EpochContext;
  readonly listHash: Uint8Array;
  readonly from: string;
  readonly to: string;
  /** Channel key of one end, public channel key of the other. */
  readonly secret: KeyObject;
  readonly publicKey: Uint8Array;
}

/** To be called once for each channel: its key and nonce are fixed. */
export function sealShare(share: Uint8Array, channel: Channel): Uint8Array<ArrayBuffer> {
  const { key, info } = channelKey(channel);
  const cipher = createCipheriv('aes-256-gcm', key, NONCE).setAAD(info);
  const sealed = new Uint8Array(Buffer.concat([cipher.update(share), cipher.final(), cipher.getAuthTag()]));
  key.fill(0);
  return sealed;
}

/** @throws SecaggError SECAGG_SHARES when it was not sealed by `from` for `to` in this epoch, or has another length. */
export function openShare(sealed: Uint8Array, channel: Channel): Uint8Array<ArrayBuffer> {
  const length = channel.context.slots * SLOT_BYTES + 1;
  if (sealed.length !== length + TAG_BYTES) throw unreadable(channel.from);
  const { key, info } = channelKey(channel);
  const decipher = createDecipheriv('aes-256-gcm', key, NONCE, { authTagLength: TAG_BYTES });
  decipher.setAAD(info).setAuthTag(sealed.subarray(length));
  const share = new Uint8Array(length);
  try {
    share.set(decipher.update(sealed.subarray(0, length)));
    decipher.final();
  } catch (cause) {
    share.fill(0);
    throw unreadable(channel.from, cause);
  } finally {
    key.fill(0);
  }
  return share;
}

function channelKey({ context, listHash, from, to, secret, publicKey }: Channel) {
  const info = frame(['veilrisk/share/v1', context.planHash, context.epoch, listHash, from, to]);
  return { key: sharedKey(secret, publicKey, context.rosterHash, info), info };
}

function unreadable(site: string, cause?: unknown): SecaggError {
  return new SecaggError('SECAGG_SHARES', 'The shares of a site cannot be opened.', {
    where: site,
    fix: 'Start a new epoch; if it happens again, one of the two sites or the aggregator alters shares.',
    cause,
  });
}
