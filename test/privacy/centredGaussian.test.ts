/**
 * Draws around centres between integers, against the distribution they name. Seeds are fixed, so nothing flakes: the
 * stated false-alarm rate is the chance that a correct sampler would have been refused by an arbitrary seed.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { centredGaussianSampler, discreteGaussianSampler } from '../../src/privacy/discreteGaussian.ts';
import { centresOf, drawAround } from '../../src/privacy/gaussianMechanism.ts';
import type { Rational } from '../../src/privacy/rational.ts';
import { seededRandom } from '../support/publicData.ts';

const DRAWS = 300_000;

/** Chi-square of draws around `drawn` against the law around `assumed`, as a standard normal (Wilson, Hilferty 1931). */
function chiSquare(variance: Rational, drawn: number, assumed: number): number {
  const v = Number(variance.num) / Number(variance.den);
  const reach = Math.ceil(12 * Math.sqrt(v)) + 2;
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach - assumed) ** 2) / (2 * v)));
  const mass = weights.reduce((sum, w) => sum + w, 0);
  const seen = new Array<number>(2 * reach + 1).fill(0);
  const sample = centredGaussianSampler(variance);
  const random = seededRandom(5);
  for (let i = 0; i < DRAWS; i++) seen[sample(drawn, random) + reach]++;
  const cells: [expected: number, observed: number][] = [];
  let open: [number, number] = [0, 0];
  weights.forEach((weight, i) => {
    open = [open[0] + (DRAWS * weight) / mass, open[1] + seen[i]];
    if (open[0] < 20) return;
    cells.push(open);
    open = [0, 0];
  });
  const last = cells[cells.length - 1];
  cells[cells.length - 1] = [last[0] + open[0], last[1] + open[1]];
  const statistic = cells.reduce((sum, [expected, observed]) => sum + (observed - expected) ** 2 / expected, 0);
  const freedom = cells.length - 1;
  return (Math.cbrt(statistic / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom));
}

const VARIANCES: [string, Rational][] = [
  ['1/3', { num: 1n, den: 3n }],
  ['4', { num: 4n, den: 1n }],
  // t = 3 and sigma^2 / t = 5/2: at that distance from a centre of 1/2 doubles do not decide, integers do.
  ['15/2', { num: 15n, den: 2n }],
  ['225/4', { num: 225n, den: 4n }],
];

describe.each(VARIANCES)('sigma^2 = %s', (_, variance) => {
  // |z| > 4.42 has probability 1e-5.
  test.each([0, 2 ** -20, 0.25, 0.5, 0.875])('around %d, false-alarm rate 1e-5', (centre) => {
    expect(Math.abs(chiSquare(variance, centre, centre))).toBeLessThan(4.42);
  });

  test('a centre that is off by a twelfth of sigma is told apart', () => {
    const off = Math.sqrt(Number(variance.num) / Number(variance.den)) / 12;
    expect(chiSquare(variance, 0.25, 0.25 + off)).toBeGreaterThan(4.42);
  });
});

test('a whole step moves every draw by one, whatever the source gives', () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.nat(2 ** 20 - 1),
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 }),
      (seed, part, whole) => {
        const sample = centredGaussianSampler({ num: 100n, den: 7n });
        const fraction = part / 2 ** 20;
        expect(sample(whole + fraction, seededRandom(seed)) - whole).toBe(sample(fraction, seededRandom(seed)));
      },
    ),
  );
});

test('the mean is the centre: rounding is unbiased', () => {
  const centres = Float64Array.from({ length: 1000 }, (_, i) => (i - 500) / 64);
  const random = seededRandom(3);
  let error = 0;
  for (let i = 0; i < 200; i++) {
    drawAround(centres, { num: 9n, den: 1n }, random).forEach((drawn, at) => {
      error += drawn - centres[at];
    });
  }
  expect(Math.abs(error)).toBeLessThan(4.9 * 3 * Math.sqrt(200_000));
});

describe('refuses', () => {
  const code = (act: () => unknown) => expect(act).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));

  test('variances and centres out of range', () => {
    code(() => centredGaussianSampler({ num: 0n, den: 1n }));
    code(() => centredGaussianSampler({ num: (1n << 52n) + 1n, den: 1n }));
    const sample = centredGaussianSampler({ num: 4n, den: 1n });
    for (const centre of [1 / 3, Number.NaN, Infinity, 2 ** 33]) code(() => sample(centre, seededRandom(1)));
    for (const real of [Number.NaN, Infinity, 2 ** 32]) code(() => centresOf(Float64Array.of(real)));
  });

  test('and the sampler around zero keeps its own range', () => {
    code(() => discreteGaussianSampler({ num: (1n << 62n) + 1n, den: 1n }));
    code(() => discreteGaussianSampler({ num: 1n, den: 0n }));
  });
});

test('centres are at most half a step from the reals', () => {
  fc.assert(
    fc.property(fc.double({ min: -(2 ** 31), max: 2 ** 31, noNaN: true }), (real) => {
      const [centre] = centresOf(Float64Array.of(real));
      expect(Math.abs(centre - real)).toBeLessThanOrEqual(2 ** -21);
      expect(Number.isInteger(centre * 2 ** 20)).toBe(true);
    }),
  );
});
