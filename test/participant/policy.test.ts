/** A bank's floors: every one is enforced and says both numbers, and a misspelt one is an error. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type TrainingPlan, thresholdOf } from '../../src/learning/plan.ts';
import { checkPlan, defaultParticipation, parseParticipationPolicy } from '../../src/participant/policy.ts';
import { makeConsortium, makePlan } from '../federated/consortium.ts';

const plan = makePlan(makeConsortium(4, 3), { epsilon: 1, delta: 1e-6 });
const policy = parseParticipationPolicy({
  format: 'veilrisk-participation/2',
  minimumParticipants: 3,
  maximumEpsilonPerPlan: 1,
  maximumDeltaPerPlan: 1e-6,
  allowedContracts: [plan.contractHash],
});
const sum: TrainingPlan = {
  ...plan,
  ...{ mode: 'sum', quorum: 3, dropouts: 1, colluders: 1, threshold: 3, ringBits: 32, ringShift: 4 },
};

const roster = { sites: 4, minimumQuorum: 2 };

describe('policy', () => {
  test('what a file leaves out has the careful default', () => {
    expect(policy).toMatchObject({
      ...{ families: ['scorecard', 'logistic', 'mlp'], modes: ['site', 'sum'] },
      ...{ aggregator: 'lying', minimumColluders: 1, answers: 'automatic' },
    });
    expect(defaultParticipation({ epsilon: 2, delta: 1e-6 })).toEqual({
      ...policy,
      ...{ minimumParticipants: 2, maximumEpsilonPerPlan: 2, maximumDeltaPerPlan: 1e-6, allowedContracts: 'any' },
    });
  });

  test('accepts a plan at exactly its floors', () => {
    expect(checkPlan(policy, roster, plan)).toEqual({ accepted: true });
    expect(checkPlan(policy, roster, sum)).toEqual({ accepted: true });
    expect(
      checkPlan({ ...policy, allowedContracts: 'any' }, roster, { ...plan, contractHash: '0'.repeat(64) }).accepted,
    ).toBe(true);
  });

  test.each<[string, TrainingPlan, RegExp]>([
    ['POLICY_CONTRACT', { ...plan, contractHash: '0'.repeat(64) }, /not on the list/],
    ['POLICY_PARTICIPANTS', { ...plan, quorum: 2 }, /quorum 2 .* floor 3/],
    ['POLICY_ROSTER', { ...plan, quorum: 1 }, /at least 2; .* 4 and 1/],
    ['POLICY_ROSTER', { ...plan, sites: 5 }, /4 sites .* 5 and 3/],
    ['POLICY_EPSILON', { ...plan, epsilon: 1.0001 }, /1\.0001 .* limit 1/],
    ['POLICY_EPSILON', { ...plan, epsilon: Number.NaN }, /NaN/],
    ['POLICY_DELTA', { ...plan, delta: 2e-6 }, /0\.000002 .* 0\.000001/],
    ['POLICY_THRESHOLD', { ...sum, threshold: 2 }, /threshold 2 is below 3 of 4 .* lying/],
    ['POLICY_THRESHOLD', { ...sum, threshold: Number.NaN }, /NaN/],
    ['POLICY_COLLUDERS', { ...sum, colluders: 2 }, /bears 1 colluders .* says 2/],
    ['POLICY_COLLUDERS', { ...sum, colluders: 0 }, /Colluders 0 are below the floor 1/],
  ])('refuses with %s', (code, refused, reason) => {
    expect(checkPlan(policy, roster, refused)).toEqual({
      accepted: false,
      code,
      reason: expect.stringMatching(reason),
    });
  });

  test('a mode or a family that the bank leaves out is refused', () => {
    expect(checkPlan({ ...policy, modes: ['sum'] }, roster, plan)).toMatchObject({ code: 'POLICY_MODE' });
    expect(checkPlan({ ...policy, modes: ['site'] }, roster, sum)).toMatchObject({ code: 'POLICY_MODE' });
    expect(checkPlan({ ...policy, families: ['mlp'] }, roster, plan)).toMatchObject({
      code: 'POLICY_FAMILY',
      reason: 'Family "scorecard" is not accepted; this bank accepts "mlp".',
    });
  });

  test('a bank that relies on an aggregator that only watches accepts the smaller threshold, another does not', () => {
    const six = { sites: 6, minimumQuorum: 2 };
    const watching: TrainingPlan = { ...sum, sites: 6, quorum: 4, dropouts: 2, threshold: 4, colluders: 2 };
    expect(checkPlan({ ...policy, aggregator: 'watching' }, six, watching)).toEqual({ accepted: true });
    expect(checkPlan(policy, six, watching)).toMatchObject({ code: 'POLICY_THRESHOLD' });
  });

  test('what is accepted against a liar leaves an honest site in any two groups that could open a sum', () => {
    const plans = fc.record({
      ...{ sites: fc.integer({ min: 2, max: 100 }), threshold: fc.integer({ min: 0, max: 100 }) },
      ...{ colluders: fc.integer({ min: 0, max: 99 }), quorum: fc.integer({ min: 1, max: 100 }) },
    });
    fc.assert(
      fc.property(plans, ({ sites, threshold, colluders, quorum }) => {
        const asked = { ...sum, sites, threshold, colluders, quorum };
        const floors = { ...policy, minimumParticipants: 1, minimumColluders: 0 };
        const { accepted } = checkPlan(floors, { sites, minimumQuorum: 1 }, asked);
        const bears = threshold >= thresholdOf(sites, 'lying') && 2 * threshold - sites - colluders >= 1;
        expect(accepted).toBe(bears);
      }),
      { seed: 4, numRuns: 500 },
    );
  });

  test.each([
    [{ ...policy, minimumParticipant: 5 }],
    [{ ...policy, minimumParticipants: 0 }],
    [{ ...policy, maximumEpsilonPerPlan: '1' }],
    [{ ...policy, allowedContracts: [] }],
    [{ ...policy, allowedContracts: ['abc'] }],
    [{ ...policy, modes: [] }],
    [{ ...policy, modes: ['plain'] }],
    [{ ...policy, families: [] }],
    [{ ...policy, aggregator: 'honest' }],
    [{ ...policy, minimumColluders: -1 }],
    [{ ...policy, answers: 'never' }],
    [{ ...policy, format: 'veilrisk-participation/1' }],
    [null],
  ])('document %# is refused', (json) => {
    expect(() => parseParticipationPolicy(json)).toThrow(expect.objectContaining({ code: 'ROSTER_INVALID' }));
  });
});
