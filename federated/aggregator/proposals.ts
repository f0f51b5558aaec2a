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
import { openCourse } from './course.ts';
import { type AggregatorEvent, checkCode, type Desk, printable, replayed } from './desk.ts';
import { advance } from './rounds.ts';
import { withPlan } from './store/database.ts';

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
  const proposalDigest = sha256Hex(envelope.body);
  const clash = await desk.database.plan.findFirst({ where: { OR: [{ id: plan.id }, { planHash }] } });
  if (clash === null) {
    await desk.database.plan.createMany({
      data: {
        id: plan.id,
        planHash,
        planJson: new Uint8Array(planJson),
        contractJson: new Uint8Array(contractJson),
        proposal: envelopeBytes(envelope),
        proposalDigest,
        rosterHash: desk.party.rosterHash,
        acceptanceDeadlineMs,
        state: 'proposed',
      },
      skipDuplicates: true,
    });
  }
  const stored = await desk.database.plan.findUnique({ where: { id: plan.id } });
  if (stored === null || stored.proposalDigest !== proposalDigest) {
    throw new FederationError('PLAN_STATE', 'Another plan was already proposed under this id.', {
      where: 'plan.id',
      fix: 'Give the plan a new id.',
    });
  }
  if (clash === null) {
    desk.log.info({ plan: plan.id, planHash }, 'plan proposed');
    desk.announce([{ event: 'plan', plan: plan.id, state: 'proposed' }]);
  }
  return { planId: plan.id, planHash };
}

/** Stores a site's answer, once, and starts or aborts the plan when that decides it. */
export async function answer(desk: Desk, opened: Opened<'answer'>, envelope: SignedEnvelope) {
  const { message, signer: site, messageId } = opened;
  const bodyDigest = sha256Hex(envelope.body);
  const events = await withPlan(desk.database, message.planId, async (tx, plan): Promise<AggregatorEvent[]> => {
    const before = await tx.answer.findUnique({ where: { planId_site: { planId: plan.id, site } } });
    if (before !== null) {
      if (before.bodyDigest === bodyDigest && before.messageId === messageId) return [];
      throw replayed('This site has already answered this plan.');
    }
    if (message.planHash !== plan.planHash) {
      throw new FederationError('ROUND_MISMATCH', 'The answer is about another plan.', { where: 'plan_hash' });
    }
    if (plan.state !== 'proposed') {
      throw new FederationError('PLAN_STATE', `The plan no longer takes answers; it is ${plan.state}.`, {
        where: plan.id,
      });
    }
    const { accepted } = message;
    if (!accepted) checkCode(message.code);
    await tx.answer.create({
      data: {
        planId: plan.id,
        site,
        accepted,
        code: accepted ? '' : message.code,
        reason: accepted ? '' : printable(message.reason),
        messageId,
        bodyDigest,
        envelope: envelopeBytes(envelope),
      },
    });
    return advance(tx, desk, plan);
  });
  desk.log.info({ plan: message.planId, site, accepted: message.accepted, code: message.code }, 'plan answered');
  desk.announce(events);
  return { planId: message.planId };
}

/** Notes that a site knows how a plan ended. */
export async function acknowledge(desk: Desk, opened: Opened<'acknowledge'>) {
  const { message, signer: site } = opened;
  await withPlan(desk.database, message.planId, async (tx, plan) => {
    if (message.planHash !== plan.planHash) {
      throw new FederationError('ROUND_MISMATCH', 'The message is about another plan.', { where: 'plan_hash' });
    }
    if (plan.endedAt === null) {
      throw new FederationError('PLAN_STATE', 'The plan has not ended.', { where: plan.id });
    }
    await tx.answer.updateMany({
      where: { planId: plan.id, site, acknowledgedAt: null },
      data: { acknowledgedAt: new Date() },
    });
  });
  return { planId: message.planId };
}

function refused(where: string, message: string): FederationError {
  return new FederationError('PLAN_REFUSED', message, {
    where,
    fix: 'Correct the plan and propose it under a new id.',
  });
}
