/** Calibration against published values; what it answers keeps the target, and hardly less noise does. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { composedEpsilon, type PrivacyEvent } from '../../src/privacy/accountant.ts';
import { noiseMultiplierFor } from '../../src/privacy/calibration.ts';
import { muFor } from '../../src/privacy/gdp.ts';
import { rdpEpsilon } from '../../src/privacy/rdp.ts';

const sampled = (noiseMultiplier: number, samplingRate: number, times: number): PrivacyEvent => ({
  kind: 'subsampledGaussian',
  noiseMultiplier,
  samplingRate,
  times,
});

describe('published calibrations at rate 0.04, delta 1e-5, epsilon 8, tolerance 0.01', () => {
  // opacus accountants_test.py l. 193 (PRV, its own error .01 included).
  test('by loss distributions', () => {
    const noise = noiseMultiplierFor({ samplingRate: 0.04, times: 2000, epsilon: 8, delta: 1e-5 });
    expect(Math.abs(noise - 1.2915)).toBeLessThan(0.01);
  });

  // opacus accountants_test.py l. 146 and 161 (RDP): our Rényi accounting crosses 8 within the tolerance.
  test.each([
    [2250, 1.416],
    [2000, 1.3562],
  ])('by Rényi accounting, %d times', (times, sigma) => {
    expect(rdpEpsilon([sampled(sigma + 0.01, 0.04, times)], 1e-5)).toBeLessThan(8);
    expect(rdpEpsilon([sampled(sigma - 0.01, 0.04, times)], 1e-5)).toBeGreaterThan(8);
  });
});

test('the answer keeps the target, and 0.2 % less noise does not', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(0.002, 0.05, 0.5),
      fc.integer({ min: 1, max: 500 }),
      fc.constantFrom(0.3, 1, 5),
      fc.constantFrom(1e-8, 1e-5),
      fc.boolean(),
      (samplingRate, times, epsilon, delta, beside) => {
        const alongside: PrivacyEvent[] = beside
          ? [{ kind: 'gaussian', noiseMultiplier: 2 / muFor(epsilon, delta), times: 1 }]
          : [];
        const noise = noiseMultiplierFor({ samplingRate, times, epsilon, delta, alongside });
        expect(composedEpsilon([...alongside, sampled(noise, samplingRate, times)], delta)).toBeLessThanOrEqual(
          epsilon,
        );
        const less = composedEpsilon([...alongside, sampled(noise * 0.998, samplingRate, times)], delta);
        expect(less).toBeGreaterThan(epsilon);
      },
    ),
    { seed: 1, numRuns: 4 },
  );
});

test('without sampling it is the exact Gaussian, beside others too', () => {
  const mu = muFor(1, 1e-6);
  const noise = noiseMultiplierFor({ samplingRate: 1, times: 20, epsilon: 1, delta: 1e-6 });
  expect(noise).toBeGreaterThanOrEqual(Math.sqrt(20) / mu);
  expect(noise).toBeLessThan((Math.sqrt(20) / mu) * (1 + 1e-11));
  const alongside: PrivacyEvent[] = [{ kind: 'gaussian', noiseMultiplier: Math.SQRT2 / mu, times: 1 }];
  const beside = noiseMultiplierFor({ samplingRate: 1, times: 20, epsilon: 1, delta: 1e-6, alongside });
  expect(beside / (noise * Math.SQRT2)).toBeCloseTo(1, 9);
});

test('what no noise can keep is refused', () => {
  const wish = { samplingRate: 0.1, times: 10, epsilon: 1, delta: 1e-6 };
  const spent: PrivacyEvent[] = [{ kind: 'gaussian', noiseMultiplier: 1, times: 1 }];
  for (const bad of [
    { ...wish, alongside: spent },
    { ...wish, samplingRate: 1, alongside: spent },
    { ...wish, epsilon: 0 },
    { ...wish, times: 0 },
    { ...wish, samplingRate: 0 },
    { ...wish, delta: 0 },
  ]) {
    expect(() => noiseMultiplierFor(bad)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  }
});
