/**
 * The messages of secure aggregation beside updates: keys, shares, agreements and reveals.
 *
 * What can be checked without secrets is checked here; the participants check everything that matters to them again.
 */

import { SecaggError } from '../../src/errors.ts';
import type { Opened } from '../protocol/envelope.ts';
import type { EpochKeys, EpochShares, SignedEnvelope, Unmasking } from '../protocol/generated/veilrisk_pb.js';
import { keyListHash } from '../secagg/epoch.ts';
import { checkPublicKey, KEY_BYTES } from '../secagg/keys.ts';
import { OPENED_BYTES } from '../secagg/shares.ts';
import type { Board } from './board.ts';
import type { Desk } from './desk.ts';
import { advertisements, contextOf, keysIn } from './epochs.ts';
import { checkPlan, epochUnknown, malformed, mismatch, receive, roundClosed } from './receive.ts';
import type { EpochRow, RoundRow } from './store/plans.ts';

const INCARNATION = /^[\x21-\x7e]{1,200}$/;
/** A share of 64 slots has 4,097 bytes and what sealing adds. */
const MAX_SEALED_BYTES = 16_384;

export async function advertiseKeys(desk: Desk, opened: Opened<'keys'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const { planId, epoch } = message;
  await receive(desk, {
    ...{ planId, kind: 'keys', round: epoch, site, messageId, envelope, attempt: () => 0 },
    check: (board) => checkKeys(desk, board, site, message),
  });
  return { planId };
}

export async function submitShares(desk: Desk, opened: Opened<'shares'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const { planId, epoch } = message;
  await receive(desk, {
    ...{ planId, kind: 'shares', round: epoch, site, messageId, envelope, attempt: () => 0 },
    check: (board) => checkShares(desk, board, site, message),
  });
  return { planId };
}

export async function agree(desk: Desk, opened: Opened<'agreement'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const { planId, round, attempt, agreement } = message;
  await receive(desk, {
    ...{ planId, kind: 'agreement', round, site, messageId, envelope, attempt: () => attempt },
    check: (board) => {
      checkPlan(board, site, message.planHash);
      const open = openAttempt(board, round, attempt);
      if (open.phase !== 'agreement' && open.phase !== 'reveal') throw mismatch('round', 'The inputs are still open.');
      checkSurvivor(open, site);
      if (agreement.length !== 32) throw malformed('agreement', 'An agreement is 32 bytes long.');
    },
  });
  return { planId };
}

export async function reveal(desk: Desk, opened: Opened<'reveal'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const { planId, round, attempt } = message;
  await receive(desk, {
    ...{ planId, kind: 'reveal', round, site, messageId, envelope, attempt: () => attempt },
    check: (board) => {
      checkPlan(board, site, message.planHash);
      const open = openAttempt(board, round, attempt);
      if (open.phase !== 'reveal') throw mismatch('round', 'The survivors have not agreed yet.');
      checkSurvivor(open, site);
      checkOpened(open, message);
    },
  });
  return { planId };
}

function checkKeys(desk: Desk, board: Board, site: string, keys: EpochKeys): void {
  checkPlan(board, site, keys.planHash);
  const epoch = openEpoch(board, keys.epoch);
  if (epoch.phase !== 'keys') throw roundClosed('The list of keys is closed.', 'epoch');
  if (!INCARNATION.test(keys.incarnation)) throw malformed('incarnation', 'The incarnation must be printable ASCII.');
  const now = desk.presence.incarnation(site);
  if (now !== undefined && now !== keys.incarnation) throw epochUnknown('A newer process of this site is connected.');
  if (keys.maskKeys.length !== epoch.slots * KEY_BYTES) {
    throw malformed('mask_keys', `There must be ${epoch.slots} mask keys.`);
  }
  const seen = new Set<string>();
  for (const other of board.step('keys', epoch.number).values())
    for (const key of keyNames(keysIn(other))) seen.add(key);
  for (const key of keyNames(keys)) {
    if (seen.has(key)) throw malformed('mask_keys', 'A key of the epoch is there twice.');
    seen.add(key);
  }
  try {
    checkPublicKey(keys.channelKey, 'channel_key');
    for (let at = 0; at < keys.maskKeys.length; at += KEY_BYTES) {
      checkPublicKey(keys.maskKeys.subarray(at, at + KEY_BYTES), 'mask_keys');
    }
  } catch (error) {
    if (error instanceof SecaggError) throw malformed(error.where ?? 'keys', error.message);
    throw error;
  }
}

