/**
 * Encoded gradient sums: neighbours stay as close as the statement says, where rounding first would not keep them;
 * nothing is lost by 16 bits; and what comes back is what went in.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  decodeSum,
  encodedSensitivitySquared,
  encodeReleased,
  encodeSum,
  type GradientCode,
} from '../../../src/learning/encoding/gradientCode.ts';
import { rotationOf } from '../../../src/learning/encoding/rotation.ts';
import { packedBytes, updateBytes } from '../../../src/learning/encoding/updateBytes.ts';
import { drawAround } from '../../../src/privacy/gaussianMechanism.ts';
import { seededRandom } from '../../support/publicData.ts';
import { ringSum } from '../federatedTraining.ts';

const R = 2 ** 16;
const codeOf = (dimension: number, scale: number, limit = 2 ** 30): GradientCode => ({
  rotation: rotationOf(dimension, 'code'),
  scale: scale / R,
  limit,
});
const length = (vector: Float64Array) => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
const minus = (a: Float64Array, b: Float64Array) => a.map((value, i) => value - b[i]);

/** A sum, and what a customer adds to it: an integer vector of norm at most R. */
const neighbours = fc
  .record({
    dimension: fc.integer({ min: 1, max: 200 }),
    scale: fc.constantFrom(0.7, 3.34, 100, 5e4),
    limit: fc.constantFrom(5, 1000, 2 ** 30),
    seed: fc.integer(),
    size: fc.constantFrom(1, 2 ** 20, 2 ** 40, 2 ** 45),
    spread: fc.boolean(),
  })
  .map(({ dimension, scale, limit, seed, size, spread }) => {
    const random = seededRandom(seed);
    const uniform = () => random.nextUint32() / 2 ** 31 - 1;
    const sum = Float64Array.from({ length: dimension }, () => Math.trunc(size * uniform()));
    const customer = Float64Array.from({ length: dimension }, (_, i) =>
      spread ? Math.trunc((R * (uniform() < 0 ? -1 : 1)) / Math.sqrt(dimension)) : i === 0 ? R : 0,
    );
    return {
      sum,
      other: sum.map((value, i) => value + customer[i]),
      code: codeOf(dimension, scale, limit),
      dimension,
      scale,
    };
  });

describe('neighbours', () => {
  test('are at most the stated distance apart, whatever the rest of the sum', () => {
    let closest = 0;
    fc.assert(
      fc.property(neighbours, ({ sum, other, code, dimension, scale }) => {
        const stated = Math.sqrt(encodedSensitivitySquared(R, dimension, scale / R));
        const apart = length(minus(encodeSum(sum, code), encodeSum(other, code)));
        expect(apart).toBeLessThanOrEqual(stated);
        closest = Math.max(closest, apart / stated);
      }),
      { numRuns: 300 },
    );
    // The bound is met: a test that never comes near it would not notice a bound that is too small.
    expect(closest).toBeGreaterThan(0.99);
  });

  test('rounded to integers before the noise they would be farther apart', () => {
    const dimension = 4096;
    const random = seededRandom(4);
    const sum = Float64Array.from({ length: dimension }, () => random.nextUint32() - 2 ** 31);
    const customer = Float64Array.from({ length: dimension }, () => R / 64);
    const code = codeOf(dimension, 10);
    const stated = Math.sqrt(encodedSensitivitySquared(R, dimension, 10 / R));
    expect(stated).toBeLessThan(10.001);
    const [here, there] = [sum, sum.map((value, i) => value + customer[i])].map((exact) => encodeSum(exact, code));
    expect(length(minus(here, there))).toBeLessThanOrEqual(stated);
    // Rounded with the same chances on both sides, as a coupling of the two banks would.
    const uniforms = Float64Array.from({ length: dimension }, () => random.nextUint32() / 2 ** 32);
    const rounded = (centres: Float64Array) => centres.map((value, i) => Math.floor(value + uniforms[i]));
    expect(length(minus(rounded(here), rounded(there)))).toBeGreaterThan(2 * stated);
  });

  test('the stated distance is that of the exact sums, but for 10^-4 of it', () => {
    for (const dimension of [176, 4096, 5665, 65_536]) {
      for (const scale of [1, 15, 400]) {
        const inflation = Math.sqrt(encodedSensitivitySquared(R, dimension, scale / R)) / scale;
        expect(inflation).toBeGreaterThan(1);
        expect(inflation).toBeLessThan(1.0006);
        if (dimension <= 8192 && scale > 1) expect(inflation).toBeLessThan(1.0001);
      }
    }
  });
});

