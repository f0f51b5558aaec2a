/**
 * Answering plans, doing rounds, ending plans: verify, ask the bank's port, send the signed result.
 *
 * Every message id is a function of the task, so a repetition after a crash is the same message and the aggregator
 * answers it the same way. A release computed on one model state is never sent for another, and whether it goes out
 * masked is decided by the operator's plan alone: no task can ask for the plain numbers of a round that is summed.
 */

import { openModel } from '../../federated/protocol/client.ts';
import type { BodyInit } from '../../federated/protocol/envelope.ts';
import type {
  PlanEnded,
  PlanOffer,
  RoundTask,
  SignedEnvelope,
} from '../../federated/protocol/generated/veilrisk_pb.js';
import { encodeHistogram } from '../../federated/protocol/histogram.ts';
import { decodeWeights, stateHash } from '../../federated/protocol/weights.ts';
import { type Contract, layoutOf } from '../contract/contract.ts';
import {
  ContractError,
  FederationError,
  LearningError,
  PrivacyError,
  SecaggError,
  type VeilriskError,
} from '../errors.ts';
import type { CourseWeights } from '../learning/course.ts';
import type { AdditiveModel } from '../learning/site.ts';
import type { PlanVerdict, ReleaseTask, SeenLog } from './port.ts';
import { CALL_TIMEOUT_MS, type KnownPlan, knownPlan, openProposal, type Session, unlessLate } from './session.ts';
import type { OpenSum, PlanSums } from './sums.ts';
import { sealAgreement } from './sumTasks.ts';

type Outcome = NonNullable<BodyInit<'update'>['outcome']>;

/** Answers a plan the operator signed. False when a person has to decide first: ask again. */
export async function answerOffer(session: Session, offer: PlanOffer): Promise<boolean> {
  const known = openProposal(session, offer.proposal);
  const { plan, planHash: hash, contract } = known;
  const verdict = await session.port.answerPlan(plan, hash, contract);
  if (!session.plans.has(plan.id)) session.plans.set(plan.id, known);
  if (verdict.accepted === null) return false;
  await sendAnswer(session, known, verdict);
  return true;
}

async function sendAnswer(session: Session, { plan, planHash: hash }: KnownPlan, verdict: PlanVerdict): Promise<void> {
  const messageId = `answer/${hash}`;
  const envelope = session.party.seal('answer', messageId, {
    planId: plan.id,
    planHash: hash,
    ...(verdict.accepted ? { accepted: true } : { accepted: false, code: verdict.code, reason: verdict.reason }),
  });
  const call = async () => {
    const reply = await session.connection.federation.answer(envelope, { timeoutMs: CALL_TIMEOUT_MS });
    session.party.open('answered', reply, messageId);
  };
  const isTaken = await unlessLate(session, plan.id, call, new Set(['PLAN_STATE']));
  // Decided after the deadline: the plan runs without this site, or not at all.
  if (!isTaken) await session.port.planEnded(plan.id, 'aborted', 'The plan took no answers any more.');
  session.log.info({ plan: plan.id, accepted: verdict.accepted, isTaken }, 'plan answered');
}

/** Releases and sends what a round asks for, or a signed refusal. @param seen the aggregator's log, with the task. */
export async function doRound(session: Session, task: RoundTask, seen: SeenLog | undefined): Promise<void> {
  const known = await knownPlan(session, task.planId, task.planHash);
  const { plan, course } = known;
  const weights = { intercept: task.intercept, flat: decodeWeights(task.weights) };
  const { round, attempt } = task;
  if (
    round < course.firstRound ||
    round > course.lastRound ||
    !Buffer.from(stateHash(weights)).equals(task.stateHash)
  ) {
    throw new FederationError('ROUND_MISMATCH', 'The task does not fit its plan or its own state hash.', {
      where: `round ${round}`,
    });
  }
  const log = requireLog(session, seen);
  const sums = sumsOf(known, task);
  const release = releaseTask(known, task, weights);
  let outcome: Outcome;
  let cosignature = '';
  let agreement: SignedEnvelope | undefined;
  try {
    if (sums === null) {
      ({ cosignature } = log);
      outcome = plainOf(await session.port.release(release), course.dimension(round));
    } else {
      const sum = openSum(known, sums, task, log);
      ({ cosignature } = sum);
      outcome = maskedOf(await session.port.release(release), sum);
      const onAll = sum.participant.agreeOnAll(sum.context);
      sum.agreement ??= onAll;
      sums.keep(sum);
      agreement = sealAgreement(session, task, onAll);
    }
  } catch (error) {
    if (!declines(error)) throw error;
    session.log.warn({ plan: plan.id, round, attempt, code: error.code }, 'round declined');
    // The code alone: a message could say more about the bank than the others need to know.
    outcome = { case: 'refusal', value: { code: error.code, reason: 'The site declined this round.' } };
  }
  const base = { planId: plan.id, planHash: task.planHash, round, attempt, stateHash: task.stateHash, cosignature };
  const messageId = `update/${task.planHash}/${round}${sums === null ? '' : `/${attempt}`}`;
  const envelope = session.party.seal('update', messageId, {
    ...{ ...base, outcome },
    ...(agreement === undefined ? {} : { agreement }),
  });
  // Too late, or the plan moved on: the release stays spent.
  await unlessLate(session, plan.id, async () => {
    const reply = await session.connection.federation.submit(envelope, { timeoutMs: CALL_TIMEOUT_MS });
    session.party.open('received', reply, messageId);
  });
}

