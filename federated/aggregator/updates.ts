/**
 * Updates: a histogram of a plain round, the input of a masked one, or a refusal.
 *
 * Limit: a coordinate is checked to be an integer within 2^46 or the ring, not to be what the site's records could
 * cause; a dishonest site can spoil a model (PROTOCOL.md, "Threats").
 */

import { toBinary } from '@bufbuild/protobuf';
import type { Opened } from '../protocol/envelope.ts';
import { type MaskedInput, type SignedEnvelope, type Update, UpdateSchema } from '../protocol/generated/veilrisk_pb.js';
import type { Board } from './board.ts';
import { checkCode, type Desk } from './desk.ts';
import { checkPlan, epochUnknown, malformed, mismatch, receive, roundClosed } from './receive.ts';
import type { RoundRow } from './store/plans.ts';
import { checkInput, histogramOf, type Vector } from './vectors.ts';

/** Stores an update or refusal, once. */
export async function submit(desk: Desk, opened: Opened<'update'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const { planId, round, outcome } = message;
  const { journal } = desk;
  let vector: Vector | null = null;
  await receive(desk, {
    ...{ planId, kind: 'update', round, site, messageId, envelope, refused: outcome.case === 'refusal' },
    // A cosignature has a time of its own and is gone once the log has grown.
    content: toBinary(UpdateSchema, { ...message, cosignature: '' }),
    attempt: (board) => (board.masked(round) ? message.attempt : 0),
    check: (board) => {
      vector = checkUpdate(board, site, message);
      if (message.agreement !== undefined) checkAgreement(desk, board, site, message, message.agreement);
    },
    stored: (board) => {
      const { agreement } = message;
      const attempt = board.masked(round) ? message.attempt : 0;
      if (vector !== null) desk.vectors.keep(planId, round, attempt, site, vector);
      if (agreement !== undefined) desk.earlyAgreements.keep(planId, round, attempt, site, agreement);
      if (outcome.case === 'refusal') {
        desk.log.warn({ plan: planId, round, site, code: outcome.value.code }, 'site declined the round');
      }
      // Late counts open the current round to their site, which waits for its task.
      if (round < board.plan.round) desk.listeners.ring();
    },
  });
  if (journal !== null && message.cosignature !== '') {
    const name = { planId, round, attempt: message.attempt };
    await journal.cosigned(site, message.cosignature, name);
  }
  return { planId, round };
}

/** @returns the numbers, or null in a refusal. */
function checkUpdate(board: Board, site: string, update: Update): Vector | null {
  const { plan, course } = board;
  if (update.round > plan.round) throw mismatch('round', `Round ${update.round} is not open yet.`);
  checkPlan(board, site, update.planHash);
  const masked = board.masked(update.round);
  // Counts may come late, from a site that missed round 0 and wants to take part from now on.
  if (update.round < plan.round && (update.round !== 0 || masked)) {
    throw roundClosed(`Round ${update.round} is closed.`, 'round');
  }
  const round = board.rounds.get(update.round);
  if (round === undefined || update.round < course.firstRound) throw mismatch('round', 'The plan has no such round.');
  if (round.stateHash !== Buffer.from(update.stateHash).toString('hex')) {
    throw mismatch('state_hash', 'The update was computed on another model state.');
  }
  if (course.needsCounts(update.round) && !masked && board.step('update', 0).get(site)?.refused !== false) {
    throw mismatch('round', 'This site has not sent its counts (round 0).');
  }
  const { outcome } = update;
  if (masked) checkAttempt(round, site, update.attempt);
  if (outcome.case === 'refusal') {
    checkCode(outcome.value.code);
    return null;
  }
  if (!masked) return histogramOf(course, update);
  if (outcome.case !== 'masked') throw malformed('outcome', 'The update holds no masked input and no refusal.');
  return checkMasked(board, round, outcome.value);
}

/** That the sum is over all members: the site's own, of this attempt. What it agrees on only the sites can tell. */
function checkAgreement(
  { party }: Desk,
  board: Board,
  site: string,
  { planHash, round, attempt }: Update,
  envelope: SignedEnvelope,
): void {
  if (!board.masked(round)) throw malformed('agreement', 'Nothing is agreed on in a plain round.');
  const { message, signer } = party.open('agreement', envelope, `agreement/${planHash}/${round}/${attempt}`);
  const isSame = message.planHash === planHash && message.round === round && message.attempt === attempt;
  if (signer !== site || !isSame || message.agreement.length !== 32) {
    throw malformed('agreement', "The agreement is not this site's on this attempt.");
  }
}

function checkAttempt(round: RoundRow, site: string, attempt: number): void {
  if (attempt > round.attempt) throw mismatch('attempt', `Attempt ${attempt} is not open yet.`);
  if (attempt < round.attempt) throw roundClosed(`Attempt ${attempt} is closed.`, 'attempt');
  if (round.phase === 'setup') throw mismatch('round', 'The epoch of the round is not ready.');
  if (round.phase !== 'inputs') throw roundClosed('The inputs of the round are closed.', 'round');
  if (!round.members.includes(site)) throw mismatch('members', 'This site is not a member of the sum.');
}

function checkMasked(board: Board, round: RoundRow, input: MaskedInput): Uint8Array {
  if (input.epoch !== round.epoch) throw epochUnknown('The input carries the masks of another epoch.');
  if (input.slot !== round.slot) throw mismatch('slot', 'The input carries the masks of another slot.');
  checkInput(board.course, round.number, input);
  return input.values;
}
