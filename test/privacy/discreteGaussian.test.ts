/**
 * The sampler against the distribution it names. All seeds are fixed, so nothing here flakes: the stated false-alarm
 * rate is the chance that a correct sampler would have been refused by an arbitrary seed.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decideExactly, discreteGaussianSampler } from '../../src/privacy/discreteGaussian.ts';
import { integerSqrt, type Rational, rationalAbove, squareOf } from '../../src/privacy/rational.ts';
import type { RandomSource } from '../../src/random.ts';
import { seededRandom } from '../support/publicData.ts';

const whole = (n: number): Rational => ({ num: BigInt(n), den: 1n });

/**
 * How far `draws` samples of N_Z(0, drawn) are from N_Z(0, assumed): the chi-square statistic over cells of at least 20
 * expected draws, made standard normal by its cube root (Wilson, Hilferty 1931).
 */
function chiSquare(drawn: Rational, assumed: Rational, draws: number, seed: number): number {
  const v = Number(assumed.num) / Number(assumed.den);
  const reach = Math.ceil(12 * Math.sqrt(v)) + 2;
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * v)));
  const mass = weights.reduce((sum, w) => sum + w, 0);
  const seen = new Array<number>(2 * reach + 1).fill(0);
  const sample = discreteGaussianSampler(drawn);
  const random = seededRandom(seed);
  for (let i = 0; i < draws; i++) seen[sample(random) + reach]++;
  const cells: { expected: number; observed: number }[] = [];
  let open = { expected: 0, observed: 0 };
  for (let i = 0; i < weights.length; i++) {
    open.expected += (draws * weights[i]) / mass;
    open.observed += seen[i];
    if (open.expected >= 20) {
      cells.push(open);
      open = { expected: 0, observed: 0 };
    }
  }
  // What is left of the upper tail belongs to the last cell, so that every draw is counted.
  cells[cells.length - 1].expected += open.expected;
  cells[cells.length - 1].observed += open.observed;
  const statistic = cells.reduce((sum, { expected, observed }) => sum + (observed - expected) ** 2 / expected, 0);
  const freedom = cells.length - 1;
  return (Math.cbrt(statistic / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom));
}

describe('distribution', () => {
  const VARIANCES: [string, Rational][] = [
    ['1/3', { num: 1n, den: 3n }],
    ['1', whole(1)],
    ['7/2', { num: 7n, den: 2n }],
    ['100', whole(100)],
    ['10000', whole(10_000)],
  ];

  // |z| > 4.42 has probability 1e-5.
  test.each(VARIANCES)('chi-square at sigma^2 = %s, false-alarm rate 1e-5', (_, variance) => {
    expect(Math.abs(chiSquare(variance, variance, 400_000, 11))).toBeLessThan(4.42);
  });

  // The same test has power: noise of 2 % less sigma is refused, at every variance.
  test.each(VARIANCES)('chi-square at sigma^2 = %s refuses a sigma that is 2 %% too small', (_, variance) => {
    const less = { num: variance.num * 9604n, den: variance.den * 10_000n };
    expect(chiSquare(less, variance, 400_000, 11)).toBeGreaterThan(4.42);
  });

  // The mean square has standard deviation sigma^2 sqrt(2/n) = 0.22 %; 4.9 of them: false-alarm rate 1e-6.
  test('second moment at sigma^2 = 100, and the one of a sigma off by one per cent is told apart', () => {
    const draws = 400_000;
    const bound = 4.9 * Math.sqrt(2 / draws);
    const meanSquare = (variance: Rational): number => {
      const sample = discreteGaussianSampler(variance);
      const random = seededRandom(3);
      let squares = 0;
      for (let i = 0; i < draws; i++) squares += sample(random) ** 2;
      return squares / draws;
    };
    expect(Math.abs(meanSquare(whole(100)) / 100 - 1)).toBeLessThan(bound);
    expect(Math.abs(meanSquare({ num: 9801n, den: 100n }) / 100 - 1)).toBeGreaterThan(bound);
  });

  // Bernoulli counts; bound at 4.9 standard deviations, two-sided false-alarm rate 1e-6 each.
  test.each([
    [2 ** 16, 1],
    [2 ** 16, 2],
    [2 ** 16, 3],
    [2 ** 30, 1],
    [2 ** 30, 3],
  ])('tails at sigma = %d beyond %d sigma, false-alarm rate 1e-6', (sigma, beyond) => {
    const draws = 300_000;
    const tail = { 1: 0.31731050786, 2: 0.0455002639, 3: 0.00269979606 }[beyond] as number;
    const sample = discreteGaussianSampler(squareOf(rationalAbove(sigma)));
    const random = seededRandom(sigma + beyond);
    let outside = 0;
    let sum = 0;
    for (let i = 0; i < draws; i++) {
      const x = sample(random);
      sum += x;
      if (Math.abs(x) > beyond * sigma) outside++;
    }
    const sd = Math.sqrt(draws * tail * (1 - tail));
    // The lattice moves the tail by less than 1/sigma relative, far below one draw here.
    expect(Math.abs(outside - draws * tail)).toBeLessThan(4.9 * sd);
    expect(Math.abs(sum / sigma)).toBeLessThan(4.9 * Math.sqrt(draws));
  });
});

