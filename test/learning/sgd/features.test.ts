/** The feature encoding: its documented order and ranges, and agreement of its sparse and dense forms. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  denseFeatures,
  encodingOf,
  featureMapOf,
  featureNames,
  rowReader,
} from '../../../src/learning/sgd/features.ts';
import { contract, dataOf, sizes } from './cases.ts';

const map = featureMapOf(encodingOf(contract));
const names = featureNames(contract);

test('names follow the contract, one for each entry of the vector', () => {
  expect(names).toEqual([
    'amount',
    ...Array.from({ length: 8 }, (_, h) => `amount~${h}`),
    'amount:missing',
    'rank',
    'rank:missing',
    'place=A',
    'place=B',
    'place:other',
    'place:missing',
    'known',
    'known:missing',
  ]);
  expect(map.width).toBe(names.length);
});

test('a record is encoded as documented', () => {
  const bins = [
    [0, 0, 0, 0],
    [11, 1, 2, 1],
    [12, 3, 3, 2],
  ];
  const data = { rows: 3, sizes, bins: Uint16Array.from(bins.flat()), labels: new Uint8Array(3) };
  const dense = denseFeatures(map, data);
  const named = (row: number) =>
    Object.fromEntries(names.map((name, i) => [name, dense[row * map.width + i]]).filter(([, value]) => value !== 0));
  const third = Math.fround(2 / 3);
  const end = Math.fround(11 / 12);
  expect(named(0)).toEqual({ amount: -end, 'amount~0': 1, rank: -third, 'place=A': 1, known: -1 });
  expect(named(1)).toEqual({ amount: end, 'amount~7': 1, 'place:other': 1, known: 1 });
  expect(named(2)).toEqual({ 'amount:missing': 1, 'rank:missing': 1, 'place:missing': 1, 'known:missing': 1 });
});

test('norms stay within the public bound, hats sum to 1, and both forms agree', () => {
  const read = (data: Parameters<typeof rowReader>[1]) => rowReader(map, data);
  const indices = new Int32Array(map.nonZero);
  const values = new Float64Array(map.nonZero);
  fc.assert(
    fc.property(dataOf(1, 5), (data) => {
      const dense = denseFeatures(map, data);
      for (let row = 0; row < data.rows; row++) {
        const vector = dense.subarray(row * map.width, (row + 1) * map.width);
        expect(Math.hypot(...vector)).toBeLessThanOrEqual(map.largestNorm * (1 + 1e-12));
        const hats = vector.subarray(1, 9).reduce((sum, value) => sum + value, 0);
        expect(hats + vector[9]).toBeCloseTo(1, 6);
        const sparse = new Float32Array(map.width);
        const filled = read(data)(row, indices, values);
        for (let i = 0; i < filled; i++) sparse[indices[i]] += values[i];
        expect(sparse).toEqual(vector);
      }
    }),
  );
});

test('data with other bins is refused', () => {
  const data = { rows: 0, sizes: [2], bins: new Uint16Array(0), labels: new Uint8Array(0) };
  expect(() => rowReader(map, data)).toThrow(expect.objectContaining({ code: 'MODEL_CONTRACT_MISMATCH' }));
});
