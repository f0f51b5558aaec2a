/**
 * What the tasks of one connection share: the signed way to the aggregator, and the plans this site has verified.
 *
 * A plan is known from the operator's own signed proposal, whoever hands it over.
 */

import { randomUUID } from 'node:crypto';
import { canonicalHash, parseCanonical } from '../../federated/protocol/canonical.ts';
import type { Party } from '../../federated/protocol/envelope.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import type { PlanOffer, SignedEnvelope } from '../../federated/protocol/generated/veilrisk_pb.js';
import type { Connection } from '../../federated/protocol/transport.ts';
import { type Contract, contractHash, parseContract } from '../contract/contract.ts';
import { FederationError, type FederationErrorCode } from '../errors.ts';
import { type Course, courseFor } from '../learning/course.ts';
import { type FederatedPlan, parseFederatedPlan } from '../learning/federatedPlan.ts';
import type { Log } from '../log.ts';
import type { RandomSource } from '../random.ts';
import type { ParticipantPort } from './port.ts';
import { PlanSums } from './sums.ts';

export const CALL_TIMEOUT_MS = 15_000;

export interface Session {
  readonly party: Party;
  readonly connection: Connection;
  readonly port: ParticipantPort;
  readonly log: Log;
  /** For keys and shares. */
  readonly random: RandomSource;
  /** That of the process: its secrets are gone with it. */
  readonly incarnation: string;
  /** Size of the own log the aggregator has cosigned last, as far as is known, and how often it was asked. */
  readonly cosigned: { size: number; sent: number };
  /** Verified plans by id, kept over reconnections. */
  readonly plans: Map<string, KnownPlan>;
}

export interface KnownPlan {
  readonly plan: FederatedPlan;
  readonly planHash: string;
  readonly contract: Contract;
  readonly course: Course;
  /** Keys and masked inputs; mode `sum` only. */
  readonly sums: PlanSums | null;
}

/** Safe to repeat: the aggregator has gone on, and the next task says what is wanted now. */
const LATE: ReadonlySet<FederationErrorCode> = new Set(['ROUND_CLOSED', 'ROUND_MISMATCH', 'EPOCH_UNKNOWN']);

/** Does a call whose message may come too late; false when it did. */
export async function unlessLate(
  { log }: Session,
  planId: string,
  call: () => Promise<unknown>,
  codes: ReadonlySet<FederationErrorCode> = LATE,
): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (cause) {
    const error = fromConnectError(cause);
    if (!codes.has(error.code)) throw error;
    log.warn({ plan: planId, code: error.code }, 'the message came too late');
    return false;
  }
}

/** After a restart the operator's proposal is fetched and verified again. */
export async function knownPlan(session: Session, planId: string, hash: string): Promise<KnownPlan> {
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

/** The plan of an offer, or the one that is known already: its keys outlive a repeated offer. */
export function openProposal(session: Session, proposal: PlanOffer['proposal']): KnownPlan {
  if (proposal === undefined) throw new FederationError('MESSAGE_MALFORMED', 'The message holds no proposal.');
  const { planJson, contractJson } = session.party.open('propose', proposal).message;
  const json = parseCanonical(planJson, 'plan');
  const plan = parseFederatedPlan(json);
  const contract = parseContract(parseCanonical(contractJson, 'contract'));
  const course = courseFor(plan, contract);
  if (contractHash(contract) !== plan.contractHash || canonicalHash(json) !== course.planHash) {
    throw new FederationError('PLAN_REFUSED', 'The proposal is not what its hashes name.', { where: plan.id });
  }
  const known = session.plans.get(plan.id);
  return known?.planHash === course.planHash ? known : planKnownAs(session, course);
}

export function planKnownAs({ party, random }: Pick<Session, 'party' | 'random'>, course: Course): KnownPlan {
  const { plan, planHash, contract } = course;
  const sums = plan.mode === 'sum' ? new PlanSums(plan, planHash, party, random) : null;
  return { plan, planHash, contract, course, sums };
}

/**
 * A message of another site that the aggregator hands on, with the id and the plan it must have.
 * @throws FederationError ROUND_MISMATCH, also for a signature that is not that site's.
 */
export function openForwarded<K extends 'keys' | 'agreement'>(
  { party }: Session,
  kind: K,
  envelope: SignedEnvelope,
  expected: { messageId: string; planId: string; planHash: string },
) {
  const where = envelope.signer;
  try {
    const { message, signer } = party.open(kind, envelope, expected.messageId);
    if (message.planId === expected.planId && message.planHash === expected.planHash) return { message, site: signer };
  } catch (cause) {
    throw new FederationError('ROUND_MISMATCH', 'A message of another site does not verify.', { where, cause });
  }
  throw new FederationError('ROUND_MISMATCH', 'A message of another site is about another plan.', { where });
}
