/**
 * What a participant needs from its bank: decisions, noised releases and a place for the model.
 *
 * The participant never sees a record. Whoever implements this port reserves budget before noise is drawn, and gives the
 * same bytes again when the same release is asked for again.
 */

import type { ModelEvidence } from '../../federated/protocol/client.ts';
import type { Contract } from '../contract/contract.ts';
import type { TrainingPlan } from '../learning/plan.ts';
import type { AdditiveModel } from '../learning/site.ts';

/** One release a round asks for. */
export interface ReleaseTask {
  plan: TrainingPlan;
  planHash: string;
  contract: Contract;
  /** 0 asks for bin counts, 1..plan.rounds for a gradient, the next one for the score histogram of an evaluation. */
  round: number;
  /** The model to take the gradient at or to evaluate; null in round 0. */
  model: AdditiveModel | null;
  /** State hash of the round, 64 hex: names the model the release belongs to. */
  stateHash: string;
}

export type PlanVerdict = { accepted: true } | { accepted: false; code: string; reason: string };

export interface ParticipantPort {
  /** The node's policy and data decide. The proposal's signature and the contract's hash have been verified. */
  answerPlan(plan: TrainingPlan, planHash: string, contract: Contract): Promise<PlanVerdict>;
  /**
   * Noised exact integers, at the resolution of the plan (in an evaluation: one per score bin and label), and the
   * ledger's name of the release.
   * A VeilriskError of the classes Privacy, Learning or Contract declines this round; anything else is tried again.
   */
  release(task: ReleaseTask): Promise<{ histogram: Float64Array; releaseId: string }>;
  /** Verified model of a plan this site accepted. Must be idempotent: a crash after it repeats the call. */
  adopt(model: unknown, evidence: ModelEvidence): Promise<void>;
  /** After `adopt`, or alone when the plan was aborted. Must be idempotent. */
  planEnded(planId: string, state: 'completed' | 'aborted', reason: string): Promise<void>;
}
