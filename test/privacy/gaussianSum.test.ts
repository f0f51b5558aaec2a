/** Discrete noise against the continuous noise that it is accounted as: sums of it, and releases of a sample. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { composedDelta } from '../../src/privacy/accountant.ts';
import { lossOf, noiseForMultiplier } from '../../src/privacy/gaussianMechanism.ts';
import { sumLossOf } from '../../src/privacy/gaussianSum.ts';
import { gdpDelta } from '../../src/privacy/gdp.ts';
import { approximately, type Rational } from '../../src/privacy/rational.ts';

const REACH = 400;

/** Probabilities of N_Z(centre, variance) at -REACH .. REACH. */
function discreteGaussian(variance: number, centre = 0): Float64Array {
  const weights = Float64Array.from({ length: 2 * REACH + 1 }, (_, i) =>
    Math.exp(-((i - REACH - centre) ** 2) / (2 * variance)),
  );
  const mass = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / mass);
}

/** Hockey-stick divergence of two distributions on the integers. */
const divergence = (p: Float64Array, q: Float64Array, epsilon: number): number =>
  p.reduce((sum, x, i) => sum + Math.max(0, x - Math.exp(epsilon) * q[i]), 0);

describe('sums', () => {
  // Corollary 12 itself, where its slack is large enough to be seen: direct convolution.
  test.each([
    [0.5, 2],
    [0.5, 5],
    [0.75, 3],
    [1, 4],
  ])('variance %d, %d parties: the sum is within e^(+-tau) of one discrete Gaussian', (variance, parties) => {
    const one = discreteGaussian(variance);
    let sum = one;
    for (let party = 1; party < parties; party++) {
      const next = new Float64Array(sum.length);
      for (let i = REACH - 60; i <= REACH + 60; i++) {
        for (let j = REACH - 60; j <= REACH + 60; j++) {
          const at = i + j - REACH;
          if (at >= 0 && at < next.length) next[at] += sum[i] * one[j];
        }
      }
      sum = next;
    }
    const single = discreteGaussian(variance * parties);
    let tau = 0;
    for (let k = 1; k < parties; k++) tau += 10 * Math.exp((-2 * Math.PI ** 2 * variance * k) / (k + 1));
    let worst = 0;
    for (let z = -15; z <= 15; z++) {
      worst = Math.max(worst, Math.abs(Math.log(sum[REACH + z] / single[REACH + z])));
    }
    expect(worst).toBeLessThan(tau);
    expect(worst).toBeGreaterThan(1e-6);
  });

  test('the loss is that of one Gaussian of n times the variance, with a slack of the stated size', () => {
    const variance: Rational = { num: 4n, den: 1n };
    expect(sumLossOf(3, variance, 7, 1).muSquared).toBe(lossOf(3, { num: 28n, den: 1n }));
    expect(sumLossOf(3, { num: 5n, den: 1n }, 1, 1000).epsilonSlack).toBeLessThan(1e-29);
    for (const parties of [2, 3, 10, 1000]) {
      let tau = 0;
      for (let k = 1; k < parties; k++) tau += 10 * Math.exp((-8 * Math.PI ** 2 * k) / (k + 1));
      const { epsilonSlack } = sumLossOf(3, variance, parties, 1e6);
      expect(epsilonSlack).toBeGreaterThan(2e6 * tau);
      expect(epsilonSlack).toBeLessThan(2e6 * tau * (1 + 1e-6));
      expect(epsilonSlack).toBeLessThan(2e-10);
    }
  });

  test('more parties never raise the loss', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.bigInt(4096n, 2n ** 40n), (parties, num) => {
        const local = { num, den: 1024n };
        const { muSquared } = sumLossOf(14, local, parties + 1, 100);
        expect(muSquared).toBeLessThan(sumLossOf(14, local, parties, 100).muSquared);
      }),
      { seed: 1 },
    );
  });

  test('little noise of the single party is refused, and so are impossible numbers', () => {
    const enough = { num: 5n, den: 1n };
    for (const [sensitivity, local, parties, coordinates] of [
      [1, { num: 3n, den: 1n }, 3, 1],
      [1, { num: 5n, den: 0n }, 3, 1],
      [0, enough, 3, 1],
      [1, enough, 0, 1],
      [1, enough, 1.5, 1],
      [1, enough, 3, -1],
    ] as const) {
      expect(() => sumLossOf(sensitivity, local, parties, coordinates)).toThrow(
        expect.objectContaining({ code: 'PRIVACY_PARAMETER' }),
      );
    }
  });
});

describe('releases of a Poisson sample on integers', () => {
  const cases = fc.record({
    shift: fc.integer({ min: 1, max: 12 }),
    noise: fc.double({ min: 0.7, max: 4, noNaN: true }),
    rate: fc.constantFrom(0.01, 0.1, 0.5, 0.9),
    epsilon: fc.double({ min: 0.05, max: 4, noNaN: true }),
  });

  function exact(shift: number, variance: number, rate: number, epsilon: number): number {
    const base = discreteGaussian(variance);
    const moved = discreteGaussian(variance, shift);
    const mixture = base.map((x, i) => (1 - rate) * x + rate * moved[i]);
    return Math.max(divergence(mixture, base, epsilon), divergence(base, mixture, epsilon));
  }

  test('the accountant, asked with the multiplier, is never below the exact loss', () => {
    fc.assert(
      fc.property(cases, ({ shift, noise, rate, epsilon }) => {
        const { sigma, sigmaSquared } = noiseForMultiplier(shift * shift, noise);
        const variance = approximately(sigmaSquared);
        expect(variance).toBeGreaterThanOrEqual((shift * noise) ** 2 + 4);
        expect(approximately(sigma)).toBeLessThan(Math.sqrt((shift * noise) ** 2 + 4) + 0.002);
        const bound = composedDelta(
          [{ kind: 'subsampledGaussian', noiseMultiplier: noise, samplingRate: rate, times: 1 }],
          epsilon,
        );
        expect(exact(shift, variance, rate, epsilon)).toBeLessThan(bound + 1e-14);
      }),
      { seed: 1, numRuns: 25 },
    );
  });

  test('noise without the four units of variance, or a tenth less of it, would be caught where noise is small', () => {
    const shift = 12;
    const noise = 0.7;
    const bound = (epsilon: number): number =>
      composedDelta([{ kind: 'subsampledGaussian', noiseMultiplier: noise, samplingRate: 0.5, times: 1 }], epsilon);
    expect(exact(shift, 0.81 * (shift * noise) ** 2, 0.5, 2)).toBeGreaterThan(bound(2) * 1.05);
    // At a sensitivity of one the lattice itself shows: discrete noise is not a continuous one of the same variance.
    expect(exact(1, 0.3, 1, 7.95)).toBeGreaterThan(2 * gdpDelta(1 / Math.sqrt(0.3), 7.95));
  });

  test('impossible requests are refused', () => {
    expect(() => noiseForMultiplier(1, 0)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
    expect(() => noiseForMultiplier(2 ** 62, 2)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  });
});
