/** Accounting against published goldens and against independent series, and its rounding directions. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { epsilonOf } from '../../src/privacy/budget.ts';
import { gdpDelta, gdpEpsilon, millsRatio, muFor, sumUp } from '../../src/privacy/gdp.ts';

// Balle-Wang calibrations at double precision, from the closed form (design vectors, kind `exact`).
const CALIBRATION: [delta: number, epsilon: number, sigma: number, mu: number][] = [
  [1e-6, 0.5, 8.057618, 0.124106149],
  [1e-6, 1, 4.224679, 0.2367043807],
  [1e-6, 4, 1.193519, 0.8378587571],
  [1e-5, 1, 3.730632, 0.2680511232],
  [1e-5, 8, 0.600229, 1.6660305978],
];

test.each(CALIBRATION)('calibration at delta %d, epsilon %d', (delta, epsilon, sigma, mu) => {
  expect(muFor(epsilon, delta)).toBeCloseTo(mu, 9);
  expect(1 / muFor(epsilon, delta)).toBeCloseTo(sigma, 5);
});

const VECTORS = join(import.meta.dirname, '../../../shared/vectors/dp-accounting.json');
const vectors = existsSync(VECTORS) ? JSON.parse(readFileSync(VECTORS, 'utf8')) : null;
const withVectors = vectors === null ? describe.skip : describe;
if (vectors === null) process.stderr.write('skipped: the shared accounting vectors are not in this checkout\n');

withVectors('shared goldens', () => {
  test('composed Gaussians: never below the truth, at most 0.5 % above', () => {
    expect(vectors.gaussian.length).toBeGreaterThan(0);
    for (const { sigma, T, delta, epsilon, kind } of vectors.gaussian) {
      const ours = epsilonOf(sumUp(new Array(T).fill(1 / sigma ** 2)), delta);
      if (kind === 'rdp') expect(ours).toBeLessThanOrEqual(epsilon * 1.005);
      else expect(Math.abs(ours / epsilon - 1)).toBeLessThan(0.005);
    }
  });

  test('calibration', () => {
    expect(vectors.gaussianCalibration.length).toBeGreaterThan(0);
    for (const { delta, epsilon, mu } of vectors.gaussianCalibration) {
      expect(Math.abs(muFor(epsilon, delta) - mu)).toBeLessThan(1e-9);
      expect(gdpEpsilon(muFor(epsilon, delta), delta)).toBeLessThanOrEqual(epsilon);
    }
  });

  test('groups: k records of one customer', () => {
    const mu = muFor(1, 1e-6);
    const { k2, k5, k10, k20, k50 } = vectors?.gdpGroup ?? {};
    for (const [k, epsilon] of Object.entries({ 2: k2, 5: k5, 10: k10, 20: k20, 50: k50 })) {
      expect(gdpEpsilon(Number(k) * mu, 1e-6)).toBeCloseTo(epsilon, 2);
    }
  });
});

describe('Mills ratio', () => {
  // (1 - Phi(x)) / phi(x) by its series in integers with 200 fractional bits.
  function exactRatio(x: number): number {
    // R(x) = sqrt(pi/2) e^(x^2/2) - sum x^(2k+1) / (2k+1)!!.
    const ONE = 1n << 200n;
    const fixed = (value: number) => BigInt(Math.round(value * 2 ** 20)) << 180n;
    const X = fixed(x);
    const X2 = (X * X) / ONE;
    let sum = 0n;
    let term = X;
    for (let k = 1n; k < 600n; k++) {
      sum += term;
      term = (term * X2) / ONE / (2n * k + 1n);
    }
    let power = 0n;
    let part = ONE;
    for (let k = 1n; k < 600n; k++) {
      power += part;
      part = (part * X2) / ONE / (2n * k);
    }
    // sqrt(pi/2) to 60 digits.
    const ROOT = (1253314137315500251207882642405522626503493370304969158314961n * ONE) / 10n ** 60n;
    return Number(((ROOT * power) / ONE - sum) >> 100n) / 2 ** 100;
  }

  test('agrees with 200-bit arithmetic to 512 units over [-10, 10]', () => {
    for (let x = -10; x <= 10; x += 0.03125) {
      expect(Math.abs(millsRatio(x) / exactRatio(x) - 1)).toBeLessThan(512 * 2 ** -52);
    }
  });
});

describe('rounding and monotony', () => {
  const mu = fc.double({ min: 1e-3, max: 20, noNaN: true });
  const epsilon = fc.double({ min: 1e-2, max: 50, noNaN: true });
  const delta = fc.double({ min: 1e-12, max: 0.1, noNaN: true });

  test('gdpEpsilon satisfies the delta it was asked for', () => {
    fc.assert(
      fc.property(mu, delta, (m, d) => gdpDelta(m, gdpEpsilon(m, d)) <= d),
      { seed: 1 },
    );
  });

  test('muFor never exceeds the promise and wastes no more than 1e-9', () => {
    fc.assert(
      fc.property(epsilon, delta, (e, d) => {
        const m = muFor(e, d);
        return gdpDelta(m, e) <= d && gdpDelta(m * (1 + 1e-9), e) > d * (1 - 1e-6);
      }),
      { seed: 1 },
    );
  });

  test('more loss never lowers epsilon', () => {
    fc.assert(
      fc.property(mu, delta, fc.double({ min: 1, max: 3, noNaN: true }), (m, d, more) => {
        expect(gdpEpsilon(m * more, d)).toBeGreaterThanOrEqual(gdpEpsilon(m, d) * (1 - 1e-12));
      }),
      { seed: 1 },
    );
  });

  test('composition is at least the sum of squares, and hardly more', () => {
    fc.assert(
      fc.property(fc.array(mu, { minLength: 1, maxLength: 60 }), (mus) => {
        const squares = mus.reduce((sum, m) => sum + m * m, 0);
        const composed = sumUp(mus.map((m) => m * m));
        expect(composed).toBeGreaterThan(squares);
        expect(composed).toBeLessThan(squares * (1 + 1e-13));
      }),
      { seed: 1 },
    );
  });

  test('sums round up', () => {
    expect(sumUp(new Array(10).fill(0.1))).toBeGreaterThan(1);
    expect(sumUp([])).toBe(0);
    expect(() => sumUp([Number.NaN])).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  });

  test('out of range is refused', () => {
    for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => gdpDelta(bad, 1)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
      expect(() => gdpDelta(1, bad)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
    }
    for (const bad of [0, 1, Number.NaN]) {
      expect(() => gdpEpsilon(1, bad)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
    }
  });
});
