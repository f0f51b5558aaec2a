/**
 * The declared sensitivity, attacked: over random data, models, rounds and customers, adding or removing one customer
 * moves what goes into a mechanism by at most m sqrt(K) L_t (counts: m sqrt(K)) in L2. Broken variants must fail.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { BinnedData } from '../../src/learning/binned.ts';
import { selectRows } from '../../src/learning/binned.ts';
import { residualGrid, type TrainingPlan } from '../../src/learning/plan.ts';
import { type AdditiveModel, siteCounts, siteGradient } from '../../src/learning/site.ts';
import { countSensitivitySquared, roundSensitivitySquared } from '../../src/learning/statement.ts';
import { boundContributions } from '../../src/privacy/contributions.ts';
import { planOf } from './plans.ts';

const KEY = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);

interface Case {
  data: BinnedData;
  subjects: string[];
  plan: TrainingPlan;
  model: AdditiveModel;
  round: number;
}

const cases: fc.Arbitrary<Case> = fc
  .record({
    sizes: fc.array(fc.integer({ min: 2, max: 5 }), { minLength: 1, maxLength: 6 }),
    rows: fc.integer({ min: 1, max: 25 }),
    m: fc.integer({ min: 1, max: 3 }),
    residualBits: fc.integer({ min: 12, max: 16 }),
    residualBound: fc.double({ min: 0.5, max: 1, noNaN: true }),
    round: fc.integer({ min: 1, max: 3 }),
    seedBytes: fc.infiniteStream(fc.nat(10_000)),
    weight: fc.infiniteStream(fc.double({ min: -800, max: 800, noNaN: true })),
  })
  .map(({ sizes, rows, m, residualBits, residualBound, round, seedBytes, weight }) => {
    const draw = (below: number) => (seedBytes.next().value as number) % below;
    const bins = Uint16Array.from({ length: rows * sizes.length }, (_, i) => draw(sizes[i % sizes.length]));
    return {
      data: { rows, sizes, bins, labels: Uint8Array.from({ length: rows }, () => draw(2)) },
      subjects: Array.from({ length: rows }, () => `customer ${draw(4)}`),
      plan: { ...planOf({ fields: sizes.length, residualBits, residualBound }), maxRecordsPerSubject: m },
      round,
      model: {
        intercept: weight.next().value,
        weights: sizes.map((n) => Array.from({ length: n }, () => weight.next().value)),
      },
    };
  });

function squaredDistance(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);
}

interface Mechanism {
  use(subjects: readonly string[], key: Uint8Array, m: number): ArrayLike<number>;
  gradient(data: BinnedData, model: AdditiveModel, plan: TrainingPlan, round: number): Float64Array;
}

const real: Mechanism = {
  use: boundContributions,
  gradient: (data, model, plan, round) => siteGradient(data, model, residualGrid(plan, round)),
};

/** Every customer of random data is removed; what goes into each mechanism must move by no more than is declared. */
function attack({ use, gradient }: Mechanism): void {
  fc.assert(
    fc.property(cases, ({ data, subjects, plan, model, round }) => {
      const m = plan.maxRecordsPerSubject;
      const used = selectRows(data, use(subjects, KEY, m));
      const sums = gradient(used, model, plan, round);
      if (!sums.every(Number.isSafeInteger)) return false;
      return [...new Set(subjects)].every((customer) => {
        const others = subjects.map((_, row) => row).filter((row) => subjects[row] !== customer);
        const kept = others.map((row) => subjects[row]);
        const without = selectRows(selectRows(data, others), use(kept, KEY, m));
        return (
          squaredDistance(siteCounts(used), siteCounts(without)) <= countSensitivitySquared(plan) &&
          squaredDistance(sums, gradient(without, model, plan, round)) <= roundSensitivitySquared(plan, round)
        );
      });
    }),
    { seed: 1, numRuns: 300 },
  );
}

test('counts and gradients move by at most the declared sensitivity', () => {
  attack(real);
});

describe('a broken mechanism is caught', () => {
  test.each<[string, Mechanism]>([
    ['all records of a customer are used', { ...real, use: (subjects) => subjects.map((_, row) => row) }],
    [
      'residuals are not clipped',
      {
        ...real,
        gradient: (data, model, { residualBits }) =>
          siteGradient(data, model, { residualBits, residualLimit: 2 ** residualBits }),
      },
    ],
    [
      'the clip is rounded up',
      {
        ...real,
        gradient: (data, model, { residualBits, residualBound }, round) =>
          siteGradient(data, model, {
            residualBits,
            residualLimit: Math.floor((round === 1 ? 0.5 : residualBound) * 2 ** residualBits) + 1,
          }),
      },
    ],
    [
      'round 1 is clipped like the others',
      {
        ...real,
        gradient: (data, model, plan) => siteGradient(data, model, residualGrid(plan, 2)),
      },
    ],
    [
      'residuals are clipped before they are rounded, on a coarser grid',
      {
        ...real,
        gradient: (data, model, plan, round) => {
          const { residualBits, residualLimit } = residualGrid(plan, round);
          const coarse = siteGradient(data, model, {
            residualBits: 3,
            residualLimit: Math.ceil(residualLimit / 2 ** (residualBits - 3)),
          });
          return coarse.map((value) => value * 2 ** (residualBits - 3));
        },
      },
    ],
  ])('%s', (_, broken) => {
    expect(() => attack(broken)).toThrow('Property failed');
  });
});

test.each([1, 2])('the bound is reached: the sensitivity declared for round %i is not an overestimate', (round) => {
  const sizes = [3, 2, 4];
  const plan = { ...planOf({ fields: 3, residualBound: 0.7 }), maxRecordsPerSubject: 2 };
  const model = { intercept: -1e4, weights: sizes.map((n) => new Array<number>(n).fill(0)) };
  const row = [1, 0, 3];
  const data = { rows: 2, sizes, bins: Uint16Array.from([...row, ...row]), labels: Uint8Array.of(1, 1) };
  const empty = { rows: 0, sizes, bins: new Uint16Array(0), labels: new Uint8Array(0) };
  const [sums, none] = [data, empty].map((side) => siteGradient(side, model, residualGrid(plan, round)));
  expect(squaredDistance(sums, none)).toBe(roundSensitivitySquared(plan, round));
  expect(squaredDistance(siteCounts(data), siteCounts(empty))).toBe(countSensitivitySquared(plan));
});

test('the clip loses nothing in round 1: at w = 0 every residual is one half', () => {
  const sizes = [2];
  const data = { rows: 3, sizes, bins: Uint16Array.of(0, 0, 1), labels: Uint8Array.of(1, 0, 1) };
  const grid = residualGrid(planOf({ fields: 1 }), 1);
  expect([...siteGradient(data, { intercept: 0, weights: [[0, 0]] }, grid)]).toEqual([0, 2 ** 13]);
});
