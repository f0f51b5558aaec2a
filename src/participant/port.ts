/**
 * What a participant needs from its bank: decisions, noised releases, two memories that outlive the process (which sum of
 * a round was opened, what the aggregator's log looked like), and a place for the model.
 *
 * The participant never sees a record. Whoever implements this port reserves budget before noise is drawn, and gives the
 * same bytes again when the same release is asked for again.
 */

import type { ModelEvidence } from '../../federated/protocol/client.ts';
import type { LogHead } from '../../federated/protocol/generated/veilrisk_pb.js';
import type { Contract } from '../contract/contract.ts';
import type { CourseWeights } from '../learning/course.ts';
import type { FederatedPlan } from '../learning/federatedPlan.ts';
import type { AdditiveModel } from '../learning/site.ts';

/** One release a round asks for. */
export interface ReleaseTask {
  plan: FederatedPlan;
  planHash: string;
  contract: Contract;
  /** 0 asks for bin counts, 1..plan.rounds for a gradient, the next one for the score histogram of an evaluation. */
  round: number;
  /** Attempt at the round; the release is the same in all of them. */
  attempt: number;
  /** State of the round as it came, with the length the plan's model has; nothing in round 0. */
  weights: CourseWeights;
  /** A scorecard's weights as a model: to take the gradient at or to evaluate. Null in round 0 and for other families. */
  model: AdditiveModel | null;
  /** State hash of the round, 64 hex: names the model the release belongs to. */
  stateHash: string;
}

export type PlanVerdict = { accepted: true } | { accepted: false; code: string; reason: string };

/** `null`: a person has to decide; ask again. */
export type PlanAnswer = PlanVerdict | { accepted: null };

/** The one sum of a round that a node helps to unmask. */
export interface SumRelease {
  planId: string;
  round: number;
  attempt: number;
  /** What the survivors agreed on, 32 bytes. */
  agreement: Uint8Array;
}

/** A checkpoint and its proof, as on the wire. */
export type Head = Pick<LogHead, 'checkpoint' | 'oldSize' | 'proof'>;

/** A head that was accepted: the cosignature line, and 32 bytes that name it, SHA-256 of "size\nroot\n". */
export interface SeenLog {
  /** Empty for a head that is older than the newest accepted one. */
  readonly cosignature: string;
  readonly logHead: Uint8Array;
}

/** The two logs: the aggregator's, which this node watches, and its own, which the aggregator cosigns. */
export interface LogWitness {
  /** Size of the aggregator's log this node has accepted last, 0 for none. */
  size(): Promise<number>;
  /**
   * Accepts a head of the aggregator's log that is consistent with all it accepted before. Must be idempotent.
   * @throws FederationError LOG_INCONSISTENT, with evidence kept.
   */
  witness(head: Head): Promise<SeenLog>;
  /** Verifier key of the node's own log (C2SP signed-note). */
  readonly verifierKey: string;
  /** The own newest checkpoint with the proof from `oldSize`. */
  ownHead(oldSize: number): Promise<Head>;
  /** The aggregator's cosignature of the own checkpoint of `size`. */
  ownCosigned(line: string, size: number): Promise<void>;
}

export interface ParticipantPort {
  /** The node's policy and data decide. The proposal's signature and the contract's hash have been verified. */
  answerPlan(plan: FederatedPlan, planHash: string, contract: Contract): Promise<PlanAnswer>;
  /**
   * Noised exact integers, at the resolution of the plan (in an evaluation: one per score bin and label), and the
   * ledger's name of the release.
   * A VeilriskError of the classes Privacy, Learning or Contract declines this round; anything else is tried again.
   */
  release(task: ReleaseTask): Promise<{ histogram: Float64Array; releaseId: string }>;
  /**
   * Notes, durably and before any share leaves, that this node helps to unmask this sum. Idempotent for the same sum.
   * @throws PrivacyError RELEASE_REPLAYED for a second sum of the round.
   */
  revealing(sum: SumRelease): Promise<void>;
  /** Absent where no log is watched: sums are then agreed on without one. */
  readonly logs?: LogWitness;
  /** Verified model of a plan this site accepted. Must be idempotent: a crash after it repeats the call. */
  adopt(model: unknown, evidence: ModelEvidence): Promise<void>;
  /** After `adopt`, or alone when the plan was aborted. Must be idempotent. */
  planEnded(planId: string, state: 'completed' | 'aborted', reason: string): Promise<void>;
}
