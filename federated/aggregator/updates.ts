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
import { advancePlan } from './rounds.ts';
import { checkPlanId, type Database, type PlanRow, planUnknown } from './store/database.ts';
import { histogramOf } from './sums.ts';

/**
 * Stores an update or refusal, once, and closes the round when it was the last. The same bytes again change nothing.
 *
 * Not under the plan's lock, so that the sites' updates are made durable together. One that is checked while its round
 * is open and stored just after the round closed is kept, and is not in the sum: closing writes down who is.
 */
export async function submit(desk: Desk, opened: Opened<'update'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const { planId, round } = message;
  const { database } = desk;
  checkPlanId(planId);
  const plan = await database.plan.findUnique({ where: { id: planId }, omit: { proposal: true } });
  if (plan === null) throw planUnknown();
  // Before any look-up: the database has no column for a number this large.
  if (round > plan.round) throw mismatch('round', `Round ${round} is not open yet.`);
  const bodyDigest = sha256Hex(envelope.body);
  if (!(await isStored(database, opened, bodyDigest))) {
    await checkUpdate(database, plan, site, message);
    const refused = message.outcome.case === 'refusal';
    const row = { planId, round, site, messageId, bodyDigest, envelope: envelopeBytes(envelope), refused };
    const { count } = await database.message.createMany({ data: row, skipDuplicates: true });
    // Another copy was faster: it is the same message, or this one is a replay.
    if (count === 0) await isStored(database, opened, bodyDigest);
    if (message.outcome.case === 'refusal') {
      const { code } = message.outcome.value;
      desk.log.warn({ plan: planId, round, site, code }, 'site declined the round');
    }
  }
  await advancePlan(desk, planId);
  // Late counts open the current round to their site, which waits for its task.
  if (round < plan.round) desk.listeners.ring();
  return { planId, round };
}

/** Whether this very message is stored. Throws MESSAGE_REPLAYED when another one has its place or its id. */
async function isStored(database: Database, opened: Opened<'update'>, bodyDigest: string): Promise<boolean> {
  const { message, signer: site, messageId } = opened;
  const { planId, round } = message;
  const before = await database.message.findMany({
    where: {
      OR: [
        { planId, round, site },
        { site, messageId },
      ],
    },
    select: { bodyDigest: true, messageId: true },
  });
  if (before.some((stored) => stored.bodyDigest !== bodyDigest || stored.messageId !== messageId)) {
    throw replayed('This site has already sent another message for this round or under this id.');
  }
  return before.length > 0;
}

async function checkUpdate(tx: Database, plan: PlanRow, site: string, update: Update): Promise<void> {
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