describe('what comes back', () => {
  test('is the exact sum, to the grid', () => {
    fc.assert(
      fc.property(neighbours, ({ sum, dimension }) => {
        fc.pre(sum.every((value) => Math.abs(value) <= 2 ** 34));
        const code = codeOf(dimension, 100);
        const back = decodeSum(encodeSum(sum, code), code);
        expect(length(minus(back, sum))).toBeLessThan(Math.sqrt(dimension) * (R / 100) * 2 ** -20 + 2 ** -12);
      }),
    );
  });

  // Mean of 400 draws of d = 200 coordinates: 4.9 standard errors, false-alarm rate 1e-6.
  test('of released numbers is unbiased', () => {
    const dimension = 200;
    const code = codeOf(dimension, 3);
    const random = seededRandom(8);
    const released = Float64Array.from({ length: dimension }, (_, i) => 1000 * Math.sin(i));
    let off = 0;
    for (let i = 0; i < 400; i++) {
      const sent = encodeReleased(released, code, random);
      expect(sent.every(Number.isInteger)).toBe(true);
      off += minus(
        sent,
        code.rotation.apply(released).map((value) => value * code.scale),
      ).reduce((a, b) => a + b, 0);
    }
    expect(Math.abs(off)).toBeLessThan(4.9 * 0.5 * Math.sqrt(400 * dimension));
  });

  test('released numbers that are none, or too large, are cut off and not passed on', () => {
    const code = codeOf(4, 3, 50);
    for (const wild of [Number.NaN, Infinity, -1e300, 1e300]) {
      const sent = encodeReleased(Float64Array.of(wild, 1, 2, 3), code, seededRandom(1));
      expect(sent.every((value) => Number.isInteger(value) && Math.abs(value) <= 51)).toBe(true);
    }
  });
});

test('sixteen bits lose nothing for 5 to 30 banks: the error of a sum is that of its noise', () => {
  const dimension = 1024;
  for (const banks of [5, 30]) {
    const random = seededRandom(banks);
    const exact = Array.from({ length: banks }, () =>
      Float64Array.from({ length: dimension }, () => Math.trunc((random.nextUint32() / 2 ** 31 - 1) * R * 40)),
    );
    // Per bank a sigma of 40 records' length, which is what epsilon 1 asks for 50 rounds and 5 banks, roughly.
    const scale = (2 ** 15 - 1) / (banks * 40 * 4 + 20 * 40 * Math.sqrt(banks));
    const sigma = Math.round(40 * scale * 1024);
    const code = codeOf(dimension, scale, 2 ** 14);
    const sent = exact.map((sum) =>
      drawAround(encodeSum(sum, code), { num: BigInt(sigma) ** 2n, den: 1024n ** 2n }, random),
    );
    const truth = exact.reduce((a, b) => a.map((value, i) => value + b[i]));
    const error = length(minus(decodeSum(ringSum(sent, 16), code), truth)) / R;
    // Chi of d = 1024 coordinates: five standard deviations are 11 %, false-alarm rate 1e-6; rounding would show above
    // it.
    const noise = (sigma / 1024 / scale) * Math.sqrt(banks * dimension);
    expect(Math.abs(error / noise - 1)).toBeLessThan(0.11);
    // In fewer bits the same sum wraps around and is lost.
    const lost = length(minus(decodeSum(ringSum(sent, 8), code), truth)) / R;
    expect(Math.abs(lost / noise - 1)).toBeGreaterThan(0.3);
  }
});

test('only integers are encoded', () => {
  for (const wrong of [0.5, Number.NaN, Infinity, 2 ** 53]) {
    expect(() => encodeSum(Float64Array.of(1, wrong), codeOf(2, 1))).toThrow(
      expect.objectContaining({ code: 'TRAINING_INPUT' }),
    );
  }
});

test('bytes of an update', () => {
  expect(updateBytes(4096)).toEqual({ float32: 16_384, bits20: 10_240, bits16: 8192, bits1: 512 });
  expect(packedBytes(5, 20)).toBe(13);
});