function* keyNames({ channelKey, maskKeys }: EpochKeys): Generator<string> {
  yield Buffer.from(channelKey).toString('latin1');
  for (let at = 0; at < maskKeys.length; at += KEY_BYTES) {
    yield Buffer.from(maskKeys.subarray(at, at + KEY_BYTES)).toString('latin1');
  }
}

const listHashes = new WeakMap<EpochRow, Uint8Array>();

function checkShares(desk: Desk, board: Board, site: string, { planHash, ...message }: EpochShares): void {
  checkPlan(board, site, planHash);
  const epoch = openEpoch(board, message.epoch);
  if (epoch.phase === 'keys') throw mismatch('epoch', 'The list of keys is still open.');
  if (epoch.phase === 'ready') throw roundClosed('The epoch is ready.', 'epoch');
  if (!epoch.advertisers.includes(site)) throw epochUnknown('The epoch has no keys of this site.');
  let hash = listHashes.get(epoch);
  if (hash === undefined) {
    hash = keyListHash(advertisements(board, epoch), contextOf(desk, board, epoch));
    listHashes.set(epoch, hash);
  }
  if (!Buffer.from(hash).equals(message.listHash))
    throw mismatch('list_hash', 'The shares are for another list of keys.');
  const receivers = epoch.advertisers.filter((other) => other !== site);
  const named = new Set(message.shares.map((share) => share.site));
  if (message.shares.length !== receivers.length || !receivers.every((other) => named.has(other))) {
    throw malformed('shares', 'There must be one share for each other site of the epoch.');
  }
  if (message.shares.some(({ sealed }) => sealed.length === 0 || sealed.length > MAX_SEALED_BYTES)) {
    throw malformed('shares', 'A sealed share has an impossible size.');
  }
}

function checkOpened({ members, survivors }: RoundRow, { selfShares, keyShares }: Unmasking): void {
  const missing = members.filter((site) => !survivors.includes(site));
  for (const [where, shares, sites] of [
    ['self_shares', selfShares, survivors],
    ['key_shares', keyShares, missing],
  ] as const) {
    const named = new Set(shares.map(({ site }) => site));
    if (shares.length !== sites.length || !sites.every((site) => named.has(site))) {
      throw malformed(
        where,
        'There must be a share of the seed of each survivor and of the key of each missing member.',
      );
    }
    if (shares.some(({ share }) => share.length !== OPENED_BYTES)) {
      throw malformed(where, `An opened share is ${OPENED_BYTES} bytes long.`);
    }
  }
}

function openEpoch(board: Board, number: number): EpochRow {
  const { epoch } = board;
  if (epoch === undefined || number > epoch.number) throw epochUnknown('There is no such epoch.');
  if (number < epoch.number || board.current?.epoch !== number) throw epochUnknown('The epoch is over.');
  return epoch;
}

function openAttempt(board: Board, number: number, attempt: number): RoundRow {
  const { current: round, plan } = board;
  if (round === undefined || number > plan.round) throw mismatch('round', `Round ${number} is not open yet.`);
  if (!board.masked(number)) throw mismatch('round', `Round ${number} is not summed under masks.`);
  if (number < plan.round || !round.open) throw roundClosed(`Round ${number} is closed.`, 'round');
  if (attempt > round.attempt) throw mismatch('attempt', `Attempt ${attempt} is not open yet.`);
  if (attempt < round.attempt) throw roundClosed(`Attempt ${attempt} is closed.`, 'attempt');
  return round;
}

function checkSurvivor({ survivors, phase }: RoundRow, site: string): void {
  if (phase === 'setup') throw mismatch('round', 'The epoch of the round is not ready.');
  if (!survivors.includes(site)) throw mismatch('survivors', "This site's input is not in the sum.");
}
