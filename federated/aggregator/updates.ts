/**
 * Updates: checking one and storing it once.
 *
 * Limit: a coordinate is checked to be an integer within 2^46, not to be what the site's records could cause; a
 * dishonest site can spoil a model (PROTOCOL.md, "Threats").
 */

import { FederationError } from '../../src/errors.ts';
import { sha256Hex } from '../protocol/canonical.ts';
import { envelopeBytes, type Opened } from '../protocol/envelope.ts';
import type { SignedEnvelope, Update } from '../protocol/generated/veilrisk_pb.js';
import { courseOf } from './course.ts';
import { checkCode, type Desk, replayed } from './desk.ts';
import { advance } from './rounds.ts';
import { type PlanRow, type Transaction, withPlan } from './store/database.ts';
import { histogramOf } from './sums.ts';

/** Stores an update or refusal, once, and closes the round when it was the last. The same bytes again change nothing. */
export async function submit(desk: Desk, opened: Opened<'update'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const bodyDigest = sha256Hex(envelope.body);
  const { events, late } = await withPlan(desk.database, message.planId, async (tx, plan) => {
    // Before any look-up: the database has no column for a number this large.
    if (message.round > plan.round) throw mismatch('round', `Round ${message.round} is not open yet.`);
    const before = await tx.message.findFirst({
      where: {
        OR: [
          { planId: plan.id, round: message.round, site },
          { site, messageId },
        ],
      },
    });
    if (before !== null) {
      if (before.bodyDigest === bodyDigest && before.messageId === messageId) return { events: [], late: false };
      throw replayed('This site has already sent another message for this round or under this id.');
    }
    await checkUpdate(tx, plan, site, message);
    await tx.message.create({
      data: {
        planId: plan.id,
        round: message.round,
        site,
        messageId,
        bodyDigest,
        envelope: envelopeBytes(envelope),
        refused: message.outcome.case === 'refusal',
      },
    });
    return { events: await advance(tx, desk, plan), late: message.round < plan.round };
  });
  if (message.outcome.case === 'refusal') {
    const { code } = message.outcome.value;
    desk.log.warn({ plan: message.planId, round: message.round, site, code }, 'site declined the round');
  }
  desk.announce(events);
  // Late counts open the current round to their site, which waits for its task.
  if (late) desk.listeners.ring();
  return { planId: message.planId, round: message.round };
}

async function checkUpdate(tx: Transaction, plan: PlanRow, site: string, update: Update): Promise<void> {
  if (update.planHash !== plan.planHash) throw mismatch('plan_hash', 'The update is for another plan.');
  const answer = await tx.answer.findUnique({
    where: { planId_site: { planId: plan.id, site } },
    select: { accepted: true },
  });
  if (answer?.accepted !== true) {
    throw new FederationError('PLAN_STATE', 'This site has not accepted the plan.', { where: plan.id });
  }
  if (plan.state === 'proposed') throw mismatch('round', 'The plan has not started.');
  if (plan.endedAt !== null) {
    throw new FederationError('ROUND_CLOSED', `The plan is ${plan.state}.`, { where: plan.id });
  }
  // Counts may come late, from a site that missed round 0 and wants to take part from now on.
  if (update.round < plan.round && update.round !== 0) {
    throw new FederationError('ROUND_CLOSED', `Round ${update.round} is closed.`, { where: 'round' });
  }
  const round = await tx.round.findUniqueOrThrow({
    where: { planId_number: { planId: plan.id, number: update.round } },
    select: { stateHash: true },
  });
  if (round.stateHash !== Buffer.from(update.stateHash).toString('hex')) {
    throw mismatch('state_hash', 'The update was computed on another model state.');
  }
  if (update.round > 0) {
    const counts = await tx.message.findUnique({
      where: { planId_round_site: { planId: plan.id, round: 0, site } },
      select: { refused: true },
    });
    if (counts?.refused !== false) throw mismatch('round', 'This site has not sent its counts (round 0).');
  }
  if (update.outcome.case === 'refusal') {
    checkCode(update.outcome.value.code);
    return;
  }
  histogramOf(courseOf(plan), update);
}

function mismatch(where: string, message: string): FederationError {
  return new FederationError('ROUND_MISMATCH', message, { where });
}
