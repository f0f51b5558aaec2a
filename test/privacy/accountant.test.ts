/** The accountant against published goldens, and the properties every accountant of privacy has. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { composedDelta, composedEpsilon, type PrivacyEvent } from '../../src/privacy/accountant.ts';
import { gdpEpsilon } from '../../src/privacy/gdp.ts';
import { rdpEpsilon } from '../../src/privacy/rdp.ts';

const sampled = (noiseMultiplier: number, samplingRate: number, times: number): PrivacyEvent => ({
  kind: 'subsampledGaussian',
  noiseMultiplier,
  samplingRate,
  times,
});
const gaussian = (noiseMultiplier: number, times: number): PrivacyEvent => ({
  kind: 'gaussian',
  noiseMultiplier,
  times,
});

// Upper bounds by privacy loss distributions on a grid of 1e-4, google dp_accounting b5b0286.
test.each([
  [0.04, 1.5, 2250, 1e-5, 6.768787],
  [0.001, 0.8, 1000, 1e-6, 0.467695],
  [0.05, 2, 1000, 1e-6, 4.162611],
  [256 / 60_000, 1.1, 14_062, 1e-5, 2.381686],
  [0.01, 1, 10_000, 1e-6, 6.907419],
])('rate %d, noise %d, %d times, delta %d', (q, s, times, delta, epsilon) => {
  expect(Math.abs(composedEpsilon([sampled(s, q, times)], delta) / epsilon - 1)).toBeLessThan(0.002);
});

const VECTORS = join(import.meta.dirname, '../../../shared/vectors/dp-accounting.json');
const vectors = existsSync(VECTORS) ? JSON.parse(readFileSync(VECTORS, 'utf8')) : null;
const withVectors = vectors === null ? describe.skip : describe;
if (vectors === null) process.stderr.write('skipped: the shared accounting vectors are not in this checkout\n');

withVectors('shared goldens', () => {
  type Golden = { q: number; sigma: number; T: number; delta: number; kind: string; epsilon: number };
  const ofKind = (kind: string): Golden[] => {
    const found = (vectors.subsampledGaussian as Golden[]).filter((golden) => golden.kind === kind);
    expect(found.length).toBeGreaterThan(0);
    return found;
  };

  test('pld: within 0.5 % of a value that is within 0.5 % above the truth', () => {
    for (const { q, sigma, T, delta, epsilon } of ofKind('pld')) {
      const ours = composedEpsilon([sampled(sigma, q, T)], delta);
      expect(ours).toBeLessThan(epsilon * 1.005);
      expect(ours).toBeGreaterThan(epsilon * 0.995);
    }
  });

  test('prv: at most the value, which lies up to .01 above its own estimate and that up to .01 above the truth', () => {
    for (const { q, sigma, T, delta, epsilon } of ofKind('prv')) {
      const ours = composedEpsilon([sampled(sigma, q, T)], delta);
      expect(ours).toBeLessThan(epsilon * 1.005);
      expect(ours).toBeGreaterThan(epsilon - 0.02);
    }
  });

  test('rdp: ours by the same means within 0.5 %, and the reported value is not above it', () => {
    for (const { q, sigma, T, delta, epsilon } of ofKind('rdp')) {
      const renyi = rdpEpsilon([sampled(sigma, q, T)], delta);
      expect(Math.abs(renyi / epsilon - 1)).toBeLessThan(0.005);
      expect(composedEpsilon([sampled(sigma, q, T)], delta)).toBeLessThanOrEqual(renyi);
    }
  });

  test('the value of the central limit theorem is below the truth and not reported', () => {
    for (const { q, sigma, T, delta, epsilon } of ofKind('REFUSE-clt-gdp')) {
      expect(composedEpsilon([sampled(sigma, q, T)], delta)).toBeGreaterThan(epsilon * 1.02);
      expect(composedDelta([sampled(sigma, q, T)], epsilon)).toBeGreaterThan(delta);
    }
  });

  test('Gaussians alone', () => {
    expect(vectors.gaussian.length).toBeGreaterThan(0);
    for (const { sigma, T, delta, epsilon, kind } of vectors.gaussian) {
      const ours = composedEpsilon([gaussian(sigma, T)], delta);
      if (kind === 'rdp') expect(Math.abs(rdpEpsilon([gaussian(sigma, T)], delta) / epsilon - 1)).toBeLessThan(0.005);
      else expect(Math.abs(ours / epsilon - 1)).toBeLessThan(0.005);
      expect(ours).toBe(composedEpsilon([sampled(sigma, 1, T)], delta));
    }
  });

  test('Poisson sampling, one epoch; fixed batches of the same size cost several times that', () => {
    const { sigma, T, delta, poisson, fixed } = vectors.poissonVersusFixedBatches;
    const ours = composedEpsilon([sampled(sigma, 1 / T, T)], delta);
    expect(ours).toBeGreaterThan(poisson * 0.995);
    expect(ours).toBeLessThan(poisson * 1.005);
    // A customer is in exactly one fixed batch: one Gaussian release.
    expect(composedEpsilon([gaussian(sigma, 1)], delta)).toBeCloseTo(fixed, 1);
  });
});

describe('properties', () => {
  // Two answers may be out of order by the width at which the grid counts as settled (GUARANTEES.md, "Refinement").
  const SLACK = 1 + 2 ** -10;
  const events = fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant('gaussian' as const),
        noiseMultiplier: fc.double({ min: 2, max: 200, noNaN: true }),
        times: fc.integer({ min: 1, max: 20 }),
      }),
      fc.record({
        kind: fc.constant('subsampledGaussian' as const),
        noiseMultiplier: fc.double({ min: 0.6, max: 8, noNaN: true }),
        samplingRate: fc.constantFrom(0.001, 0.01, 0.1, 0.5, 1),
        times: fc.integer({ min: 1, max: 300 }),
      }),
    ),
    { minLength: 1, maxLength: 3 },
  );
  const delta = fc.constantFrom(1e-9, 1e-6, 1e-3);
  const more = fc.double({ min: 1, max: 3, noNaN: true });
  const runs = { seed: 1, numRuns: 6 };

  test('more noise never raises, more sampling and more releases never lower epsilon', () => {
    fc.assert(
      fc.property(events, delta, more, (list, d, factor) => {
        const base = composedEpsilon(list, d);
        const noisier = list.map((event) => ({ ...event, noiseMultiplier: event.noiseMultiplier * factor }));
        const oftener = list.map((event) => ({ ...event, times: Math.ceil(event.times * factor) }));
        const likelier = list.map((event) =>
          event.kind === 'gaussian' ? event : { ...event, samplingRate: Math.min(1, event.samplingRate * factor) },
        );
        expect(composedEpsilon(noisier, d)).toBeLessThanOrEqual(base * SLACK);
        expect(composedEpsilon(oftener, d)).toBeGreaterThanOrEqual(base / SLACK);
        expect(composedEpsilon(likelier, d)).toBeGreaterThanOrEqual(base / SLACK);
      }),
      runs,
    );
  });

  test('a part costs at most the whole, and the whole at most the sum of its parts', () => {
    fc.assert(
      fc.property(events, events, delta, (a, b, d) => {
        const whole = composedEpsilon([...a, ...b], 2 * d);
        expect(composedEpsilon(a, 2 * d)).toBeLessThanOrEqual(whole * SLACK);
        expect(whole).toBeLessThanOrEqual((composedEpsilon(a, d) + composedEpsilon(b, d)) * SLACK);
      }),
      runs,
    );
  });

  test('delta falls with epsilon, and the two questions agree', () => {
    fc.assert(
      fc.property(events, delta, (list, d) => {
        const epsilon = composedEpsilon(list, d);
        fc.pre(epsilon > 0.01);
        const at = composedDelta(list, epsilon);
        expect(Math.abs(Math.log(at / d))).toBeLessThan(0.1);
        expect(composedDelta(list, epsilon * 1.1)).toBeLessThan(at);
        expect(composedDelta(list, epsilon * 0.9)).toBeGreaterThan(at);
      }),
      runs,
    );
  });

  test('sampling is never reported above not sampling', () => {
    fc.assert(
      fc.property(events, delta, (list, d) => {
        const unsampled = list.reduce((sum, { times, noiseMultiplier }) => sum + times / noiseMultiplier ** 2, 0);
        expect(composedEpsilon(list, d)).toBeLessThanOrEqual(gdpEpsilon(Math.sqrt(unsampled), d) * SLACK);
      }),
      runs,
    );
  });
});

test('nothing costs nothing, equal lines merge, and a list out of range is refused', () => {
  expect(composedEpsilon([], 1e-6)).toBe(0);
  expect(composedEpsilon([sampled(1, 0, 100), gaussian(1, 0)], 1e-6)).toBe(0);
  expect(composedEpsilon([sampled(1, 0.1, 3), sampled(1, 0.1, 4)], 1e-6)).toBe(
    composedEpsilon([sampled(1, 0.1, 7)], 1e-6),
  );
  for (const [bad, where] of [
    [gaussian(0, 1), 'noiseMultiplier'],
    [gaussian(Number.NaN, 1), 'noiseMultiplier'],
    [sampled(1, 1.1, 1), 'samplingRate'],
    [gaussian(1, -1), 'times'],
    [gaussian(1, 0.5), 'times'],
  ] as const) {
    expect(() => composedEpsilon([bad], 1e-6)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER', where }));
  }
  expect(() => composedEpsilon([sampled(1, 0.5, 1)], 0)).toThrow(expect.objectContaining({ where: 'delta' }));
  expect(() => composedDelta([sampled(1, 0.5, 1)], -1)).toThrow(expect.objectContaining({ where: 'epsilon' }));
});

test('noise too small for a loss distribution is left to Rényi accounting', () => {
  const events = [sampled(0.04, 0.5, 1)];
  expect(composedEpsilon(events, 1e-6)).toBe(rdpEpsilon(events, 1e-6));
});
