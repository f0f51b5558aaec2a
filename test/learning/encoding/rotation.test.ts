/** The rotation keeps lengths, can be undone, spreads what is concentrated, and is as exact as it says. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { MAX_ROTATED, rotationError, rotationOf, windowOf } from '../../../src/learning/encoding/rotation.ts';

const length = (vector: ArrayLike<number>) =>
  Math.sqrt(Array.from(vector).reduce((sum, value) => sum + value * value, 0));
const vectors = fc
  .integer({ min: 1, max: 300 })
  .chain((dimension) =>
    fc.array(fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), { minLength: dimension, maxLength: dimension }),
  );

/** Both windows as matrices over BigInt, up to the factor sqrt(P) for each: what `apply` must give, exactly. */
function exactly(vector: readonly number[], seed: string): { numerators: bigint[]; windows: number; window: number } {
  const window = windowOf(vector.length);
  const starts = window === vector.length ? [0] : [0, vector.length - window];
  // Signs read off the images of unit vectors: entry 0 of a Hadamard row is +1 for every input.
  const signs = signsFrom(vector.length, seed, starts, window);
  let values = vector.map(BigInt);
  // A coordinate outside a window is multiplied by sqrt(P); P a square in the cases below.
  const root = BigInt(Math.round(Math.sqrt(window)));
  for (const [i, start] of starts.entries()) {
    const next = values.map((value) => value * root);
    for (let row = 0; row < window; row++) {
      let sum = 0n;
      for (let k = 0; k < window; k++) {
        const sign = (popcount(row & k) & 1) === 1 ? -1n : 1n;
        sum += sign * signs[i][k] * values[start + k];
      }
      next[start + row] = sum;
    }
    values = next;
  }
  return { numerators: values, windows: starts.length, window };
}

function popcount(value: number): number {
  let count = 0;
  for (let rest = value; rest > 0; rest >>= 1) count += rest & 1;
  return count;
}

/** Through `undo`, whose last step is the first window's signs: the signs are those of the image of a constant row. */
function signsFrom(dimension: number, seed: string, starts: number[], window: number): bigint[][] {
  const { apply, undo } = rotationOf(dimension, seed);
  const unit = (at: number) => Float64Array.from({ length: dimension }, (_, i) => (i === at ? 1 : 0));
  // Row 0 of a window's transform adds all its inputs, each with its sign.
  if (starts.length === 1) return [Array.from(undo(unit(0)), (value) => BigInt(Math.sign(value)))];
  const second = starts[1];
  // Outside the second window nothing happens after the first: coordinate 0 is row 0 of the first transform.
  const first = Array.from({ length: window }, (_, k) => BigInt(Math.sign(apply(unit(k))[0])));
  // Inputs beyond the first window pass it untouched; the others are reached by what the first window makes into them.
  const signs = Array.from({ length: window }, (_, k) => {
    const at = second + k;
    const inverse = at >= window ? unit(at) : firstUndone(dimension, at, window, first);
    return BigInt(Math.sign(apply(inverse)[second]));
  });
  return [first, signs];
}

/** The input that the first window makes into the unit vector at `at`. */
function firstUndone(dimension: number, at: number, window: number, signs: bigint[]): Float64Array {
  return Float64Array.from({ length: dimension }, (_, k) => {
    if (k >= window) return 0;
    return (Number(signs[k]) * ((popcount(at & k) & 1) === 1 ? -1 : 1)) / Math.sqrt(window);
  });
}

describe('a rotation', () => {
  test('keeps lengths and distances, and is undone', () => {
    fc.assert(
      fc.property(vectors, fc.string(), (values, seed) => {
        const vector = Float64Array.from(values);
        const { apply, undo } = rotationOf(vector.length, seed);
        const turned = apply(vector);
        const tolerance = 4 * rotationError(vector.length) * length(vector) + 1e-300;
        expect(Math.abs(length(turned) - length(vector))).toBeLessThanOrEqual(tolerance);
        const back = undo(turned);
        expect(length(back.map((value, i) => value - vector[i]))).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test.each([4, 7, 16, 21, 64, 100])('of %d coordinates is the exact one to the error it states', (dimension) => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), { minLength: dimension, maxLength: dimension }),
        (values) => {
          const { numerators, windows, window } = exactly(values, 'exact');
          const scale = 2 ** 30;
          const divisor = BigInt(Math.round(Math.sqrt(window)) ** windows);
          const turned = rotationOf(dimension, 'exact').apply(Float64Array.from(values));
          // Differences on a grid of 2^-30, by integers.
          const off = Array.from(turned, (value, i) => {
            const fixed = BigInt(Math.round(value * 2 ** 12)) << 18n;
            return Number((fixed * divisor - numerators[i] * BigInt(scale)) / divisor) / scale;
          });
          const grid = Math.sqrt(dimension) * 2 ** -12;
          expect(length(off)).toBeLessThanOrEqual(rotationError(dimension) * length(values) + grid);
        },
      ),
      { numRuns: 20 },
    );
  });

  test('spreads a vector of one coordinate over all, whatever the dimension', () => {
    for (const dimension of [16, 33, 176, 1000, 4096, 5665]) {
      for (const at of [0, dimension - 1, Math.floor(dimension / 2)]) {
        const unit = Float64Array.from({ length: dimension }, (_, i) => (i === at ? 1 : 0));
        const turned = rotationOf(dimension, 'spread').apply(unit);
        // Six standard deviations of the coarser window: for a random rotation below 1e-8 a coordinate.
        expect(Math.max(...turned.map(Math.abs))).toBeLessThan(6 / Math.sqrt(windowOf(dimension)));
      }
    }
  });

  test('is public, and another for another seed', () => {
    const ones = new Float64Array(100).fill(1);
    expect(rotationOf(100, 'a').apply(ones)).toEqual(rotationOf(100, 'a').apply(ones));
    expect(rotationOf(100, 'a').apply(ones)).not.toEqual(rotationOf(100, 'b').apply(ones));
  });

  test('does not change what it is given, and refuses other lengths', () => {
    const vector = Float64Array.of(1, 2, 3);
    const { apply, undo } = rotationOf(3, 'x');
    apply(vector);
    undo(vector);
    expect(vector).toEqual(Float64Array.of(1, 2, 3));
    const refused = expect.objectContaining({ code: 'TRAINING_INPUT' });
    for (const dimension of [0, 1.5, MAX_ROTATED + 1]) expect(() => rotationOf(dimension, 'x')).toThrow(refused);
    expect(() => apply(new Float64Array(4))).toThrow(refused);
  });
});
