/**
 * The operator's calls: propose a plan, follow it, end it, fetch the signed model. A site may also ask for status and model.
 *
 * Every reply is verified against the roster before anything of it is returned.
 */

import { randomUUID } from 'node:crypto';
import { FederationError } from '../../src/errors.ts';
import { canonicalBytes, parseCanonical, sha256Hex } from './canonical.ts';
import { Party } from './envelope.ts';
import { fromConnectError } from './failure.ts';
import type { SignedEnvelope } from './generated/veilrisk_pb.js';
import type { IdentityKey } from './identity.ts';
import { OPERATOR, type Roster } from './roster.ts';
import { type Connection, connect } from './transport.ts';

const CALL_TIMEOUT_MS = 15_000;
/** A hundred sites are replayed one by one. */
const REPORT_TIMEOUT_MS = 300_000;
const DEFAULT_ACCEPTANCE_DEADLINE_MS = 60_000;

const STATES = ['proposed', 'counting', 'training', 'evaluating', 'completed', 'aborted'] as const;
const PHASES = ['', 'keys', 'shares', 'inputs', 'agreement', 'reveal'] as const;

export type PlanState = (typeof STATES)[number];

export interface PlanReport {
  planId: string;
  planHash: string;
  state: PlanState;
  /** Stable code and sentence when aborted, else empty. */
  code: string;
  reason: string;
  /** The open round, or the last closed one; 0 counts, 1..of gradients, of + 1 the evaluation. */
  round: number;
  of: number;
  /** What the open round waits for; empty when none is open. */
  phase: (typeof PHASES)[number];
  /** Attempt at the open round, from 1. */
  attempt: number;
  contributions: number;
  answers: { site: string; accepted: boolean; code: string; reason: string }[];
  /** 64 hex once completed, else null. */
  modelHash: string | null;
}

/** Who vouches for a model: the aggregator's signature over the message in PROTOCOL.md, "Model". */
export interface ModelEvidence {
  planId: string;
  planHash: string;
  modelHash: string;
  rosterHash: string;
  signer: string;
  messageId: string;
  /** The evaluation that is signed with the model, parsed from RFC 8785 JSON and not checked further; or null. */
  evaluation: object | null;
  /** base64 of the signed body and of the Ed25519 signature. */
  body: string;
  signature: string;
}

export interface SignedModel {
  /** Parsed RFC 8785 JSON; its SHA-256 was checked against the evidence. */
  model: unknown;
  evidence: ModelEvidence;
}

interface Caller {
  roster: Roster;
  /** Overrides the roster's URL. */
  url?: string;
  key: IdentityKey;
  /** Site id or "operator" (default). */
  name?: string;
}

/** Signs and sends a plan with its contract. The same plan sent twice is one plan. Throws FederationError. */
export async function proposePlan(options: {
  roster: Roster;
  operatorKey: IdentityKey;
  plan: { id: string };
  contract: object;
  url?: string;
  acceptanceDeadlineMs?: number;
}): Promise<{ planId: string; planHash: string }> {
  const { roster, operatorKey: key, plan, contract, url } = options;
  return call({ roster, key, ...(url === undefined ? {} : { url }) }, async ({ federation }, party, timeoutMs) => {
    const messageId = `propose/${plan.id}`;
    const request = party.seal('propose', messageId, {
      planJson: canonicalBytes(plan),
      contractJson: canonicalBytes(contract),
      acceptanceDeadlineMs: options.acceptanceDeadlineMs ?? DEFAULT_ACCEPTANCE_DEADLINE_MS,
    });
    const { message } = party.open('proposed', await federation.propose(request, { timeoutMs }), messageId);
    return { planId: message.planId, planHash: message.planHash };
  });
}

export async function planStatus(options: Caller & { planId: string }): Promise<PlanReport> {
  return call(options, async ({ federation }, party, timeoutMs) => {
    const messageId = `status/${randomUUID()}`;
    const request = party.seal('query', messageId, { planId: options.planId });
    const { message } = party.open('status', await federation.status(request, { timeoutMs }), messageId);
    const { planId, planHash, state, code, reason, round, of, contributions, modelHash, phase, attempt } = message;
    const answers = message.answers.map(({ site, accepted, code, reason }) => ({ site, accepted, code, reason }));
    return {
      ...{ planId, planHash, code, reason, round, of, attempt, contributions, answers },
      state: oneOf(STATES, state, 'state'),
      phase: oneOf(PHASES, phase, 'phase'),
      modelHash: modelHash === '' ? null : modelHash,
    };
  });
}

