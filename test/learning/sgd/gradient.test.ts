/**
 * The clipped gradient sum: right gradients (finite differences), norms without materialising, and the declared
 * sensitivity under attack, for every state of the weights.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type BinnedData, selectRows } from '../../../src/learning/binned.ts';
import { encodingOf, featureMapOf, rowReader } from '../../../src/learning/sgd/features.ts';
import { type ClippingRule, gradientSummer, recordSensitivity } from '../../../src/learning/sgd/gradient.ts';
import { activationsOf, forward, networkOf, startWeights } from '../../../src/learning/sgd/network.ts';
import { GRID_BITS } from '../../../src/learning/sgd/statement.ts';
import { anyWeight, contract, dataOf } from './cases.ts';

const map = featureMapOf(encodingOf(contract));
const NETWORKS = { logistic: networkOf(map.width, []), mlp: networkOf(map.width, [5, 3]) };
type Family = keyof typeof NETWORKS;

function sumOf(family: Family, data: BinnedData, parameters: Float64Array, rule: ClippingRule): Float64Array {
  const rows = Int32Array.from({ length: data.rows }, (_, row) => row);
  return gradientSummer(NETWORKS[family], map, data, rule).sum(rows, data.rows, parameters);
}

const length = (vector: Float64Array) => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
const minus = (a: Float64Array, b: Float64Array) => a.map((value, i) => value - b[i]);

/** Fine enough to read gradients off, with a bound no ordinary gradient reaches. */
const FINE: ClippingRule = { clippingNorm: 2 ** 12, gridBits: 48 };

function ordinary(family: Family, scale: number): Float64Array {
  const weights = startWeights(NETWORKS[family], 6, 'test');
  return weights.map((value, i) => value + scale * Math.sin(1 + 7 * i));
}

describe.each(['logistic', 'mlp'] as const)('%s', (family) => {
  test('gradients are those of finite differences', () => {
    const network = NETWORKS[family];
    const activations = activationsOf(network);
    const indices = new Int32Array(map.nonZero);
    const values = new Float64Array(map.nonZero);
    fc.assert(
      fc.property(dataOf(1, 1), fc.double({ min: 0.05, max: 0.6, noNaN: true }), (data, scale) => {
        const weights = ordinary(family, scale);
        const filled = rowReader(map, data)(0, indices, values);
        const loss = (at: Float64Array) => {
          const logit = forward(network, at, indices, values, filled, activations);
          return Math.log1p(Math.exp(logit)) - data.labels[0] * logit;
        };
        const gradient = sumOf(family, data, weights, FINE).map((x) => (x * FINE.clippingNorm) / 2 ** FINE.gridBits);
        const step = 1e-5;
        for (let i = 0; i < weights.length; i++) {
          const moved = (by: number) => weights.map((value, j) => (j === i ? value + by : value));
          const [low, middle, high] = [loss(moved(-step)), loss(weights), loss(moved(step))];
          const [left, right] = [(middle - low) / step, (high - middle) / step];
          // At the kink of max(0, x) both one-sided slopes are right.
          const wanted = Math.abs(left - right) > 1e-3 ? [left, right] : [(left + right) / 2];
          expect(Math.min(...wanted.map((slope) => Math.abs(slope - gradient[i])))).toBeLessThan(1e-5);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('the norm that clipping uses is that of the whole gradient', () => {
    fc.assert(
      fc.property(dataOf(1, 1), fc.double({ min: 0.05, max: 2, noNaN: true }), (data, scale) => {
        const weights = ordinary(family, scale);
        const whole = sumOf(family, data, weights, FINE);
        const norm = (length(whole) * FINE.clippingNorm) / 2 ** FINE.gridBits;
        fc.pre(norm > 1e-3);
        // Clipped to half its norm on a fine grid: the direction stays, the length is the bound to 2^-29 of it.
        const rule = { clippingNorm: norm / 2, gridBits: 44 };
        const clipped = sumOf(family, data, weights, rule);
        expect(length(clipped) / 2 ** 44).toBeLessThanOrEqual(1);
        expect(length(clipped) / 2 ** 44).toBeGreaterThan(1 - 2 ** -29);
        const turned = length(
          minus(
            clipped,
            whole.map((x) => (x * length(clipped)) / length(whole)),
          ),
        );
        expect(turned / 2 ** 44).toBeLessThan(1e-6);
      }),
      { numRuns: 60 },
    );
  });

  test('a customer of m records moves the sum by at most m 2^16, whatever the weights', () => {
    const { parameters } = NETWORKS[family];
    const cases = fc.record({
      data: dataOf(1, 12),
      weights: fc.array(anyWeight, { minLength: parameters, maxLength: parameters }),
      clippingNorm: fc.constantFrom(1e-6, 0.1, 1, 2.5, 1e6),
      m: fc.integer({ min: 1, max: 3 }),
    });
    fc.assert(
      fc.property(cases, ({ data, weights, clippingNorm, m }) => {
        const rule = { clippingNorm, gridBits: GRID_BITS };
        const at = Float64Array.from(weights);
        const others = selectRows(
          data,
          Array.from({ length: Math.max(0, data.rows - m) }, (_, row) => row),
        );
        const [here, there] = [sumOf(family, data, at, rule), sumOf(family, others, at, rule)];
        expect(here.every(Number.isSafeInteger)).toBe(true);
        // Exact: all squares are integers below 2^53.
        const moved = minus(here, there).reduce((sum, value) => sum + value * value, 0);
        expect(moved).toBeLessThanOrEqual((m * recordSensitivity(rule)) ** 2);
      }),
      { numRuns: 400 },
    );
  });

  test('the bound is nearly reached, so a smaller declared sensitivity would be caught', () => {
    const data = { rows: 1, sizes: map.sizes, bins: Uint16Array.of(3, 1, 1, 1), labels: Uint8Array.of(1) };
    const moved = length(sumOf(family, data, ordinary(family, 0.5), { clippingNorm: 0.1, gridBits: GRID_BITS }));
    expect(moved).toBeGreaterThan(0.999 * 2 ** GRID_BITS);
  });
});

test('attack: without clipping, and with the true batch size as denominator, the bound breaks', () => {
  const data: BinnedData = {
    rows: 4,
    sizes: map.sizes,
    bins: Uint16Array.from([...[0, 0, 0, 0], ...[0, 0, 0, 0], ...[0, 0, 0, 0], ...[11, 2, 1, 1]]),
    labels: Uint8Array.of(0, 0, 0, 1),
  };
  const without = selectRows(data, [0, 1, 2]);
  const weights = ordinary('logistic', 0.5);
  const rule = { clippingNorm: 0.1, gridBits: GRID_BITS };
  const bound = recordSensitivity(rule);
  const sums = [sumOf('logistic', data, weights, rule), sumOf('logistic', without, weights, rule)];
  expect(length(minus(sums[0], sums[1]))).toBeLessThanOrEqual(bound);

  // The same grid unit, but no gradient is shortened: C is 2^10 times as large.
  const open = { clippingNorm: 0.1 * 2 ** 10, gridBits: GRID_BITS + 10 };
  const unclipped = [sumOf('logistic', data, weights, open), sumOf('logistic', without, weights, open)];
  expect(length(minus(unclipped[0], unclipped[1]))).toBeGreaterThan(bound);

  // A mean over the true batch, brought back to the scale of a sum by the expected size 4: all of the other records'
  // gradients are rescaled when one record is added.
  const [mean, meanWithout] = [sums[0].map((x) => (x * 4) / 4), sums[1].map((x) => (x * 4) / 3)];
  expect(length(minus(mean, meanWithout))).toBeGreaterThan(bound);
});
