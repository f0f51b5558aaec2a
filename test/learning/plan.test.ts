/** The plan document, its identity, and the statement that follows from it. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { defaultPlan, parsePlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { canSpend, openBudget } from '../../src/privacy/budget.ts';
import { muFor, sumUp } from '../../src/privacy/gdp.ts';
import { approximately } from '../../src/privacy/rational.ts';
import { contractOf } from '../support/publicData.ts';
import { planOf } from './plans.ts';

describe('plan', () => {
  test.each([
    ['quorum', { quorum: 3, sites: 2 }],
    ['rounds', { rounds: 0 }],
    ['epsilon', { epsilon: Number.NaN }],
    ['delta', { delta: 0 }],
    ['residualBits', { residualBits: 20 }],
    ['mode', { mode: 'none' as 'site' }],
    ['format', { format: 'veilrisk-plan/1' as 'veilrisk-plan/3' }],
    ['residualBound', { residualBound: 0.4 }],
    ['colluders', { colluders: 1, sites: 3, quorum: 3 }],
    ['dropouts', { dropouts: 1, sites: 3, quorum: 3 }],
    ['colluders', { mode: 'sum', colluders: 2, dropouts: 1, sites: 3, quorum: 2 }],
    ['quorum', { mode: 'sum', dropouts: 1, sites: 4, quorum: 2 }],
    ['evaluation.holdout', { evaluation: { holdout: 0, share: 0.1, bins: 64 } }],
    ['contractHash', { contractHash: 'abc' }],
  ])('a wrong %s is refused by name', (field, wish) => {
    const plan = { ...planOf(), ...wish };
    expect(() => parsePlan(plan)).toThrow(expect.objectContaining({ code: 'TRAINING_INPUT', where: field }));
  });

  test('an unknown key is refused', () => {
    expect(() => parsePlan({ ...planOf(), noise: 0 })).toThrow(expect.objectContaining({ code: 'TRAINING_INPUT' }));
  });

  test('identity ignores key order and nothing else', () => {
    const plan = planOf();
    const reversed = Object.fromEntries(Object.entries(plan).reverse());
    expect(planHash(parsePlan(reversed))).toBe(planHash(plan));
    expect(planHash({ ...plan, epsilon: 1.0000001 })).not.toBe(planHash(plan));
    expect(planHash(plan)).toMatch(/^[0-9a-f]{64}$/);
  });

  test('defaults follow from public facts alone, the same every time', () => {
    const contract = contractOf('taiwan');
    const facts = { contract, epsilon: 1, delta: 1e-6, sites: 4, quorum: 3, expectedRows: 24_000 };
    expect(defaultPlan(facts)).toEqual(defaultPlan(facts));
    expect(defaultPlan(facts)).toMatchObject({ fields: 23, sites: 4, quorum: 3, epsilon: 1 });
    expect(defaultPlan(facts).rounds).toBe(30);
    expect(defaultPlan({ ...facts, expectedRows: 1_000_000 }).rounds).toBe(50);
    expect(defaultPlan({ ...facts, epsilon: 2 }).id).not.toBe(defaultPlan(facts).id);
    expect(defaultPlan({ ...facts, id: 'second-run' }).id).toBe('second-run');
  });
});

describe('privacy statement', () => {
  test('the releases of a plan fit the budget of its own epsilon and delta, and use almost all of it', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 8, noNaN: true }),
        fc.constantFrom(1e-8, 1e-6, 1e-5),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 10 }),
        fc.integer({ min: 1, max: 60 }),
        fc.constantFrom<Partial<TrainingPlan>>(
          {},
          { residualBound: 0.613 },
          { mode: 'sum', sites: 9, quorum: 8, colluders: 2, dropouts: 1, ringShift: 6 },
        ),
        (epsilon, delta, rounds, maxRecordsPerSubject, fields, wishes) => {
          const plan = planOf({ epsilon, delta, rounds, maxRecordsPerSubject, fields, ...wishes });
          const statement = privacyStatement(plan);
          const budget = openBudget(epsilon, delta);
          const losses = statement.releases.map((release) => release.muSquared);
          expect(losses.length).toBe(rounds + 1);
          expect(sumUp(losses)).toBeLessThanOrEqual(budget.muSquared);
          let spent = 0;
          for (const loss of losses) {
            expect(canSpend(budget, spent, loss)).toBe(true);
            spent = sumUp([spent, loss]);
          }
          expect(statement.epsilon).toBeLessThanOrEqual(epsilon);
          expect(statement.mu).toBeGreaterThan(muFor(epsilon, delta) * 0.999);
        },
      ),
      { seed: 1, numRuns: 60 },
    );
  });

  test('noise follows m and K', () => {
    const one = privacyStatement(planOf({ fields: 4 }));
    const more = privacyStatement(planOf({ fields: 16, maxRecordsPerSubject: 3 }));
    expect(approximately(more.sigmaRound) / approximately(one.sigmaRound)).toBeCloseTo(6, 3);
    expect(more.text.join('\n')).toContain('at most 3 used');
  });

  test('in mode site a reader of the model sees the noise of a quorum of banks', () => {
    const { losses, releases, sigmaRound } = privacyStatement(planOf({ sites: 5, quorum: 4 }));
    expect(losses.readers.epsilon).toBeLessThan(losses.aggregator.epsilon);
    const [counts, ...rounds] = releases;
    for (const { muSquared, readersMuSquared } of rounds) expect(muSquared / readersMuSquared).toBeCloseTo(4, 9);
    // Counts are summed again over the banks of each round; differences of such sums may show one bank's.
    expect(counts.readersMuSquared).toBe(counts.muSquared);
    const never = privacyStatement(planOf({ sites: 4, quorum: 4 }));
    expect(never.losses.aggregator.mu / never.losses.readers.mu).toBeCloseTo(2, 4);
    // What other banks do is nothing that one bank may rely on.
    expect(sigmaRound).toEqual(privacyStatement(planOf()).sigmaRound);
  });

  test('in mode sum the noise is shared by the honest banks that are there', () => {
    const alone = privacyStatement(planOf());
    const sum = privacyStatement(planOf({ mode: 'sum', sites: 12, quorum: 10, colluders: 1, dropouts: 2 }));
    expect(approximately(alone.sigmaRound) / approximately(sum.sigmaRound)).toBeCloseTo(3, 6);
    expect(sum.epsilon).toBeLessThanOrEqual(1);
    expect(sum.epsilon).toBeGreaterThan(0.999);
    const [counts, ...rounds] = sum.releases;
    for (const { muSquared, readersMuSquared } of rounds) expect(muSquared / readersMuSquared).toBeCloseTo(10 / 9, 5);
    // The counts are summed again over the banks of each round: their differences must be private as well.
    expect(sum.sigmaCount).toEqual(alone.sigmaCount);
    expect(counts.readersMuSquared).toBe(counts.muSquared);
    const never = privacyStatement(planOf({ mode: 'sum', sites: 10, quorum: 10, colluders: 1 }));
    expect(approximately(alone.sigmaCount) / approximately(never.sigmaCount)).toBeCloseTo(3, 1);
    expect(sum.text.join('\n')).toContain('Trust mode sum');
  });

  test('round 1 costs less where its residuals are bounded tighter, and an evaluation is paid from the same budget', () => {
    const plan = planOf({ residualBound: 0.75, evaluation: { holdout: 0.1, share: 0.2, bins: 64 } });
    const { releases, mu, sigmaEvaluation, text } = privacyStatement(plan);
    expect(releases.map(({ name }) => name)).toEqual([
      'counts',
      ...[1, 2, 3, 4, 5].map((t) => `round-${t}`),
      'evaluation',
    ]);
    expect(releases[2].muSquared / releases[1].muSquared).toBeCloseTo(2.25, 3);
    expect(releases[6].muSquared / mu ** 2).toBeCloseTo(0.2, 2);
    expect(1 / (approximately(sigmaEvaluation ?? { num: 0n, den: 1n }) ** 2 - 4)).toBeCloseTo(releases[6].muSquared, 6);
    expect(text.join('\n')).toContain('Evaluation');
    expect(privacyStatement(planOf()).sigmaEvaluation).toBe(null);
  });

  test('the statement names unit, noise and trust mode', () => {
    const text = privacyStatement(planOf()).text.join('\n');
    for (const word of ['one customer of one bank', 'sigma', 'Trust mode site', 'several banks'])
      expect(text).toContain(word);
  });
});
