/** Privacy loss distributions against integration: never below the exact divergence, and hardly above it. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { gdpDelta, gdpEpsilon } from '../../src/privacy/gdp.ts';
import { composeLosses, deltaOfCurve, epsilonOfCurve, findWindow } from '../../src/privacy/lossComposition.ts';
import { discretise, type Release } from '../../src/privacy/lossDistribution.ts';
import { distributionDelta, distributionEpsilon } from '../../src/privacy/refinement.ts';
import { oneRelease, optimisticDelta, twoReleases } from '../support/privacyLoss.ts';

const release = (noiseMultiplier: number, samplingRate: number, times = 1): Release => ({
  noiseMultiplier,
  samplingRate,
  times,
});
const DIRECTIONS = ['remove', 'add'] as const;

/** Delta of one direction at a fixed grid; the window is found on a coarser one. */
function deltaAt(releases: readonly Release[], step: number, epsilon: number, direction: 'remove' | 'add'): number {
  const lossesAt = (width: number) =>
    releases.map((one) => ({ loss: discretise(one, width, 1e-14)[direction], times: one.times }));
  const coarse = Math.max(step, 2 ** -6);
  const window = findWindow(lossesAt(coarse), coarse, { epsilon });
  return deltaOfCurve(composeLosses(lossesAt(step), step, window), epsilon);
}

describe('one release', () => {
  test('masses sum to one from above and carry the likelihood ratio', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.4, max: 20, noNaN: true }),
        fc.constantFrom(1e-4, 0.01, 0.3, 0.99, 1),
        fc.integer({ min: 4, max: 12 }),
        (s, q, bits) => {
          const step = 2 ** -bits;
          const tail = 1e-12;
          const { remove, add, lossError } = discretise(release(s, q), step, tail);
          expect(lossError).toBeLessThan(1e-9);
          for (const { masses, infinity } of [remove, add]) {
            const sum = masses.reduce((total, mass) => total + mass, 0) + infinity;
            expect(sum).toBeGreaterThanOrEqual(1 - 1e-14);
            expect(sum).toBeLessThan(1 + 3 * tail + 1e-10);
          }
          // E_P[Q/P] = 1: the mean of the spread is the mean of what was spread, the cut-off at the second point apart.
          const mean = remove.masses.reduce((total, mass, i) => total + mass * Math.exp(-(remove.first + i) * step), 0);
          expect(Math.abs(mean - tail * Math.exp(-(remove.first + 1) * step) - 1)).toBeLessThan(1e-8);
        },
      ),
      { seed: 1, numRuns: 40 },
    );
  });

  test('delta in both directions: at least the integral, at most a trifle above', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.5, max: 6, noNaN: true }),
        fc.constantFrom(0.003, 0.05, 0.4, 0.95),
        fc.double({ min: 0.01, max: 3, noNaN: true }),
        (s, q, epsilon) => {
          for (const direction of DIRECTIONS) {
            const exact = oneRelease({ s, q }, epsilon, direction);
            const ours = deltaAt([release(s, q)], 2 ** -11, epsilon, direction);
            expect(ours).toBeGreaterThanOrEqual(exact * (1 - 1e-9) - 1e-18);
            expect(ours).toBeLessThan(exact * 1.02 + 1e-11);
          }
        },
      ),
      { seed: 1, numRuns: 10 },
    );
  });

  test('a grid however coarse stays above', () => {
    for (const step of [1, 0.25, 2 ** -5]) {
      for (const direction of DIRECTIONS) {
        const exact = oneRelease({ s: 1, q: 0.1 }, 0.5, direction);
        expect(deltaAt([release(1, 0.1)], step, 0.5, direction)).toBeGreaterThanOrEqual(exact);
      }
    }
  });
});