/** Where a round's numbers go: under masks, or null for in the clear. The plan says which; a task that differs is refused. */
function sumsOf({ plan, course, sums }: KnownPlan, { round, sum }: RoundTask): PlanSums | null {
  const bits = course.ringBits(round);
  if (bits === 0 && sum === undefined) return null;
  if (bits > 0 && sum?.bits === bits && sums !== null) return sums;
  const wanted = bits === 0 ? 'in the clear' : `under masks of ${bits} bits`;
  throw new FederationError('ROUND_MISMATCH', `The plan makes this sum ${wanted}, and the task asks otherwise.`, {
    where: `plan ${plan.id}, round ${round}`,
  });
}

function releaseTask({ plan, planHash, contract }: KnownPlan, task: RoundTask, weights: CourseWeights): ReleaseTask {
  const { round, attempt } = task;
  const model = round > 0 && plan.family === 'scorecard' ? modelOf(weights, contract) : null;
  const hash = Buffer.from(task.stateHash).toString('hex');
  return { plan, planHash, contract, round, attempt, weights, model, stateHash: hash };
}

/** Where logs are watched, no round goes without: sites that are shown none could not find out that they differ. */
function requireLog({ port }: Session, seen: SeenLog | undefined): SeenLog {
  if (seen !== undefined) return seen;
  if (port.logs === undefined) return { cosignature: '', logHead: new Uint8Array(32) };
  throw new FederationError('LOG_INCONSISTENT', 'The aggregator does not show its log with a round.', { where: 'log' });
}

function openSum({ course }: KnownPlan, sums: PlanSums, task: RoundTask, log: SeenLog): OpenSum {
  const { round, attempt, stateHash, sum } = task;
  const { epoch, slot, members, bits } = sum ?? { epoch: 0, slot: 0, members: [], bits: 0 };
  const dimension = course.dimension(round);
  const { logHead, cosignature } = log;
  return sums.open(epoch, { round, attempt, slot, stateHash, members, dimension, bits, logHead }, cosignature);
}

type Released = Awaited<ReturnType<Session['port']['release']>>;

function plainOf({ histogram, releaseId }: Released, cells: number): Outcome {
  if (histogram.length !== cells) {
    throw new LearningError('TRAINING_INPUT', `The release must have ${cells} coordinates.`, { where: releaseId });
  }
  return { case: 'histogram', value: { dimension: cells, values: encodeHistogram(histogram), releaseId } };
}

function maskedOf({ histogram, releaseId }: Released, sum: OpenSum): Outcome {
  const { dimension, bits, slot } = sum.context;
  const values = sum.participant.mask(sum.context, histogram);
  return { case: 'masked', value: { dimension, bits, values: bytes(values), epoch: sum.epoch, slot, releaseId } };
}

/** Adopts the model of a completed plan, tells the port, and tells the aggregator that we know. */
export async function endPlan(session: Session, ended: PlanEnded, seen?: SeenLog): Promise<void> {
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
  session.plans.get(planId)?.sums?.close();
  session.plans.delete(planId);
  const messageId = `acknowledge/${hash}`;
  const envelope = session.party.seal('acknowledge', messageId, {
    ...{ planId, planHash: hash, cosignature: seen?.cosignature ?? '' },
  });
  const reply = await session.connection.federation.acknowledge(envelope, { timeoutMs: CALL_TIMEOUT_MS });
  session.party.open('acknowledged', reply, messageId);
  session.log.info({ plan: planId, state }, 'plan ended');
}

function modelOf({ intercept, flat }: CourseWeights, contract: Contract): AdditiveModel {
  const { sizes, offsets, total } = layoutOf(contract);
  if (flat.length !== total || !Number.isFinite(intercept)) {
    throw new FederationError('MESSAGE_MALFORMED', `The round's model must have ${total} weights.`, {
      where: 'weights',
    });
  }
  return { intercept, weights: sizes.map((size, k) => Array.from(flat.subarray(offsets[k], offsets[k] + size))) };
}

/** Safe: what secure aggregation packs never lives in shared memory. */
const bytes = (view: Uint8Array): Uint8Array<ArrayBuffer> => view as Uint8Array<ArrayBuffer>;

/** Errors that would come again however often we asked. */
function declines(error: unknown): error is VeilriskError {
  if (error instanceof FederationError) return error.code === 'EPOCH_UNKNOWN' || error.code === 'LOG_INCONSISTENT';
  return (
    error instanceof PrivacyError ||
    error instanceof LearningError ||
    error instanceof ContractError ||
    error instanceof SecaggError
  );
}
