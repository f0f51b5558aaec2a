/** Whom a plan trusts when nobody says: every default is one that a bank with default floors accepts. */
import { describe, expect, test } from '@jest/globals';
import { thresholdOf } from '../../src/learning/plan.ts';
import { planFor } from '../../src/operations/trainingPlans.ts';
import { trustFor } from '../../src/operations/trustWishes.ts';
import { checkPlan, defaultParticipation } from '../../src/participant/policy.ts';
import { contract } from './node.ts';

const wishes = { contract, epsilon: 1, delta: 1e-6, expectedRows: 100_000 };
const policy = defaultParticipation({ epsilon: 1, delta: 1e-6 });

describe('by default', () => {
  test('two banks are on their own, and three sum under masks', () => {
    expect(trustFor({ sites: 2, minimumQuorum: 1 }, {})).toMatchObject({ mode: 'site', colluders: 0, dropouts: 0 });
    expect(trustFor({ sites: 3, minimumQuorum: 2 }, {})).toEqual({
      ...{ mode: 'sum', quorum: 3, colluders: 1, dropouts: 0, aggregator: 'lying' },
    });
  });

  test.each(Array.from({ length: 98 }, (_, i) => i + 3))('%i banks get a plan that default floors accept', (sites) => {
    const floors = { sites, minimumQuorum: 2 };
    const trust = trustFor(floors, {});
    const threshold = thresholdOf(sites, 'lying');
    expect(trust).toMatchObject({ mode: 'sum', quorum: threshold, dropouts: sites - threshold });
    expect(trust.colluders).toBe(Math.max(1, Math.floor(sites / 6)));
    // Most of the noise of the banks that are present is nobody's but theirs.
    expect(trust.colluders / trust.quorum).toBeLessThanOrEqual(1 / 3);
    const verdict = checkPlan(policy, floors, { ...plan, sites, threshold, ...trust });
    expect(verdict).toEqual({ accepted: true });
  });
  const plan = planFor({ sites: 3, minimumQuorum: 2 }, wishes);

  test('a quorum below the threshold leaves secure aggregation out, and one above lets fewer be absent', () => {
    const floors = { sites: 6, minimumQuorum: 2 };
    expect(trustFor(floors, { quorum: 4 })).toMatchObject({ mode: 'site', quorum: 4 });
    expect(trustFor(floors, { quorum: 6 })).toMatchObject({ mode: 'sum', dropouts: 0 });
    expect(trustFor(floors, { aggregator: 'watching' })).toMatchObject({ mode: 'sum', quorum: 4, dropouts: 2 });
    expect(trustFor({ sites: 6, minimumQuorum: 6 }, {})).toMatchObject({ mode: 'sum', quorum: 6, dropouts: 0 });
  });
});

test('what is wished is in the plan', () => {
  const floors = { sites: 10, minimumQuorum: 3 };
  expect(planFor(floors, { ...wishes, colluders: 2, dropouts: 1, ringBits: 30 })).toMatchObject({
    ...{ family: 'scorecard', mode: 'sum', quorum: 9, dropouts: 1, colluders: 2, threshold: 7, ringBits: 30 },
  });
  expect(planFor(floors, { ...wishes, mode: 'site' })).toMatchObject({
    ...{ mode: 'site', quorum: 7, threshold: 0, ringBits: 0, colluders: 0 },
  });
  expect(planFor(floors, { ...wishes, family: 'mlp' })).toMatchObject({ family: 'mlp', mode: 'sum', threshold: 7 });
  expect(planFor(floors, { ...wishes, family: 'logistic', strategy: 'fedprox' })).toMatchObject({ mode: 'site' });
});

test.each([
  [{ quorum: 2 }, "a round of 2 banks is below the roster's quorum of at least 3", '--quorum'],
  [{ dropouts: 4 }, 'a round of 2 banks is below', '--quorum'],
  [
    { mode: 'sum' as const, quorum: 4 },
    '4 of 6 banks are too few for a sum against an aggregator that is lying',
    '--quorum',
  ],
  [{ quorum: 5, dropouts: 2 }, 'a quorum of 5 of 6 banks is not 2 drop-outs', '--quorum'],
  [{ mode: 'site' as const, colluders: 1 }, 'are for mode sum only', '--colluders'],
])('wishes %j are refused at once', (wish, message, where) => {
  const refused = () => trustFor({ sites: 6, minimumQuorum: 3 }, wish);
  expect(refused).toThrow(expect.objectContaining({ code: 'USAGE', where, message: expect.stringContaining(message) }));
});
