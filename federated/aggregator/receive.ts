/**
 * One message of a site: checked, stored once, made known.
 *
 * Not under the plan's lock, so that the sites' messages are made durable together. One that is checked while its step
 * is open and stored just after the step closed is kept, and is not in the sum: closing writes down who is.
 */

import { FederationError } from '../../src/errors.ts';
import { sha256Hex } from '../protocol/canonical.ts';
import { envelopeBytes } from '../protocol/envelope.ts';
import type { SignedEnvelope } from '../protocol/generated/veilrisk_pb.js';
import type { Board } from './board.ts';
import type { Desk } from './desk.ts';
import type { MessagePlace } from './store/messages.ts';

export interface Incoming extends Omit<MessagePlace, 'attempt'> {
  readonly messageId: string;
  readonly envelope: SignedEnvelope;
  /** What has to be the same in a repetition; the signed body where this is left out. */
  readonly content?: Uint8Array;
  readonly refused?: boolean;
  /** The attempt in a message's place; known once the board is. */
  attempt(board: Board): number;
  /** Throws unless the board's plan wants this message now. */
  check(board: Board): void;
  /** After it was stored for the first time here. */
  stored?(board: Board): void;
}

/** Resolves when the message is durable. The same bytes again change nothing. */
export async function receive(desk: Desk, incoming: Incoming): Promise<void> {
  const { planId, kind, round, site, messageId, envelope, refused = false } = incoming;
  const board = await desk.boards.find(planId);
  const bodyDigest = sha256Hex(incoming.content ?? envelope.body);
  const place = () => ({ planId, kind, round, attempt: incoming.attempt(board), site });
  const known = board.step(kind, round, incoming.attempt(board)).get(site);
  if (known !== undefined && known.bodyDigest === bodyDigest && known.messageId === messageId) return;
  try {
    incoming.check(board);
  } catch (error) {
    if (!(error instanceof FederationError)) throw error;
    // The database has no column for a number this large, so nothing is stored under it.
    if (
      Math.max(round, incoming.attempt(board)) <= MAX_NUMBER &&
      (await desk.messages.isStored({ ...place(), messageId, bodyDigest }))
    )
      return;
    // What is over here is over everywhere; what is not open yet may have been opened by another process.
    if (error.code === 'ROUND_CLOSED' || !(await desk.boards.refresh(planId))) throw error;
    incoming.check(board);
  }
  const bytes = envelopeBytes(envelope);
  await desk.messages.store({ ...place(), messageId, bodyDigest, envelope: bytes, refused });
  const shown = kind === 'keys' || kind === 'agreement' || kind === 'reveal';
  const isNew = board.add({ ...place(), messageId, bodyDigest, refused, envelope: shown ? bytes : null });
  if (!isNew) return;
  incoming.stored?.(board);
  desk.poke(planId);
}

const MAX_NUMBER = 2 ** 31 - 1;

export function mismatch(where: string, message: string): FederationError {
  return new FederationError('ROUND_MISMATCH', message, { where });
}

export function malformed(where: string, message: string): FederationError {
  return new FederationError('MESSAGE_MALFORMED', message, { where });
}

export function epochUnknown(message: string): FederationError {
  return new FederationError('EPOCH_UNKNOWN', message, {
    where: 'epoch',
    fix: 'Wait for the next task; it names the epoch there is now.',
  });
}

/** What every message of a running plan has to fit. */
export function checkPlan(board: Board, site: string, planHash: string): void {
  const { plan } = board;
  if (planHash !== plan.planHash) throw mismatch('plan_hash', 'The message is for another plan.');
  if (!board.accepted(site)) {
    throw new FederationError('PLAN_STATE', 'This site has not accepted the plan.', { where: plan.id });
  }
  if (plan.state === 'proposed') throw mismatch('round', 'The plan has not started.');
  if (plan.ended) throw roundClosed(`The plan is ${plan.state}.`, plan.id);
}

export function roundClosed(message: string, where: string): FederationError {
  return new FederationError('ROUND_CLOSED', message, { where });
}
