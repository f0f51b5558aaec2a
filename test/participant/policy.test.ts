/** A bank's floors: every one is enforced, and a misspelt one is an error. */
import { describe, expect, test } from '@jest/globals';
import type { TrainingPlan } from '../../src/learning/plan.ts';
import { checkPlan, parseParticipationPolicy } from '../../src/participant/policy.ts';
import { makeConsortium, makePlan } from '../federated/consortium.ts';

const plan = makePlan(makeConsortium(4, 3), { epsilon: 1, delta: 1e-6 });
const policy = parseParticipationPolicy({
  format: 'veilrisk-participation/1',
  minimumParticipants: 3,
  maximumEpsilonPerPlan: 1,
  maximumDeltaPerPlan: 1e-6,
  allowedContracts: [plan.contractHash],
});

const roster = { sites: 4, minimumQuorum: 2 };

describe('policy', () => {
  test('accepts a plan at exactly its floors', () => {
    expect(checkPlan(policy, roster, plan)).toEqual({ accepted: true });
    expect(
      checkPlan({ ...policy, allowedContracts: 'any' }, roster, { ...plan, contractHash: '0'.repeat(64) }).accepted,
    ).toBe(true);
  });

  test.each<[string, Partial<TrainingPlan>]>([
    ['POLICY_CONTRACT', { contractHash: '0'.repeat(64) }],
    ['POLICY_PARTICIPANTS', { quorum: 2 }],
    ['POLICY_ROSTER', { quorum: 1 }],
    ['POLICY_ROSTER', { sites: 5 }],
    ['POLICY_EPSILON', { epsilon: 1.0001 }],
    ['POLICY_EPSILON', { epsilon: Number.NaN }],
    ['POLICY_DELTA', { delta: 2e-6 }],
    ['POLICY_MODE', { mode: 'sum' }],
  ])('refuses with %s', (code, changes) => {
    expect(checkPlan(policy, roster, { ...plan, ...changes })).toMatchObject({ accepted: false, code });
  });

  test.each([
    [{ ...policy, minimumParticipant: 5 }],
    [{ ...policy, minimumParticipants: 0 }],
    [{ ...policy, maximumEpsilonPerPlan: '1' }],
    [{ ...policy, allowedContracts: [] }],
    [{ ...policy, allowedContracts: ['abc'] }],
    [null],
  ])('document %# is refused', (json) => {
    expect(() => parseParticipationPolicy(json)).toThrow(expect.objectContaining({ code: 'ROSTER_INVALID' }));
  });
});
