/**
 * Proposals and the sites' answers.
 *
 * The aggregator checks what the roster and the public contract allow; whether a plan is acceptable to a bank is decided
 * by that bank alone, from the operator's signed bytes.
 */

import { FederationError } from '../../src/errors.ts';
import { sha256Hex } from '../protocol/canonical.ts';
import { envelopeBytes, type Opened } from '../protocol/envelope.ts';
import type { SignedEnvelope } from '../protocol/generated/veilrisk_pb.js';
import { entry } from './commit.ts';
import { openCourse } from './course.ts';
import { checkCode, type Desk, printable } from './desk.ts';
import { mismatch } from './receive.ts';
import { checkPlanId, planUnknown, type Transaction, transaction } from './store/database.ts';
import { replayed } from './store/messages.ts';
import { notify } from './store/notifications.ts';

const MIN_ACCEPTANCE_MS = 100;
const MAX_ACCEPTANCE_MS = 7 * 24 * 3_600_000;

/** Stores a plan, once. Throws PLAN_REFUSED, PLAN_STATE (another plan of that id) or what parsing found. */
export async function propose(desk: Desk, opened: Opened<'propose'>, envelope: SignedEnvelope) {
  const { planJson, contractJson, acceptanceDeadlineMs } = opened.message;
  const course = openCourse(planJson, contractJson);
  const { plan, planHash } = course;
  const { roster } = desk.party;
  if (plan.sites !== roster.sites.length) {
    throw refused('sites', `The plan is for ${plan.sites} sites and the roster has ${roster.sites.length}.`);
  }
  if (plan.quorum < roster.minimumQuorum || plan.quorum > plan.sites) {
    throw refused('quorum', `The quorum must be from ${roster.minimumQuorum} to ${plan.sites}.`);
  }
  if (acceptanceDeadlineMs < MIN_ACCEPTANCE_MS || acceptanceDeadlineMs > MAX_ACCEPTANCE_MS) {
    throw refused('acceptance_deadline_ms', `The deadline must be ${MIN_ACCEPTANCE_MS} ms to seven days.`);
  }
  const { database, journal } = desk;
  const proposalDigest = sha256Hex(envelope.body);
  const isNew = await transaction(database.pool, async (tx) => {
    const { rowCount } = await tx.query(
      `INSERT INTO plans (id, plan_hash, plan_json, contract_json, proposal, proposal_digest, roster_hash,
         acceptance_deadline_ms, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'proposed') ON CONFLICT DO NOTHING`,
      [
        ...[plan.id, planHash, Buffer.from(planJson), Buffer.from(contractJson), Buffer.from(envelopeBytes(envelope))],
        ...[proposalDigest, desk.party.rosterHash, acceptanceDeadlineMs],
      ],
    );
    if (rowCount === 0) return false;
    await journal?.append(tx, [{ ...entry('plan.proposed', { planId: plan.id, planHash }), actor: 'operator' }]);
    await notify(tx, desk.process, plan.id);
    return true;
  });
  if (!isNew) {
    const { rows } = await database.pool.query<{ proposal_digest: string }>(
      'SELECT proposal_digest FROM plans WHERE id = $1',
      [plan.id],
    );
    if (rows[0]?.proposal_digest !== proposalDigest) {
      throw new FederationError('PLAN_STATE', 'Another plan was already proposed under this id.', {
        where: 'plan.id',
        fix: 'Give the plan a new id.',
      });
    }
    return { planId: plan.id, planHash };
  }
  journal?.committed();
  desk.log.info({ plan: plan.id, planHash }, 'plan proposed');
  desk.announce([{ event: 'plan', plan: plan.id, state: 'proposed' }]);
  await desk.leases.renew(plan.id);
  await desk.boards.refresh(plan.id);
  return { planId: plan.id, planHash };
}

/** Stores a site's answer, once. */
export async function answer(desk: Desk, opened: Opened<'answer'>, envelope: SignedEnvelope) {
  const { message, signer: site } = opened;
  const { planId, accepted, code } = message;
  checkPlanId(planId);
  const isNew = await transaction(desk.database.pool, (tx) => storeAnswer(desk, tx, opened, envelope));
  if (isNew) {
    desk.journal?.committed();
    desk.log.info({ plan: planId, site, accepted, code }, 'plan answered');
    await desk.boards.refresh(planId);
  }
  return { planId };
}

/** @returns false when this very answer was there. */
async function storeAnswer(desk: Desk, tx: Transaction, opened: Opened<'answer'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const { planId, accepted } = message;
  const bodyDigest = sha256Hex(envelope.body);
  // The plan does not start while an answer is being stored.
  const { rows: plans } = await tx.query('SELECT plan_hash, state FROM plans WHERE id = $1 FOR SHARE', [planId]);
  if (plans.length === 0) throw planUnknown();
  const { rows: before } = await tx.query(
    'SELECT message_id, body_digest FROM answers WHERE plan_id = $1 AND site = $2',
    [planId, site],
  );
  if (before.length > 0) {
    if (before[0].body_digest === bodyDigest && before[0].message_id === messageId) return false;
    throw replayed('This site has already answered this plan.');
  }
  const [{ plan_hash: planHash, state }] = plans;
  if (message.planHash !== planHash) throw mismatch('plan_hash', 'The answer is about another plan.');
  if (state !== 'proposed') {
    throw new FederationError('PLAN_STATE', `The plan no longer takes answers; it is ${state}.`, { where: planId });
  }
  if (!accepted) checkCode(message.code);
  const code = accepted ? '' : message.code;
  const reason = accepted ? '' : printable(message.reason);
  const { rowCount } = await tx.query(
    `INSERT INTO answers (plan_id, site, accepted, code, reason, message_id, body_digest, envelope)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
    [planId, site, accepted, code, reason, messageId, bodyDigest, Buffer.from(envelopeBytes(envelope))],
  );
  if (rowCount === 0) throw replayed('This site is just answering this plan.');
  const outcome = accepted ? 'ok' : 'refused';
  await desk.journal?.append(tx, [
    { ...entry('plan.answered', { planId, site, accepted, code }, outcome), actor: site },
  ]);
  await notify(tx, desk.process, planId);
  return true;
}

/** Notes that a site knows how a plan ended. */
export async function acknowledge(desk: Desk, opened: Opened<'acknowledge'>) {
  const { message, signer: site } = opened;
  const { planId } = message;
  const board = await desk.boards.find(planId);
  if (message.planHash !== board.plan.planHash) throw mismatch('plan_hash', 'The message is about another plan.');
  if (!board.plan.ended) await desk.boards.refresh(planId);
  if (!board.plan.ended) {
    throw new FederationError('PLAN_STATE', 'The plan has not ended.', { where: planId });
  }
  await desk.database.pool.query(
    `UPDATE answers SET acknowledged_at = clock_timestamp()
     WHERE plan_id = $1 AND site = $2 AND acknowledged_at IS NULL`,
    [planId, site],
  );
  await notify(desk.database.pool, desk.process, planId);
  const answered = board.answers.get(site);
  if (answered !== undefined) answered.acknowledged = true;
  desk.boards.changed(planId);
  if (message.cosignature !== '') await desk.journal?.cosigned(site, message.cosignature);
  return { planId };
}

function refused(where: string, message: string): FederationError {
  return new FederationError('PLAN_REFUSED', message, {
    where,
    fix: 'Correct the plan and propose it under a new id.',
  });
}
