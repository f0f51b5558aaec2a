/**
 * Doing one task: verify, ask the bank's port, send the signed result.
 *
 * Every message id is a function of the task, so a repetition after a crash is the same message and the aggregator
 * answers it the same way. A release computed on one model state is never sent for another.
 */

import { randomUUID } from 'node:crypto';
import { canonicalHash, parseCanonical } from '../../federated/protocol/canonical.ts';
import { openModel } from '../../federated/protocol/client.ts';
import type { BodyInit, Party } from '../../federated/protocol/envelope.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import type { PlanEnded, PlanOffer, RoundTask } from '../../federated/protocol/generated/veilrisk_pb.js';
import { encodeHistogram } from '../../federated/protocol/histogram.ts';
import type { Connection } from '../../federated/protocol/transport.ts';
import { decodeWeights, stateHash } from '../../federated/protocol/weights.ts';
import { type Contract, contractHash, layoutOf, parseContract } from '../contract/contract.ts';
import { ContractError, FederationError, LearningError, PrivacyError, type VeilriskError } from '../errors.ts';
import { courseFor } from '../learning/course.ts';
import { evaluationRound } from '../learning/modelEvaluation.ts';
import { parsePlan, planHash, type TrainingPlan } from '../learning/plan.ts';
import type { AdditiveModel } from '../learning/site.ts';
import type { Log } from '../log.ts';
import type { ParticipantPort, PlanVerdict } from './port.ts';

const CALL_TIMEOUT_MS = 15_000;

export interface Session {
  readonly party: Party;
  readonly connection: Connection;
  readonly port: ParticipantPort;
  readonly log: Log;
  /** Verified plans by id, kept over reconnections. */
  readonly plans: Map<string, KnownPlan>;
}

export interface KnownPlan {
  plan: TrainingPlan;
  planHash: string;
  contract: Contract;
}

/** Answers a plan the operator signed. */
export async function answerOffer(session: Session, offer: PlanOffer): Promise<void> {
  const known = openProposal(session, offer.proposal);
  const { plan, planHash: hash, contract } = known;
  const verdict: PlanVerdict = await session.port.answerPlan(plan, hash, contract);
  session.plans.set(plan.id, known);
  const messageId = `answer/${hash}`;
  const envelope = session.party.seal('answer', messageId, {
    planId: plan.id,
    planHash: hash,
    ...(verdict.accepted ? { accepted: true } : { accepted: false, code: verdict.code, reason: verdict.reason }),
  });
  const reply = await session.connection.federation.answer(envelope, { timeoutMs: CALL_TIMEOUT_MS });
  session.party.open('answered', reply, messageId);
  session.log.info({ plan: plan.id, accepted: verdict.accepted }, 'plan answered');
}

/** Releases and sends the histogram a round asks for, or a signed refusal. */
export async function doRound(session: Session, task: RoundTask): Promise<void> {
  const { plan, contract } = await knownPlan(session, task.planId, task.planHash);
  const flat = decodeWeights(task.weights);
  const hash = stateHash({ intercept: task.intercept, flat });
  if (task.round > (evaluationRound(plan) ?? plan.rounds) || !Buffer.from(hash).equals(task.stateHash)) {
    throw new FederationError('ROUND_MISMATCH', 'The task does not fit its plan or its own state hash.', {
      where: `round ${task.round}`,
    });
  }
  const model = task.round === 0 ? null : modelOf(task.intercept, flat, contract);
  const base = { planId: plan.id, planHash: task.planHash, round: task.round, stateHash: task.stateHash };
  let outcome: BodyInit<'update'>['outcome'];
  try {
    const release = { plan, planHash: task.planHash, contract, round: task.round, model };
    const { histogram, releaseId } = await session.port.release({
      ...release,
      stateHash: Buffer.from(hash).toString('hex'),
    });
    const cells = courseFor(plan, contract).dimension(task.round);
    if (histogram.length !== cells) {
      throw new LearningError('TRAINING_INPUT', `The release must have ${cells} coordinates.`, { where: plan.id });
    }
    outcome = {
      case: 'histogram',
      value: { dimension: histogram.length, values: encodeHistogram(histogram), releaseId },
    };
  } catch (error) {
    if (!declines(error)) throw error;
    session.log.warn({ plan: plan.id, round: task.round, code: error.code }, 'round declined');
    // The code alone: a message could say more about the bank than the others need to know.
    outcome = { case: 'refusal', value: { code: error.code, reason: 'The site declined this round.' } };
  }
  await send(session, task, { ...base, outcome });
}

