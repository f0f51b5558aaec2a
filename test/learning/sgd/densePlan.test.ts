/** Dense plans: what is refused, what the default rules write, and that statements keep the plan's promise. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { mechanismIn, parseFederatedPlan, releaseIn, statementOf } from '../../../src/learning/federatedPlan.ts';
import { denseStatement } from '../../../src/learning/sgd/denseStatement.ts';
import {
  type DensePlan,
  type DensePlanFacts,
  parseDensePlan,
  requireDenseContract,
} from '../../../src/learning/sgd/plan.ts';
import { canSpend, openBudget } from '../../../src/privacy/budget.ts';
import { centredGaussianSampler } from '../../../src/privacy/discreteGaussian.ts';
import { gdpEpsilon, muFor, sumUp } from '../../../src/privacy/gdp.ts';
import { approximately } from '../../../src/privacy/rational.ts';
import { contractOf, seededRandom } from '../../support/publicData.ts';
import { planOf } from '../plans.ts';
import { contract } from './cases.ts';
import { densePlan } from './densePlans.ts';

const refused = (where: string) => expect.objectContaining({ code: 'TRAINING_INPUT', where });

describe('a plan', () => {
  const plan = densePlan();
  const sum = densePlan({ mode: 'sum', quorum: 3 });
  const wrong: [string, object][] = [
    ['evaluation.bins', { ...plan, evaluation: { holdout: 0.1, share: 0.1, bins: 32 } }],
    ['evaluation.share', { ...plan, evaluation: { holdout: 0.1, share: 0.9, bins: 64 } }],
    ['hidden', { ...plan, hidden: [8] }],
    ['hidden', { ...plan, family: 'mlp' }],
    ['strategy.localSteps', { ...sum, strategy: { ...sum.strategy, localSteps: 2 } }],
    ['strategy.proximal', { ...plan, strategy: { ...plan.strategy, proximal: 0.1 } }],
    ['strategy.localSteps', { ...plan, strategy: { ...plan.strategy, kind: 'fedprox', proximal: 0.1 } }],
    ['ringBits', { ...sum, ringBits: 20 }],
    ['ringBits', { ...sum, ringBits: 0, encoding: { ...sum.encoding, bits: 16 } }],
    ['threshold', { ...plan, threshold: 3 }],
    ['quorum', { ...sum, quorum: 4 }],
    ['encoding.bits', { ...plan, encoding: { ...plan.encoding, bits: 8 } }],
    ['dimension', { ...plan, dimension: 70_000 }],
  ];

  test.each(wrong)('is refused for %s', (where, json) => {
    expect(() => parseFederatedPlan(json)).toThrow(refused(where));
  });

  test('is read by its family, and a scorecard plan as before', () => {
    expect(parseFederatedPlan(JSON.parse(JSON.stringify(plan)))).toEqual(plan);
    expect(parseFederatedPlan(planOf())).toEqual(planOf());
    expect(() => parseFederatedPlan({ ...plan, family: 'forest' })).toThrow(
      expect.objectContaining({ code: 'TRAINING_INPUT' }),
    );
    expect(() => parseFederatedPlan(null)).toThrow(refused('(document)'));
  });

  test('belongs to one contract', () => {
    requireDenseContract(plan, contract);
    expect(() => requireDenseContract(plan, contractOf('adult'))).toThrow(refused('contractHash'));
    expect(() => requireDenseContract({ ...plan, dimension: 5 }, contract)).toThrow(refused('dimension'));
    expect(() => requireDenseContract({ ...plan, maxRecordsPerSubject: 7 }, contract)).toThrow(
      refused('maxRecordsPerSubject'),
    );
  });

  test('follows from public facts: as many steps whatever the strategy, more bits where noise would be coarse', () => {
    expect(plan).toMatchObject({ rounds: 50, strategy: { kind: 'fedadam', localSteps: 1, proximal: 0 } });
    expect(densePlan({ strategy: 'fedprox' })).toMatchObject({
      rounds: 13,
      strategy: { localSteps: 4, proximal: 0.1 },
    });
    expect(densePlan({ strategy: 'fedavg', localSteps: 5 }).rounds).toBe(10);
    expect(plan.encoding.bits).toBe(16);
    expect(densePlan({ mode: 'sum', expectedRows: 100_000, quorum: 4 }).ringBits).toBe(20);
    expect(densePlan({ mode: 'sum', expectedRows: 300_000_000, quorum: 4 }).ringBits).toBe(32);
    expect(densePlan({ mode: 'sum', quorum: 3 })).toMatchObject({ dropouts: 1, threshold: 3 });
    expect(densePlan({ epsilon: 3 }).id).not.toBe(plan.id);
  });
});

describe('the statement', () => {
  const wishes = fc.constantFrom<Partial<DensePlanFacts>>(
    {},
    { family: 'mlp' },
    { mode: 'sum', sites: 9, quorum: 8, colluders: 2 },
    { strategy: 'fedavg', localSteps: 3 },
    { strategy: 'fedprox' },
    { evaluation: { holdout: 0.2, share: 0.2, bins: 64 } },
    { mode: 'sum', sites: 9, quorum: 8, colluders: 2, evaluation: { holdout: 0.2, share: 0.05, bins: 64 } },
    { strategy: 'fedprox', evaluation: { holdout: 0.1, share: 0.3, bins: 64 } },
  );
  const losses = fc.tuple(fc.double({ min: 0.1, max: 8, noNaN: true }), fc.constantFrom(1e-8, 1e-6, 1e-5));

  test('fits the budget of its own epsilon and delta, release by release, and uses almost all of it', () => {
    fc.assert(
      fc.property(losses, fc.integer({ min: 1, max: 120 }), wishes, ([epsilon, delta], rounds, more) => {
        const plan = densePlan({ epsilon, delta, rounds, ...more });
        const { releases, epsilon: stated, losses: both, muSquaredTotal, steps } = denseStatement(plan);
        const budget = openBudget(epsilon, delta);
        const names = Array.from({ length: rounds }, (_, t) => `round-${t + 1}`);
        expect(releases.map(({ name }) => name)).toEqual(plan.evaluation ? [...names, 'evaluation'] : names);
        let spent = 0;
        for (const { muSquared, readersMuSquared } of releases) {
          expect(canSpend(budget, spent, muSquared)).toBe(true);
          spent = sumUp([spent, muSquared]);
          expect(readersMuSquared).toBeLessThanOrEqual(muSquared);
        }
        expect(muSquaredTotal).toBeLessThanOrEqual(budget.muSquared);
        expect(stated).toBeLessThanOrEqual(epsilon);
        // Each bank gives up the 4 units of variance that discreteness costs, which are much beside the noise of counts.
        expect(stated).toBeGreaterThan((plan.evaluation ? 0.85 : 0.98) * epsilon);
        expect(both.readers.epsilon).toBeLessThanOrEqual(both.aggregator.epsilon);
        if (steps > 1 && !plan.evaluation) expect(both.readers.epsilon).toBe(both.aggregator.epsilon);
      }),
      { numRuns: 40 },
    );
  });

  test('rests on the noise: what it charges is what sensitivity and noise of the honest banks give', () => {
    fc.assert(
      fc.property(losses, wishes, ([epsilon, delta], more) => {
        const plan = densePlan({ epsilon, delta, ...more });
        const { losses: both } = denseStatement(plan);
        const { sensitivitySquared, sigma, times } = mechanismIn(plan, 1);
        const honest = plan.mode === 'sum' ? plan.sites - plan.colluders - plan.dropouts : 1;
        const variance = honest * approximately(sigma ?? { num: 0n, den: 1n }) ** 2;
        const rounds = (plan.rounds * times * sensitivitySquared) / (variance - 4);
        const muSquared = rounds + evaluationLoss(plan, honest);
        const share = 1 - rounds / (muFor(epsilon, delta) ** 2 * (1 - 1e-9));
        expect(share).toBeCloseTo(plan.evaluation?.share ?? 0, 2);
        expect(both.aggregator.muSquared / muSquared).toBeCloseTo(1, 9);
        expect(both.aggregator.epsilon / gdpEpsilon(Math.sqrt(muSquared), delta)).toBeCloseTo(1, 9);
        const { limit } = denseStatement(plan);
        const parties = plan.mode === 'sum' ? plan.sites : 1;
        const room = times > 1 ? 0 : 20 * approximately(sigma ?? { num: 0n, den: 1n }) * Math.sqrt(parties);
        expect(limit * parties + room).toBeLessThan(2 ** (plan.encoding.bits - 1));
      }),
      { numRuns: 40 },
    );
  });

  /** By hand: mu^2 of a histogram that a customer of m records moves by m. */
  function evaluationLoss(plan: DensePlan, honest: number): number {
    if (plan.evaluation === null) return 0;
    const { sensitivitySquared, sigma, times } = mechanismIn(plan, plan.rounds + 1);
    expect([sensitivitySquared, times]).toEqual([plan.maxRecordsPerSubject ** 2, 1]);
    return sensitivitySquared / (honest * approximately(sigma!) ** 2 - 4);
  }

  test('names its rounds, and no other', () => {
    const plan = densePlan();
    const statement = statementOf(plan);
    expect(releaseIn(plan, statement, 1).name).toBe('round-1');
    expect(releaseIn(plan, statement, 50).name).toBe('round-50');
    for (const round of [0, 51]) expect(() => releaseIn(plan, statement, round)).toThrow(refused(`round ${round}`));
    expect(statement.text.join(' ')).toContain('FedAdam');
    const evaluated = densePlan({ evaluation: { holdout: 0.2, share: 0.2, bins: 64 } });
    expect(releaseIn(evaluated, statementOf(evaluated), 51).name).toBe('evaluation');
    expect(statementOf(evaluated).text.join(' ')).toContain('64 score bins per label of the 20 %');
    // Those who are held out train nothing, and sums are divided by who trains.
    expect([plan.rows, evaluated.rows]).toEqual([2000, 1600]);
    const scorecard = planOf({ evaluation: { holdout: 0.1, share: 0.1, bins: 64 } });
    expect([0, 1, 6].map((round) => releaseIn(scorecard, statementOf(scorecard), round).name)).toEqual([
      'counts',
      'round-1',
      'evaluation',
    ]);
  });

  test('is refused where the noise would not fit the bits, or a bank would add too little', () => {
    const plan = densePlan({ mode: 'sum' });
    const scaled = (scale: number) => parseDensePlan({ ...plan, encoding: { ...plan.encoding, scale } });
    for (const scale of [1e-3, 1e6]) {
      expect(() => denseStatement(scaled(scale))).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
    }
  });

  test('promises noise that can be drawn, at every number of bits', () => {
    for (const mode of ['site', 'sum'] as const) {
      for (const bits of [16, 20, 24, 28, 32]) {
        for (const epsilon of [0.01, 1, 8]) {
          const { sigmaSquared } = denseStatement(densePlan({ mode, bits, epsilon }));
          expect(Number.isInteger(centredGaussianSampler(sigmaSquared)(0.5, seededRandom(1)))).toBe(true);
        }
      }
    }
    // In mode site the whole noise of a small epsilon; with bits to spare for it.
    const plan = densePlan({ bits: 32, epsilon: 0.01 });
    const finer = parseDensePlan({ ...plan, encoding: { ...plan.encoding, scale: 8 * plan.encoding.scale } });
    expect(() => denseStatement(finer)).toThrow(expect.objectContaining({ where: 'encoding.scale' }));
  });
});
