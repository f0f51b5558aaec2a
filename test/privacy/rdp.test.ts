/** Rényi accounting against published values and against integration. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { PrivacyEvent } from '../../src/privacy/accountant.ts';
import { gdpDelta, gdpEpsilon } from '../../src/privacy/gdp.ts';
import { divergence, logMoment, rdpDelta, rdpEpsilon } from '../../src/privacy/rdp.ts';
import { integrate } from '../support/privacyLoss.ts';

const sampled = (noiseMultiplier: number, samplingRate: number, times: number): PrivacyEvent[] => [
  { kind: 'subsampledGaussian', noiseMultiplier, samplingRate, times },
];

// Upper bounds by Rényi accounting with the default orders of three libraries.
test.each([
  ['opacus, accountants_test.py l. 94', 0.04, 1.5, 2250, 1e-5, 7.32911117143],
  ['tensorflow_privacy, compute_dp_sgd_privacy_test.py l. 42', 0.0025, 1.3, 6000, 1e-5, 0.7242234026109595],
  ['tensorflow_privacy, compute_dp_sgd_privacy_test.py l. 43', 0.001, 1, 30_000, 1e-7, 1.4154988495444842],
  ['google dp_accounting b5b0286', 0.01, 1, 1000, 1e-5, 2.101367],
])('%s: within 0.5 %', (_, q, s, times, delta, epsilon) => {
  expect(Math.abs(rdpEpsilon(sampled(s, q, times), delta) / epsilon - 1)).toBeLessThan(0.005);
});

describe('moments', () => {
  test('integer and fractional orders are the integral, rounded up', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 2, max: 40 }), fc.double({ min: 1.02, max: 40, noNaN: true })),
        fc.double({ min: 1e-4, max: 0.9, noNaN: true }),
        fc.double({ min: 0.6, max: 8, noNaN: true }),
        (order, q, s) => {
          // Near its peak, at x between 0 and the order, the integrand is a Gaussian of standard deviation s or less.
          const log = (x: number): number =>
            (-x * x) / (2 * s * s) + order * Math.log(1 - q + q * Math.exp((2 * x - 1) / (2 * s * s)));
          let peak = Number.NEGATIVE_INFINITY;
          for (let x = -2; x <= order + 1; x += 0.05) peak = Math.max(peak, log(x));
          const integral = integrate((x) => Math.exp(log(x) - peak), -12 * s, order + 12 * s, 20_000);
          const exact = Math.log(integral / (s * Math.sqrt(2 * Math.PI))) + peak;
          const ours = logMoment(order, q, s);
          const rounding = 1e-11 * (1 + Math.abs(peak));
          expect(ours).toBeGreaterThan(exact - rounding);
          expect(ours).toBeLessThan(exact + 1e-7 * Math.max(1, exact) + rounding);
        },
      ),
      { seed: 1, numRuns: 40 },
    );
  });

  test('no sampling is the Gaussian, everything sampled with rate near one is nearly so', () => {
    expect(divergence([{ kind: 'gaussian', noiseMultiplier: 2, times: 3 }], 5)).toBeCloseTo((5 * 3) / 8, 12);
    expect(divergence(sampled(2, 1, 3), 5)).toBe(divergence([{ kind: 'gaussian', noiseMultiplier: 2, times: 3 }], 5));
    expect(divergence(sampled(2, 1 - 1e-9, 3), 5)).toBeCloseTo((5 * 3) / 8, 6);
    expect(divergence(sampled(2, 0, 3), 5)).toBe(0);
  });
});

test('never below the exact value of a Gaussian', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.3, max: 300, noNaN: true }),
      fc.double({ min: 1e-10, max: 1e-2, noNaN: true }),
      (noiseMultiplier, delta) => {
        const events: PrivacyEvent[] = [{ kind: 'gaussian', noiseMultiplier, times: 1 }];
        const ours = rdpEpsilon(events, delta);
        expect(ours).toBeGreaterThanOrEqual(gdpEpsilon(1 / noiseMultiplier, delta) * (1 - 1e-12));
        expect(rdpDelta(events, ours)).toBeGreaterThanOrEqual(gdpDelta(1 / noiseMultiplier, ours));
      },
    ),
    { seed: 1, numRuns: 40 },
  );
  expect(() => rdpEpsilon([], 0)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER', where: 'delta' }));
});