describe('exactness', () => {
  test('the integer path gives the same distribution when every word is undecided by doubles', () => {
    // Probability num/den as a comparison of the whole expansion: exact for dyadic rationals.
    const random = seededRandom(5);
    let below = 0;
    const draws = 200_000;
    for (let i = 0; i < draws; i++) if (decideExactly(random.nextUint32(), 1n, 3n, random)) below++;
    expect(Math.abs(below - draws / 3)).toBeLessThan(4.9 * Math.sqrt((draws * 2) / 9));
  });

  test('the comparison is the one of the real numbers', () => {
    const bits = (words: number[]): RandomSource => {
      let next = 0;
      return { nextUint32: () => words[next++] ?? 0, fill: () => {} };
    };
    fc.assert(
      fc.property(
        fc.bigInt(0n, 2n ** 90n),
        fc.bigInt(1n, 2n ** 90n),
        fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { minLength: 4, maxLength: 4 }),
        (a, b, words) => {
          const [num, den] = a < b ? [a, b] : [b, a === 0n ? 1n : a];
          fc.pre(num < den);
          // u = words as a 128-bit binary fraction; continued with zeros it is the real number itself.
          const u = words.reduce((sum, word) => (sum << 32n) | BigInt(word), 0n);
          expect(decideExactly(words[0], num, den, bits(words.slice(1)))).toBe(u * den < num << 128n);
        },
      ),
      { seed: 1 },
    );
  });

  test('a word equal to the threshold word is decided by the next one', () => {
    const half = { num: 1n, den: 3n };
    const word = Math.floor(2 ** 32 / 3);
    const endless = (next: number): RandomSource => ({ nextUint32: () => next, fill: () => {} });
    expect(decideExactly(word, half.num, half.den, endless(0))).toBe(true);
    expect(decideExactly(word, half.num, half.den, endless(2 ** 32 - 1))).toBe(false);
  });

  test('integer square roots', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 124n), (n) => {
        const root = integerSqrt(n);
        expect(root * root <= n && (root + 1n) * (root + 1n) > n).toBe(true);
      }),
      { seed: 1 },
    );
  });
});

test('zero variance gives zero and impossible variances are refused', () => {
  expect(discreteGaussianSampler(whole(0))(seededRandom(1))).toBe(0);
  for (const bad of [
    { num: -1n, den: 1n },
    { num: 1n, den: 0n },
    { num: 2n ** 63n, den: 1n },
  ]) {
    expect(() => discreteGaussianSampler(bad)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  }
});
