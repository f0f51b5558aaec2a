/**
 * A bank's own floors: which plans its node may take part in, whatever the operator or the aggregator says.
 *
 * Pure. The policy file is trusted: who can modify it can let the node join plans its owner would refuse; the privacy
 * ledger still bounds what such plans can release.
 */

import { z } from 'zod';
import { FederationError } from '../errors.ts';
import type { TrainingPlan } from '../learning/plan.ts';

const PARTICIPATION_FORMAT = 'veilrisk-participation/1';

const schema = z.strictObject({
  format: z.literal(PARTICIPATION_FORMAT),
  minimumParticipants: z.int().min(1),
  maximumEpsilonPerPlan: z.number().positive().finite(),
  maximumDeltaPerPlan: z.number().positive().lt(1),
  allowedContracts: z.union([
    z.literal('any'),
    z.array(z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')).min(1),
  ]),
});

export interface ParticipationPolicy {
  format: typeof PARTICIPATION_FORMAT;
  /** Smallest quorum of a plan: its model is made from at least this many banks. */
  minimumParticipants: number;
  maximumEpsilonPerPlan: number;
  maximumDeltaPerPlan: number;
  /** Contract hashes, or "any". */
  allowedContracts: 'any' | string[];
}

export type PolicyRefusalCode =
  | 'POLICY_CONTRACT'
  | 'POLICY_PARTICIPANTS'
  | 'POLICY_EPSILON'
  | 'POLICY_DELTA'
  | 'POLICY_MODE'
  | 'POLICY_ROSTER';

export type PolicyVerdict = { accepted: true } | { accepted: false; code: PolicyRefusalCode; reason: string };

/** Strict: a misspelt floor is an error, not a missing one. Throws ROSTER_INVALID with one issue per rule broken. */
export function parseParticipationPolicy(json: unknown): ParticipationPolicy {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({ field: issue.path.join('.'), rule: issue.message }));
  const where = issues[0].field === '' ? 'policy' : issues[0].field;
  throw new FederationError('ROSTER_INVALID', `The participation policy is invalid: ${where}: ${issues[0].rule}.`, {
    where,
    fix: 'Correct the policy file of this node.',
    issues,
  });
}

/** What the roster promises every site, whoever runs the aggregator. */
export interface RosterFloors {
  readonly sites: number;
  readonly minimumQuorum: number;
}

/** The first floor a plan breaks, with a reason that may be sent to the operator, or acceptance. */
export function checkPlan(policy: ParticipationPolicy, roster: RosterFloors, plan: TrainingPlan): PolicyVerdict {
  const refuse = (code: PolicyRefusalCode, reason: string): PolicyVerdict => ({ accepted: false, code, reason });
  if (plan.mode !== 'site') return refuse('POLICY_MODE', 'Only trust mode "site" is accepted.');
  if (policy.allowedContracts !== 'any' && !policy.allowedContracts.includes(plan.contractHash)) {
    return refuse('POLICY_CONTRACT', 'The contract of the plan is not on the list of allowed contracts.');
  }
  if (plan.sites !== roster.sites || plan.quorum < roster.minimumQuorum) {
    return refuse(
      'POLICY_ROSTER',
      `The roster has ${roster.sites} sites and a quorum of at least ${roster.minimumQuorum}.`,
    );
  }
  if (plan.quorum < policy.minimumParticipants) {
    return refuse('POLICY_PARTICIPANTS', `The quorum ${plan.quorum} is below the floor ${policy.minimumParticipants}.`);
  }
  // Written so that a NaN refuses.
  if (!(plan.epsilon <= policy.maximumEpsilonPerPlan)) {
    return refuse('POLICY_EPSILON', `Epsilon ${plan.epsilon} is above the limit ${policy.maximumEpsilonPerPlan}.`);
  }
  if (!(plan.delta <= policy.maximumDeltaPerPlan)) {
    return refuse('POLICY_DELTA', `Delta ${plan.delta} is above the limit ${policy.maximumDeltaPerPlan}.`);
  }
  return { accepted: true };
}
