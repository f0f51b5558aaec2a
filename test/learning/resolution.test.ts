/** Knots: an exact, public, integer change of coordinates that never raises the sensitivity. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { BinnedData, ModelShape } from '../../src/learning/binned.ts';
import { residualGrid } from '../../src/learning/plan.ts';
import { resolutionOf, unitOf } from '../../src/learning/resolution.ts';
import { siteCounts, siteGradient } from '../../src/learning/site.ts';
import { countSensitivitySquared, roundSensitivitySquared } from '../../src/learning/statement.ts';
import { planOf } from './plans.ts';

/** Fields with and without an order; the last bin of an ordered one is `missing`. */
const shapes: fc.Arbitrary<ModelShape> = fc
  .array(fc.record({ bins: fc.integer({ min: 2, max: 70 }), isOrdered: fc.boolean() }), { minLength: 1, maxLength: 4 })
  .map((fields) => ({
    sizes: fields.map(({ bins }) => bins + 1),
    ordered: fields.map(({ bins, isOrdered }) => (isOrdered ? bins : 0)),
  }));
const knots = fc.integer({ min: 2, max: 20 });
const squared = (values: Float64Array) => values.reduce((sum, value) => sum + value * value, 0);

test('every bin is spread over at most two neighbouring knots in integers that sum to the unit', () => {
  fc.assert(
    fc.property(shapes, knots, (shape, many) => {
      const { reduce, total, shape: learnt } = resolutionOf(shape, many);
      const bins = shape.sizes.reduce((sum, size) => sum + size, 0);
      expect(learnt.sizes.reduce((sum, size) => sum + size, 0)).toBe(total);
      for (let bin = 0; bin < bins; bin++) {
        const row = reduce(new Float64Array(bins).fill(1, bin, bin + 1));
        const used = [...row].flatMap((weight, at) => (weight === 0 ? [] : [{ weight, at }]));
        expect(used.length).toBeLessThanOrEqual(2);
        expect(used.every(({ weight }) => Number.isInteger(weight) && weight > 0)).toBe(true);
        expect(used.reduce((sum, { weight }) => sum + weight, 0)).toBe(unitOf(many));
        if (used.length === 2) expect(used[1].at - used[0].at).toBe(1);
        expect(squared(row)).toBeLessThanOrEqual(unitOf(many) ** 2);
      }
    }),
  );
});

test('expand is the transpose of reduce, and ascends where its knots do', () => {
  fc.assert(
    fc.property(shapes, knots, fc.infiniteStream(fc.integer({ min: -1000, max: 1000 })), (shape, many, numbers) => {
      const { reduce, expand, total, shape: learnt } = resolutionOf(shape, many);
      const next = () => Number(numbers.next().value);
      const sums = Float64Array.from({ length: shape.sizes.reduce((sum, size) => sum + size, 0) }, next);
      const weights = learnt.sizes.map((size) => Array.from({ length: size }, next));
      const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
        Array.from(a).reduce((sum, x, i) => sum + x * b[i], 0);
      const released = dot(reduce(sums), weights.flat()) / unitOf(many);
      expect(dot(sums, expand(weights).flat())).toBeCloseTo(released, 4);
      const rising = learnt.sizes.map((size) => Array.from({ length: size }, (_, j) => j));
      expand(rising).forEach((field, k) => {
        const ordered = field.slice(0, shape.ordered[k]);
        expect(ordered.every((value, j) => j === 0 || value >= ordered[j - 1])).toBe(true);
      });
      expect(reduce(new Float64Array(sums.length))).toHaveLength(total);
    }),
  );
});

test('few bins and 0 knots leave everything as it is', () => {
  const shape = { sizes: [13, 4], ordered: [12, 0] };
  expect(resolutionOf(shape, 7)).toMatchObject({ shape, total: 17 });
  expect(resolutionOf(shape, 6).shape).toEqual({ sizes: [7, 4], ordered: [6, 0] });
  const sums = Float64Array.from({ length: 17 }, (_, i) => i);
  expect(resolutionOf(shape, 0).reduce(sums)).toEqual(sums);
});

test('sums of another length are refused', () => {
  const { reduce, expand } = resolutionOf({ sizes: [3], ordered: [2] }, 0);
  const refused = expect.objectContaining({ code: 'TRAINING_INPUT' });
  expect(() => reduce(new Float64Array(4))).toThrow(refused);
  expect(() => expand([[1, 2]])).toThrow(refused);
});

describe('neighbours at knots', () => {
  const sizes = [33, 3, 21];
  const shape = { sizes, ordered: [32, 0, 20] };
  const m = 2;
  const records = fc.array(fc.tuple(...sizes.map((size) => fc.nat(size - 1)), fc.nat(1)), {
    minLength: 1,
    maxLength: m,
  });

  function customer(rows: readonly (readonly number[])[]): BinnedData {
    return {
      ...{ rows: rows.length, sizes, bins: Uint16Array.from(rows.flatMap((row) => row.slice(0, -1))) },
      labels: Uint8Array.from(rows, (row) => row[sizes.length]),
    };
  }

  function holds(used: (sums: Float64Array) => Float64Array): void {
    const plan = { ...planOf({ fields: 3, residualBound: 0.6, knots: 8 }), maxRecordsPerSubject: m };
    fc.assert(
      fc.property(
        records,
        fc.integer({ min: 1, max: 3 }),
        fc.double({ min: -9, max: 9, noNaN: true }),
        (rows, round, w) => {
          const data = customer(rows);
          const model = {
            intercept: round === 1 ? 0 : w,
            weights: sizes.map((size) => new Array<number>(size).fill(0)),
          };
          // Sums are additive, so a neighbour differs by what the customer alone adds.
          expect(squared(used(siteCounts(data)))).toBeLessThanOrEqual(countSensitivitySquared(plan));
          const gradient = used(siteGradient(data, model, residualGrid(plan, round)));
          expect(squared(gradient)).toBeLessThanOrEqual(roundSensitivitySquared(plan, round));
        },
      ),
    );
  }

  test('differ by at most the declared sensitivity, which a customer at a knot reaches', () => {
    const { reduce } = resolutionOf(shape, 8);
    holds(reduce);
    const plan = { ...planOf({ fields: 3, knots: 8 }), maxRecordsPerSubject: m };
    expect(
      squared(
        reduce(
          siteCounts(
            customer([
              [0, 1, 0, 1],
              [0, 1, 0, 1],
            ]),
          ),
        ),
      ),
    ).toBe(countSensitivitySquared(plan));
  });

  test('would not, were a bin counted in full at both of its knots', () => {
    const { reduce } = resolutionOf(shape, 8);
    const twice = (sums: Float64Array) => reduce(sums).map((value) => 2 * value);
    expect(() => holds(twice)).toThrow('Property failed');
  });
});
