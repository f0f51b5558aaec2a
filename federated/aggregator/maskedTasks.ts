/** Tasks of secure aggregation: making keys, sealing shares, taking in those of others, agreeing, revealing. */

import { fromBinary } from '@bufbuild/protobuf';
import { envelopeFrom } from '../protocol/envelope.ts';
import { EpochSharesSchema, type SignedEnvelope } from '../protocol/generated/veilrisk_pb.js';
import type { Board } from './board.ts';
import type { Desk } from './desk.ts';
import { phaseLeft } from './due.ts';
import { enoughAlike } from './earlyAgreements.ts';
import { isAlive, keysIn } from './epochs.ts';
import { type EpochRow, type KeptMessage, loadEnvelopes, type RoundRow } from './store/plans.ts';
import type { PendingTask } from './tasks.ts';

/** What the newest epoch wants of a site, or has for it. */
export function epochTasks(desk: Desk, board: Board, site: string): PendingTask[] {
  const { epoch, current: round } = board;
  if (epoch === undefined || round === undefined || !desk.presence.incarnation(site)) return [];
  const { id: planId, planHash } = board.plan;
  const name = { planId, planHash, epoch: epoch.number };
  const key = `${planId}/epoch/${epoch.number}`;
  const deadlineMs = () => Math.ceil(phaseLeft(desk, board, round));
  switch (epoch.phase) {
    case 'keys': {
      if (board.step('keys', epoch.number).has(site)) return [];
      const value = () => ({ ...name, slots: epoch.slots, deadlineMs: deadlineMs() });
      return [{ key: `${key}/keys`, make: () => ({ task: { case: 'keys', value: value() } }) }];
    }
    case 'shares': {
      const waits = epoch.advertisers.includes(site) && !board.step('shares', epoch.number).has(site);
      if (!waits || !isAlive(desk, board, epoch, site)) return [];
      const value = () => ({ ...name, keys: keyList(board, epoch), deadlineMs: deadlineMs() });
      return [{ key: `${key}/shares`, make: () => ({ task: { case: 'shares', value: value() } }) }];
    }
    case 'ready': {
      if (!epoch.holders.includes(site) || !isAlive(desk, board, epoch, site)) return [];
      const value = async () => ({ ...name, shares: await sharesFor(desk, board, epoch, site) });
      return [{ key: `${key}/ready`, make: async () => ({ task: { case: 'epoch', value: await value() } }) }];
    }
  }
}

function keyList(board: Board, epoch: EpochRow) {
  const stored = board.step('keys', epoch.number);
  // Safe: an advertiser is a site whose keys are stored, with their envelope.
  return epoch.advertisers.map((site) => envelopeFrom((stored.get(site) as KeptMessage).envelope as Uint8Array));
}

/** Receiver -> what was sealed for it, of the epochs that are handed out now. */
const delivered = new WeakMap<Board, { epoch: number; shares: Promise<Map<string, SealedFor[]>> }>();

interface SealedFor {
  site: string;
  sealed: Uint8Array<ArrayBuffer>;
}

async function sharesFor(desk: Desk, board: Board, epoch: EpochRow, site: string): Promise<SealedFor[]> {
  let kept = delivered.get(board);
  if (kept?.epoch !== epoch.number) {
    kept = { epoch: epoch.number, shares: loadShares(desk, board, epoch) };
    delivered.set(board, kept);
    // Asked for again next time.
    kept.shares.catch(() => delivered.delete(board));
  }
  return (await kept.shares).get(site) ?? [];
}

async function loadShares(desk: Desk, board: Board, epoch: EpochRow): Promise<Map<string, SealedFor[]>> {
  const step = { planId: board.plan.id, kind: 'shares' as const, round: epoch.number, attempt: 0 };
  const stored = await loadEnvelopes(desk.database.pool, step, epoch.holders);
  const byReceiver = new Map<string, SealedFor[]>();
  for (const sender of epoch.holders) {
    const envelope = stored.get(sender);
    if (envelope === undefined) continue;
    for (const { site, sealed } of fromBinary(EpochSharesSchema, envelopeFrom(envelope).body).shares) {
      const own = byReceiver.get(site) ?? [];
      own.push({ site: sender, sealed: new Uint8Array(sealed) });
      byReceiver.set(site, own);
    }
  }
  return byReceiver;
}

/** For a survivor: to agree on who is in the sum, and then to open its shares. */
export function unmaskingTask(desk: Desk, board: Board, round: RoundRow, site: string): PendingTask[] {
  const { number, attempt, survivors, phase, extensions } = round;
  if (!survivors.includes(site)) return [];
  const { id: planId, planHash } = board.plan;
  const name = () => ({
    ...{ planId, planHash, round: number, attempt },
    deadlineMs: Math.ceil(phaseLeft(desk, board, round)),
  });
  const key = `${planId}/${number}/${attempt}`;
  const agreements = board.step('agreement', number, attempt);
  const tasks: PendingTask[] = [];
  const { threshold } = board.course.plan;
  // Nobody was missing, and what came with the inputs was enough.
  const early = phase === 'reveal' && agreements.size < threshold;
  // Also while others reveal already: a site opens nothing whose survivors it has not checked itself.
  if (!early && !agreements.has(site)) {
    const value = () => ({ ...name(), survivors: [...survivors] });
    tasks.push({ key: `${key}/agreement`, make: () => ({ task: { case: 'agreement', value: value() } }) });
  }
  if (phase === 'reveal' && !board.step('reveal', number, attempt).has(site)) {
    const shown = async () =>
      early ? ((await desk.earlyAgreements.enough(board, round)) ?? []) : sameAgreements(agreements, threshold);
    const value = async () => ({ ...name(), agreements: await shown() });
    tasks.push({
      key: `${key}/reveal/${extensions}`,
      make: async () => ({ task: { case: 'reveal', value: await value() } }),
    });
  }
  return tasks;
}

/** Whether the site's newest process made the keys of the open attempt. */
export function stillHolds(desk: Desk, board: Board, site: string): boolean {
  const message = board.step('keys', board.current?.epoch ?? 0).get(site);
  return message !== undefined && keysIn(message).incarnation === desk.presence.incarnation(site);
}

const chosen = new WeakMap<ReadonlyMap<string, KeptMessage>, SignedEnvelope[]>();

/** Those that came in the step of their own. */
function sameAgreements(stored: ReadonlyMap<string, KeptMessage>, threshold: number): SignedEnvelope[] {
  const before = chosen.get(stored);
  if (before !== undefined) return before;
  const envelopes = [...stored.values()].map(({ envelope }) => envelopeFrom(envelope ?? new Uint8Array()));
  const enough = enoughAlike(envelopes, threshold);
  if (enough !== null) chosen.set(stored, enough);
  return enough ?? [];
}
