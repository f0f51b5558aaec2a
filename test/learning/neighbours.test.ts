/**
 * The declared sensitivity, attacked: over random data, models and customers, adding or removing one customer moves
 * what goes into a mechanism by at most m sqrt(K) 2^p (counts: m sqrt(K)) in L2.
 */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { BinnedData } from '../../src/learning/binned.ts';
import { selectRows } from '../../src/learning/binned.ts';
import type { TrainingPlan } from '../../src/learning/plan.ts';
import { siteCounts, siteGradient } from '../../src/learning/site.ts';
import { countSensitivitySquared, roundSensitivitySquared } from '../../src/learning/statement.ts';
import { boundContributions } from '../../src/privacy/contributions.ts';
import { planOf } from './plans.ts';

const KEY = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);

interface Case {
  data: BinnedData;
  subjects: string[];
  plan: TrainingPlan;
  model: { intercept: number; weights: number[][] };
}

const cases: fc.Arbitrary<Case> = fc
  .record({
    sizes: fc.array(fc.integer({ min: 2, max: 5 }), { minLength: 1, maxLength: 6 }),
    rows: fc.integer({ min: 1, max: 25 }),
    m: fc.integer({ min: 1, max: 3 }),
    residualBits: fc.integer({ min: 12, max: 16 }),
    seedBytes: fc.infiniteStream(fc.nat(10_000)),
    weight: fc.infiniteStream(fc.double({ min: -800, max: 800, noNaN: true })),
  })
  .map(({ sizes, rows, m, residualBits, seedBytes, weight }) => {
    const draw = (below: number) => (seedBytes.next().value as number) % below;
    const bins = Uint16Array.from({ length: rows * sizes.length }, (_, i) => draw(sizes[i % sizes.length]));
    return {
      data: { rows, sizes, bins, labels: Uint8Array.from({ length: rows }, () => draw(2)) },
      subjects: Array.from({ length: rows }, () => `customer ${draw(4)}`),
      plan: { ...planOf({ fields: sizes.length, residualBits }), maxRecordsPerSubject: m },
      model: {
        intercept: weight.next().value,
        weights: sizes.map((n) => Array.from({ length: n }, () => weight.next().value)),
      },
    };
  });

function squaredDistance(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);
}

test('counts and gradients move by at most the declared sensitivity', () => {
  fc.assert(
    fc.property(cases, ({ data, subjects, plan, model }) => {
      const m = plan.maxRecordsPerSubject;
      const used = selectRows(data, boundContributions(subjects, KEY, m));
      for (const customer of new Set(subjects)) {
        const others = subjects.map((_, row) => row).filter((row) => subjects[row] !== customer);
        const neighbour = selectRows(data, others);
        const usedThere = selectRows(
          neighbour,
          boundContributions(
            others.map((row) => subjects[row]),
            KEY,
            m,
          ),
        );
        expect(squaredDistance(siteCounts(used), siteCounts(usedThere))).toBeLessThanOrEqual(
          countSensitivitySquared(plan),
        );
        const gradient = siteGradient(used, model, plan);
        expect(gradient.every(Number.isSafeInteger)).toBe(true);
        expect(squaredDistance(gradient, siteGradient(usedThere, model, plan))).toBeLessThanOrEqual(
          roundSensitivitySquared(plan),
        );
      }
    }),
    { seed: 1, numRuns: 300 },
  );
});

test('the bound is reached: the declared sensitivity is not an overestimate', () => {
  const sizes = [3, 2, 4];
  const plan = { ...planOf({ fields: 3 }), maxRecordsPerSubject: 2 };
  const model = { intercept: -1e4, weights: sizes.map((n) => new Array<number>(n).fill(0)) };
  const row = [1, 0, 3];
  const data = { rows: 2, sizes, bins: Uint16Array.from([...row, ...row]), labels: Uint8Array.of(1, 1) };
  const empty = { rows: 0, sizes, bins: new Uint16Array(0), labels: new Uint8Array(0) };
  const gradient = siteGradient(data, model, plan);
  expect(squaredDistance(gradient, siteGradient(empty, model, plan))).toBe(roundSensitivitySquared(plan));
  expect(squaredDistance(siteCounts(data), siteCounts(empty))).toBe(countSensitivitySquared(plan));
});