async function send(session: Session, task: RoundTask, update: BodyInit<'update'>): Promise<void> {
  const messageId = `update/${task.planHash}/${task.round}`;
  const envelope = session.party.seal('update', messageId, update);
  try {
    const reply = await session.connection.federation.submit(envelope, { timeoutMs: CALL_TIMEOUT_MS });
    session.party.open('received', reply, messageId);
  } catch (cause) {
    const error = fromConnectError(cause);
    // Too late, or the plan moved on: the next task says what is wanted now. The release stays spent.
    if (error.code !== 'ROUND_CLOSED' && error.code !== 'ROUND_MISMATCH') throw error;
    session.log.warn({ plan: task.planId, round: task.round, code: error.code }, 'update came too late');
  }
}

/** Adopts the model of a completed plan, tells the port, and tells the aggregator that we know. */
export async function endPlan(session: Session, ended: PlanEnded): Promise<void> {
  const { planId, planHash: hash, state, reason } = ended;
  if (state !== 'completed' && state !== 'aborted') {
    throw new FederationError('MESSAGE_MALFORMED', 'The plan ended in an unknown state.', { where: 'state' });
  }
  if (state === 'completed') {
    await knownPlan(session, planId, hash);
    const { model, evidence } = openModel(session.party, ended.model);
    if (evidence.planId !== planId || evidence.planHash !== hash) {
      throw new FederationError('MESSAGE_SIGNATURE', 'The model belongs to another plan.', { where: planId });
    }
    await session.port.adopt(model, evidence);
  }
  await session.port.planEnded(planId, state, reason);
  const messageId = `acknowledge/${hash}`;
  const envelope = session.party.seal('acknowledge', messageId, { planId, planHash: hash });
  const reply = await session.connection.federation.acknowledge(envelope, { timeoutMs: CALL_TIMEOUT_MS });
  session.party.open('acknowledged', reply, messageId);
  session.plans.delete(planId);
  session.log.info({ plan: planId, state }, 'plan ended');
}

/** After a restart the operator's proposal is fetched and verified again. */
async function knownPlan(session: Session, planId: string, hash: string): Promise<KnownPlan> {
  let known = session.plans.get(planId);
  if (known === undefined) {
    const messageId = `plan/${randomUUID()}`;
    const query = session.party.seal('query', messageId, { planId });
    const reply = await session.connection.federation.getPlan(query, { timeoutMs: CALL_TIMEOUT_MS });
    known = openProposal(session, session.party.open('plan', reply, messageId).message.proposal);
    session.plans.set(planId, known);
  }
  if (known.plan.id !== planId || known.planHash !== hash) {
    throw new FederationError('ROUND_MISMATCH', 'The task names another plan than the operator signed.', {
      where: planId,
    });
  }
  return known;
}

function openProposal(session: Session, proposal: PlanOffer['proposal']): KnownPlan {
  if (proposal === undefined) throw new FederationError('MESSAGE_MALFORMED', 'The message holds no proposal.');
  const { message } = session.party.open('propose', proposal);
  const json = parseCanonical(message.planJson, 'plan');
  const plan = parsePlan(json);
  const contract = parseContract(parseCanonical(message.contractJson, 'contract'));
  if (contractHash(contract) !== plan.contractHash || canonicalHash(json) !== planHash(plan)) {
    throw new FederationError('PLAN_REFUSED', 'The proposal is not what its hashes name.', { where: plan.id });
  }
  return { plan, planHash: planHash(plan), contract };
}

function modelOf(intercept: number, flat: Float64Array, contract: Contract): AdditiveModel {
  const { sizes, offsets, total } = layoutOf(contract);
  if (flat.length !== total || !Number.isFinite(intercept)) {
    throw new FederationError('MESSAGE_MALFORMED', `The round's model must have ${total} weights.`, {
      where: 'weights',
    });
  }
  return { intercept, weights: sizes.map((size, k) => Array.from(flat.subarray(offsets[k], offsets[k] + size))) };
}

/** Errors that would come again however often we asked. */
function declines(error: unknown): error is VeilriskError {
  return error instanceof PrivacyError || error instanceof LearningError || error instanceof ContractError;
}
