/**
 * A bank's own floors: which plans its node may take part in, whatever the operator or the aggregator says.
 *
 * Pure. The policy file is trusted: who can modify it can let the node join plans its owner would refuse; the privacy
 * ledger still bounds what such plans can release.
 */

import { z } from 'zod';
import { FederationError } from '../errors.ts';
import type { FederatedPlan } from '../learning/federatedPlan.ts';
import { type Aggregator, thresholdOf } from '../learning/plan.ts';

const PARTICIPATION_FORMAT = 'veilrisk-participation/2';
const FAMILIES = ['scorecard', 'logistic', 'mlp'] as const;
const MODES = ['site', 'sum'] as const;

const schema = z.strictObject({
  format: z.literal(PARTICIPATION_FORMAT, {
    error: `must be ${PARTICIPATION_FORMAT}, which states what it asks of secure aggregation too (README, "Participation policy")`,
  }),
  minimumParticipants: z.int().min(1),
  maximumEpsilonPerPlan: z.number().positive().finite(),
  maximumDeltaPerPlan: z.number().positive().lt(1),
  allowedContracts: z.union([
    z.literal('any'),
    z.array(z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')).min(1),
  ]),
  families: z
    .array(z.enum(FAMILIES))
    .min(1)
    .default([...FAMILIES]),
  modes: z
    .array(z.enum(MODES))
    .min(1)
    .default([...MODES]),
  aggregator: z.enum(['lying', 'watching']).default('lying'),
  minimumColluders: z.int().min(0).default(1),
  answers: z.enum(['automatic', 'manual']).default('automatic'),
});

export interface ParticipationPolicy {
  format: typeof PARTICIPATION_FORMAT;
  /** Smallest quorum of a plan: its model is made from at least this many banks. */
  minimumParticipants: number;
  maximumEpsilonPerPlan: number;
  maximumDeltaPerPlan: number;
  /** Contract hashes, or "any". */
  allowedContracts: 'any' | string[];
  /** Default: all. */
  families: ('scorecard' | 'logistic' | 'mlp')[];
  /** Trust modes. In `site` the bank relies on nobody; default: both. */
  modes: FederatedPlan['mode'][];
  /** Mode `sum`: the strongest aggregator the bank relies on; `lying` (default) refuses plans against `watching` ones. */
  aggregator: Aggregator;
  /** Mode `sum`: banks that a plan has to bear on the aggregator's side, at least; default 1. */
  minimumColluders: number;
  /** `manual`: a plan within the policy waits for a person (`veilrisk train accept`). */
  answers: 'automatic' | 'manual';
}

export type PolicyRefusalCode =
  | 'POLICY_CONTRACT'
  | 'POLICY_PARTICIPANTS'
  | 'POLICY_EPSILON'
  | 'POLICY_DELTA'
  | 'POLICY_MODE'
  | 'POLICY_FAMILY'
  | 'POLICY_THRESHOLD'
  | 'POLICY_COLLUDERS'
  | 'POLICY_ROSTER';

export type PolicyVerdict = { accepted: true } | { accepted: false; code: PolicyRefusalCode; reason: string };

/** The policy of a new node: nothing above its budget, at least two banks, secure aggregation against a liar. */
export function defaultParticipation(budget: { epsilon: number; delta: number }): ParticipationPolicy {
  return parseParticipationPolicy({
    format: PARTICIPATION_FORMAT,
    minimumParticipants: 2,
    maximumEpsilonPerPlan: budget.epsilon,
    maximumDeltaPerPlan: budget.delta,
    allowedContracts: 'any',
  });
}

/**
 * Strict: a misspelt floor is an error, not a missing one; one that is left out has its default. Throws ROSTER_INVALID with
 * one issue per rule broken.
 */
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
export function checkPlan(policy: ParticipationPolicy, roster: RosterFloors, plan: FederatedPlan): PolicyVerdict {
  const refuse = (code: PolicyRefusalCode, reason: string): PolicyVerdict => ({ accepted: false, code, reason });
  if (!policy.modes.includes(plan.mode)) {
    return refuse('POLICY_MODE', `Trust mode "${plan.mode}" is not accepted; this bank accepts ${list(policy.modes)}.`);
  }
  if (!policy.families.includes(plan.family)) {
    return refuse(
      'POLICY_FAMILY',
      `Family "${plan.family}" is not accepted; this bank accepts ${list(policy.families)}.`,
    );
  }
  if (policy.allowedContracts !== 'any' && !policy.allowedContracts.includes(plan.contractHash)) {
    return refuse('POLICY_CONTRACT', 'The contract of the plan is not on the list of allowed contracts.');
  }
  if (plan.sites !== roster.sites || plan.quorum < roster.minimumQuorum) {
    return refuse(
      'POLICY_ROSTER',
      `The roster has ${roster.sites} sites and a quorum of at least ${roster.minimumQuorum}; the plan has ` +
        `${plan.sites} and ${plan.quorum}.`,
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
  return plan.mode === 'site' ? { accepted: true } : checkSums(policy, plan);
}

/** What secure aggregation has to bear. */
function checkSums(policy: ParticipationPolicy, plan: FederatedPlan): PolicyVerdict {
  const { sites, threshold, colluders } = plan;
  const refuse = (code: PolicyRefusalCode, reason: string): PolicyVerdict => ({ accepted: false, code, reason });
  const least = thresholdOf(sites, policy.aggregator);
  if (!(threshold >= least)) {
    return refuse(
      'POLICY_THRESHOLD',
      `The threshold ${threshold} is below ${least} of ${sites} sites, the least against an aggregator that is ` +
        `${policy.aggregator === 'lying' ? 'lying' : 'only watching'}.`,
    );
  }
  // Two groups of `threshold` sites have 2 threshold - sites in common. One of these must be honest, or a liar has one
  // sum opened by one group and another by the second.
  const most = 2 * threshold - sites - 1;
  if (policy.aggregator === 'lying' && colluders > most) {
    return refuse(
      'POLICY_COLLUDERS',
      `A threshold of ${threshold} of ${sites} sites bears ${most} colluders beside an aggregator that is lying; the ` +
        `plan says ${colluders}.`,
    );
  }
  if (colluders < policy.minimumColluders) {
    return refuse('POLICY_COLLUDERS', `Colluders ${colluders} are below the floor ${policy.minimumColluders}.`);
  }
  return { accepted: true };
}

const list = (names: readonly string[]) => names.map((name) => `"${name}"`).join(', ');
