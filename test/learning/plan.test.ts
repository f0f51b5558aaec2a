/** The plan document, its identity, and the statement that follows from it. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { defaultPlan, parsePlan, planHash } from '../../src/learning/plan.ts';
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
    ['mode', { mode: 'sum' as 'site' }],
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
        (epsilon, delta, rounds, maxRecordsPerSubject, fields) => {
          const statement = privacyStatement(planOf({ epsilon, delta, rounds, maxRecordsPerSubject, fields }));
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

  test('the statement names unit, noise and trust mode', () => {
    const text = privacyStatement(planOf()).text.join('\n');
    for (const word of ['one customer of one bank', 'sigma', 'Trust mode site', 'several banks'])
      expect(text).toContain(word);
  });
});