describe('composition', () => {
  test.each([
    [{ s: 1, q: 0.1 }, { s: 1, q: 0.1 }, 0.3],
    [{ s: 0.8, q: 0.02 }, { s: 3, q: 0.5 }, 0.2],
    [{ s: 2, q: 1 }, { s: 1.2, q: 0.3 }, 1],
    [{ s: 2, q: 1 }, { s: 1.2, q: 0.3 }, 3],
  ])('two releases %j and %j: at least the double integral', (a, b, epsilon) => {
    for (const direction of DIRECTIONS) {
      const exact = twoReleases(a, b, epsilon, direction);
      const ours = deltaAt([release(a.s, a.q), release(b.s, b.q)], 2 ** -10, epsilon, direction);
      expect(ours).toBeGreaterThanOrEqual(exact * (1 - 1e-8));
      expect(ours).toBeLessThan(exact * 1.005 + 1e-13);
    }
  });

  // Lower bounds of delta by an independent, optimistic discretisation: lower <= ours, and ours within 1 % of it.
  test.each([
    [0.04, 1.5, 2250, 1e-5, 2 ** -8, 2 ** -14, 2 ** 20],
    [0.05, 2, 1000, 1e-6, 2 ** -8, 2 ** -14, 2 ** 19],
    [0.2, 3, 100, 1e-6, 2 ** -6, 2 ** -12, 2 ** 17],
    [0.01, 1, 1000, 1e-5, 2 ** -9, 2 ** -15, 2 ** 20],
  ])('rate %d, noise %d, %d times, delta %d: lower <= ours <= 1.01 lower', (q, s, times, delta, cell, step, length) => {
    const { bound, settled } = distributionEpsilon([release(s, q, times)], delta);
    expect(settled).toBe(true);
    const lower = optimisticDelta({ s, q }, times, cell, step, length);
    expect(lower(bound)).toBeLessThanOrEqual(delta);
    expect(lower(bound * 0.99)).toBeGreaterThan(delta);
  });

  test('what an accountant by the central limit theorem answers is refuted by the lower bound', () => {
    // opacus accountants_test.py l. 106-117 gives epsilon 6.595 at delta 1e-5.
    expect(optimisticDelta({ s: 1.5, q: 0.04 }, 2250, 2 ** -8, 2 ** -14, 2 ** 20)(6.595)).toBeGreaterThan(1.2e-5);
    expect(distributionDelta([release(1.5, 0.04, 2250)], 6.595, 1e-4).bound).toBeGreaterThan(1.2e-5);
  });

  test('Gaussians alone agree with the exact conversion from above within 0.1 %', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.3, max: 50, noNaN: true }),
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: -12, max: -2, noNaN: true }),
        (s, times, logDelta) => {
          const delta = 10 ** logDelta;
          const exact = gdpEpsilon(Math.sqrt(times) / s, delta);
          fc.pre(exact > 1e-3);
          const { bound } = distributionEpsilon([release(s, 1, times)], delta);
          expect(bound).toBeGreaterThanOrEqual(exact * (1 - 1e-9));
          expect(bound).toBeLessThan(exact * 1.001);
          const { bound: deltaBound } = distributionDelta([release(s, 1, times)], exact, delta);
          expect(deltaBound).toBeGreaterThanOrEqual(gdpDelta(Math.sqrt(times) / s, exact) * (1 - 1e-9));
        },
      ),
      { seed: 1, numRuns: 20 },
    );
  });

  test('tiny deltas keep their digits: the tilt makes the error relative', () => {
    for (const epsilon of [5, 10, 15]) {
      const exact = gdpDelta(1, epsilon);
      const ours = distributionDelta([release(10, 1, 100)], epsilon, exact).bound;
      expect(ours).toBeGreaterThanOrEqual(exact);
      expect(ours).toBeLessThan(exact * 1.05);
    }
    expect(gdpDelta(1, 15)).toBeLessThan(1e-48);
  });

  test('delta falls along the curve, and the curve is inverted by its epsilon', () => {
    const losses = [{ loss: discretise(release(1, 0.1), 2 ** -8, 1e-12).remove, times: 20 }];
    const curve = composeLosses(losses, 2 ** -8, findWindow(losses, 2 ** -8, { delta: 1e-5 }));
    let last = 1;
    for (let epsilon = 0.01; epsilon < 4; epsilon += 0.013) {
      const delta = deltaOfCurve(curve, epsilon);
      expect(delta).toBeLessThanOrEqual(last);
      last = delta;
    }
    const epsilon = epsilonOfCurve(curve, 1e-5) as number;
    expect(deltaOfCurve(curve, epsilon)).toBeCloseTo(1e-5, 12);
    expect(epsilonOfCurve(curve, 0)).toBeNull();
  });
});

test('out of range is refused, or left to another accountant', () => {
  expect(() => discretise(release(0.01, 0.5), 0.01, 1e-9)).toThrow(
    expect.objectContaining({ code: 'PRIVACY_PARAMETER' }),
  );
  expect(distributionEpsilon([release(0.01, 0.5)], 1e-6)).toEqual({ bound: Number.POSITIVE_INFINITY, settled: false });
});
