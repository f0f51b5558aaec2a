/**
 * Who is in an epoch, and when a new one is needed. Reads only.
 *
 * A site holds an epoch while the process that made its keys lives: the secrets are in that process's memory alone. So
 * a site that restarted takes part again from the next epoch on, which begins when a round opens and the site is there.
 */

import { fromBinary } from '@bufbuild/protobuf';
import { envelopeFrom } from '../protocol/envelope.ts';
import { type EpochKeys, EpochKeysSchema } from '../protocol/generated/veilrisk_pb.js';
import type { Advertisement, EpochContext } from '../secagg/epoch.ts';
import type { Board } from './board.ts';
import type { Desk } from './desk.ts';
import type { EpochRow, KeptMessage, RoundRow } from './store/plans.ts';

/** Sums an epoch can make at most: each costs a site one key pair and each pair of sites 64 bytes of shares. */
const MOST_SLOTS = 64;
/** Slots beyond the rounds that are left, for attempts that fail. */
const SPARE_SLOTS = 4;

const parsed = new WeakMap<KeptMessage, EpochKeys>();

/** The body of a stored "keys" message; it was checked when it came. */
export function keysIn(message: KeptMessage): EpochKeys {
  let keys = parsed.get(message);
  if (keys === undefined) {
    // Safe: a kept message of kind "keys" has its envelope.
    keys = fromBinary(EpochKeysSchema, envelopeFrom(message.envelope as Uint8Array).body);
    parsed.set(message, keys);
  }
  return keys;
}

/** In roster order; of the sites whose keys the epoch's list holds. */
export function advertisements(board: Board, epoch: EpochRow): Advertisement[] {
  const stored = board.step('keys', epoch.number);
  return epoch.advertisers.flatMap((site) => {
    const message = stored.get(site);
    if (message === undefined) return [];
    const { channelKey, maskKeys } = keysIn(message);
    return [{ site, channelKey, maskKeys }];
  });
}

export function contextOf(desk: Desk, board: Board, epoch: EpochRow): EpochContext {
  const { plan, planHash } = board.course;
  return {
    rosterHash: new Uint8Array(Buffer.from(desk.party.rosterHash, 'hex')),
    planHash,
    epoch: epoch.number,
    threshold: plan.threshold,
    minimum: plan.quorum,
    slots: epoch.slots,
    roster: desk.party.roster.sites.map(({ id }) => id),
  };
}

export function rosterOrder(desk: Desk, sites: Iterable<string>): string[] {
  const wanted = new Set(sites);
  return desk.party.roster.sites.map(({ id }) => id).filter((id) => wanted.has(id));
}

/** Whether the process that made the site's keys may still live: nothing newer of the site has been seen. */
export function isAlive(desk: Desk, board: Board, epoch: EpochRow, site: string): boolean {
  const message = board.step('keys', epoch.number).get(site);
  if (message === undefined) return false;
  const now = desk.presence.incarnation(site);
  return now === undefined || now === keysIn(message).incarnation;
}

/** Whose masks the next attempt at a round would carry, in roster order. */
export function membersFor(desk: Desk, board: Board, round: number): string[] {
  const { epoch } = board;
  if (epoch?.phase !== 'ready') return [];
  return epoch.holders.filter((site) => board.eligible(round, site) && isAlive(desk, board, epoch, site));
}

/** Whether an attempt at a round has to set up keys first. */
export function needsEpoch(desk: Desk, board: Board, round: number): boolean {
  const { epoch } = board;
  if (epoch?.phase !== 'ready' || epoch.nextSlot >= epoch.slots) return true;
  const members = new Set(membersFor(desk, board, round));
  if (members.size < board.course.plan.quorum) return true;
  return board
    .acceptedSites()
    .some((site) => !members.has(site) && board.eligible(round, site) && isWelcome(desk, epoch, site));
}

/** A connected site the epoch is without, unless it had its chance: one that never answers holds nobody up twice. */
function isWelcome(desk: Desk, epoch: EpochRow, site: string): boolean {
  if (!desk.presence.connected(site) || !desk.presence.incarnation(site)) return false;
  return !epoch.asked.includes(askedName(desk, site));
}

function askedName(desk: Desk, site: string): string {
  return `${site}/${desk.presence.incarnation(site) ?? ''}`;
}

/** What a new epoch is opened with. */
export function newEpoch(desk: Desk, board: Board): EpochRow {
  const { course } = board;
  let sums = 0;
  for (let round = board.plan.round; round <= course.lastRound; round++) if (board.masked(round)) sums++;
  const asked = board.acceptedSites().filter((site) => desk.presence.connected(site));
  return {
    number: (board.epoch?.number ?? 0) + 1,
    phase: 'keys',
    slots: Math.min(sums + SPARE_SLOTS, MOST_SLOTS),
    nextSlot: 0,
    asked: asked.map((site) => askedName(desk, site)),
    ...{ advertisers: [], holders: [] },
  };
}

/**
 * Sites whose keys are still expected: those that are there, or were in the last round and so may just have lost their
 * connection; not one that missed the last set-up and has not restarted since.
 */
export function awaitedKeys(desk: Desk, board: Board, round: RoundRow, epoch: EpochRow): string[] {
  const before = board.epochs.find(({ number }) => number === epoch.number - 1);
  const last = board.rounds.get(round.number - 1);
  const sent = board.step('keys', epoch.number);
  return board.acceptedSites().filter((site) => {
    // A program that names no incarnation knows nothing of epochs.
    if (sent.has(site) || board.declined(0, site) || desk.presence.incarnation(site) === '') return false;
    const missed = before?.asked.includes(askedName(desk, site)) && !before.holders.includes(site);
    if (missed) return false;
    return desk.presence.connected(site) || last === undefined || last.contributors.includes(site);
  });
}
