/** The flood's distribution, against exact probabilities at small deviations and moments at the real one. */
import { describe, expect, test } from '@jest/globals';
import { discreteGaussianPowerOfTwo } from '../../src/encryption/flood.ts';
import { EncryptionError } from '../../src/errors.ts';
import { seededRandom } from './support.ts';

describe('discrete Gaussian of deviation 2^b', () => {
  // Fixed seeds: the tests cannot fail by chance once they pass. Each threshold is the 1 - 1e-6 quantile.
  test.each([
    [0, 11],
    [1, 12],
    [3, 13],
  ])('b = %d has the exact probabilities (chi-square, 60,000 draws)', (bits, seed) => {
    const random = seededRandom(seed);
    const draws = 60_000;
    const reach = Math.max(2, Math.floor(3.2 * 2 ** bits));
    const counts = new Map<number, number>();
    for (let i = 0; i < draws; i++) {
      const m = Number(discreteGaussianPowerOfTwo(bits, random));
      const cell = Math.max(-reach, Math.min(reach, m));
      counts.set(cell, (counts.get(cell) ?? 0) + 1);
    }
    const weightOf = (m: number) => Math.exp((-m * m) / 2 ** (2 * bits + 1));
    let total = 0;
    const expected = new Map<number, number>();
    for (let m = -400; m <= 400; m++) {
      const cell = Math.max(-reach, Math.min(reach, m));
      expected.set(cell, (expected.get(cell) ?? 0) + weightOf(m));
      total += weightOf(m);
    }
    let statistic = 0;
    for (const [cell, weight] of expected) {
      const mean = (draws * weight) / total;
      statistic += ((counts.get(cell) ?? 0) - mean) ** 2 / mean;
    }
    const freedom = expected.size - 1;
    // Wilson-Hilferty at z = 4.75.
    const limit = freedom * (1 - 2 / (9 * freedom) + 4.75 * Math.sqrt(2 / (9 * freedom))) ** 3;
    expect(statistic).toBeLessThan(limit);
  });

  test.each([65, 80])('b = %d has mean 0, deviation 2^b, normal kurtosis and uniform low bits', (bits) => {
    const random = seededRandom(bits);
    const draws = 40_000;
    const [sums, low] = [
      [0, 0, 0],
      [0, 0, 0, 0],
    ];
    for (let i = 0; i < draws; i++) {
      const m = discreteGaussianPowerOfTwo(bits, random);
      const z = Number(m) / 2 ** bits;
      sums[0] += z;
      sums[1] += z * z;
      sums[2] += z ** 4;
      low[Number(m & 3n)]++;
    }
    // Five deviations of each estimator: 1, sqrt 2 and sqrt 96 over sqrt(draws).
    const unit = 5 / Math.sqrt(draws);
    expect(Math.abs(sums[0] / draws)).toBeLessThan(unit);
    expect(Math.abs(sums[1] / draws - 1)).toBeLessThan(Math.sqrt(2) * unit);
    expect(Math.abs(sums[2] / draws - 3)).toBeLessThan(Math.sqrt(96) * unit);
    for (const count of low) expect(Math.abs(count / draws - 0.25)).toBeLessThan(Math.sqrt(3 / 16) * unit);
  });

  test.each([-1, 0.5, 129, Number.NaN])('refuses deviation 2^%d', (bits) => {
    expect(() => discreteGaussianPowerOfTwo(bits, seededRandom(1))).toThrow(EncryptionError);
  });
});