/** Ends a plan for good; what was released stays spent. One that was aborted before stays so. Throws PLAN_STATE when completed. */
export async function abortPlan(options: Caller & { planId: string; reason: string }): Promise<{ state: PlanState }> {
  const { planHash } = await planStatus(options);
  return call(options, async ({ federation }, party, timeoutMs) => {
    const { planId, reason } = options;
    const messageId = `abort/${planHash}`;
    const request = party.seal('abort', messageId, { planId, planHash, reason });
    const { message } = party.open('aborted', await federation.abort(request, { timeoutMs }), messageId);
    return { state: oneOf(STATES, message.state, 'state') };
  });
}

/** The published model of a completed plan. Throws PLAN_STATE before completion. */
export async function fetchModel(options: Caller & { planId: string }): Promise<SignedModel> {
  return call(options, async ({ federation }, party, timeoutMs) => {
    const messageId = `model/${randomUUID()}`;
    const request = party.seal('query', messageId, { planId: options.planId });
    const { message } = party.open('published', await federation.getModel(request, { timeoutMs }), messageId);
    return openModel(party, message.model);
  });
}

/** What each site did to the model of a completed plan, as the aggregator computed it: parsed RFC 8785 JSON. Operator only. */
export async function fetchInfluence(options: Caller & { planId: string }): Promise<unknown> {
  return call(options, async ({ federation }, party) => {
    const messageId = `influence/${randomUUID()}`;
    const request = party.seal('query', messageId, { planId: options.planId });
    const reply = await federation.getInfluence(request, { timeoutMs: REPORT_TIMEOUT_MS });
    const { message } = party.open('influence', reply, messageId);
    return parseCanonical(message.influenceJson, 'influence');
  });
}

/** Verifies a "model" envelope and the hash inside. Throws MESSAGE_MALFORMED or MESSAGE_SIGNATURE. */
export function openModel(party: Party, envelope: SignedEnvelope | undefined): SignedModel {
  if (envelope === undefined) throw new FederationError('MESSAGE_MALFORMED', 'The message holds no model.');
  const { message, signer, messageId } = party.open('model', envelope);
  if (messageId !== modelMessageId(message.planHash) || sha256Hex(message.modelJson) !== message.modelHash) {
    throw new FederationError('MESSAGE_SIGNATURE', 'The model does not match its own hash.', { where: 'model_hash' });
  }
  const { planId, planHash, modelHash } = message;
  const evidence: ModelEvidence = {
    ...{ planId, planHash, modelHash, rosterHash: party.rosterHash, signer, messageId },
    evaluation: message.evaluationJson.length === 0 ? null : parseCanonical(message.evaluationJson, 'evaluation'),
    body: Buffer.from(envelope.body).toString('base64'),
    signature: Buffer.from(envelope.signature).toString('base64'),
  };
  return { model: parseCanonical(message.modelJson, 'model'), evidence };
}

/** A plan has one model, so its envelope has a fixed id and, Ed25519 being deterministic, fixed bytes. */
export function modelMessageId(planHash: string): string {
  return `model/${planHash}`;
}

async function call<T>(
  caller: Caller,
  use: (connection: Connection, party: Party, timeoutMs: number) => Promise<T>,
): Promise<T> {
  const party = new Party(caller.roster, caller.name ?? OPERATOR, caller.key);
  const connection = connect(caller.roster, caller.url, caller.key);
  try {
    return await use(connection, party, CALL_TIMEOUT_MS);
  } catch (error) {
    throw fromConnectError(error, caller.url ?? caller.roster.aggregator.url);
  } finally {
    connection.close();
  }
}

function oneOf<T extends string>(known: readonly T[], text: string, where: string): T {
  const found = known.find((each) => each === text);
  if (found !== undefined) return found;
  throw new FederationError('MESSAGE_MALFORMED', 'The aggregator reports a plan as no version of ours knows it.', {
    where,
    fix: 'Use the software of one version at all parties.',
  });
}
