/** Confidence bounds against published and exact values, and what attacks of known strength prove. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { binomialLowerBound, binomialUpperBound, clopperPearson, logProbability } from '../../src/privacy/binomial.ts';
import {
  attack,
  closestTo,
  countErrors,
  epsilonLowerBound,
  muLowerBound,
  type Trials,
  upperQuantile,
} from '../../src/privacy/canary.ts';
import { addNoise } from '../../src/privacy/gaussianMechanism.ts';
import { gdpDelta, gdpEpsilon, millsRatio } from '../../src/privacy/gdp.ts';
import { seededRandom } from '../support/publicData.ts';

/** P(X <= k) for X binomial(n, a / 1000), exact in rationals, as a double. */
function exactTail(k: number, n: number, a: number): number {
  const p = BigInt(a);
  const q = 1000n - p;
  let binomial = 1n;
  let sum = 0n;
  for (let i = 0; i <= k; i++) {
    sum += binomial * p ** BigInt(i) * q ** BigInt(n - i);
    binomial = (binomial * BigInt(n - i)) / BigInt(i + 1);
  }
  return Number((sum * 10n ** 20n) / 1000n ** BigInt(n)) / 1e20;
}

describe('Clopper-Pearson', () => {
  test.each([
    // R 4.3 ?binom.test, Mendel's peas after Conover 1971, page 97: 682 of 925, 95 %.
    [682, 925, 0.05, 0.7076683, 0.7654066],
    // Closed form: 1 - (alpha / 2)^(1/n).
    [0, 100, 0.05, 0, 1 - 0.025 ** 0.01],
    [50, 50, 0.01, 0.005 ** 0.02, 1],
    // R binom.test(10, 100).
    [10, 100, 0.05, 0.04900469, 0.1762226],
  ])('%d of %d at %d', (k, n, alpha, low, high) => {
    const interval = clopperPearson(k, n, alpha);
    expect(interval.low).toBeCloseTo(low, 7);
    expect(interval.high).toBeCloseTo(high, 7);
  });

  test('covers at least 1 - alpha at every p, in exact arithmetic', () => {
    const n = 40;
    const alpha = 0.1;
    const bounds = Array.from({ length: n + 1 }, (_, k) => binomialUpperBound(k, n, alpha));
    for (let a = 5; a < 1000; a += 45) {
      // Missed when the bound is below p: those k are the smallest.
      const missed = bounds.filter((bound) => bound < a / 1000).length;
      if (missed > 0) expect(exactTail(missed - 1, n, a)).toBeLessThanOrEqual(alpha);
    }
  });

  test('the bound is where the exact tail is alpha, within 10^-8, and rounded outward', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 60 }), fc.nat(), fc.integer({ min: 1, max: 999 }), (n, draw, a) => {
        const k = draw % n;
        const alpha = exactTail(k, n, a);
        fc.pre(alpha > 1e-9 && alpha < 0.5);
        const bound = binomialUpperBound(k, n, alpha);
        expect(bound).toBeGreaterThanOrEqual((a / 1000) * (1 - 1e-15));
        expect(bound).toBeLessThan((a / 1000) * (1 + 1e-8));
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test('holds at ten million trials, where factorials and powers are out of range', () => {
    // Rule of three: no event in n trials, p <= -ln(alpha) / n.
    expect(binomialUpperBound(0, 1e7, 1e-6)).toBeCloseTo(-Math.log(1e-6) / 1e7, 11);
    // The normal quantile of 10^-6 is 4.7534; the next term of Cornish and Fisher is below 10^-6 here.
    expect(binomialUpperBound(5e6, 1e7, 1e-6)).toBeCloseTo(0.5 + (4.753424 * 0.5) / Math.sqrt(1e7), 6);
    expect(binomialLowerBound(5e6, 1e7, 1e-6)).toBeCloseTo(0.5 - (4.753424 * 0.5) / Math.sqrt(1e7), 6);
    let total = 0;
    for (let k = 4.99e6; k <= 5.01e6; k++) total += Math.exp(logProbability(k, 1e7, 0.5));
    expect(Math.abs(total - 1)).toBeLessThan(1e-9);
  });

  test('moves with the evidence', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5000 }), fc.nat(), (n, draw) => {
        const k = draw % n;
        const { low, high } = clopperPearson(k, n, 0.01);
        expect(low).toBeLessThanOrEqual(k / n);
        expect(high).toBeGreaterThan(k / n);
        expect(binomialUpperBound(k, n, 0.001)).toBeGreaterThan(binomialUpperBound(k, n, 0.01));
        expect(binomialUpperBound(k + 1, n, 0.01)).toBeGreaterThan(binomialUpperBound(k, n, 0.01));
        expect(binomialUpperBound(k, n + 1, 0.01)).toBeLessThanOrEqual(binomialUpperBound(k, n, 0.01));
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test('refuses counts and errors that mean nothing', () => {
    for (const [k, n, alpha] of [
      [5, 4, 0.1],
      [-1, 4, 0.1],
      [0, 0, 0.1],
      [1.5, 4, 0.1],
      [1, 4, 0],
      [1, 4, Number.NaN],
    ]) {
      expect(() => binomialUpperBound(k, n, alpha)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
    }
  });
});

describe('what error rates prove', () => {
  test('normal quantiles', () => {
    expect(upperQuantile(0.025)).toBeCloseTo(1.959963984540054, 11);
    expect(upperQuantile(1e-9)).toBeCloseTo(5.997807015007687, 10);
    expect(upperQuantile(0.75)).toBeCloseTo(-0.6744897501960817, 11);
    expect(() => upperQuantile(0)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  });

  test('guessing proves nothing, and the errors of randomized response prove its epsilon', () => {
    expect(epsilonLowerBound({ falsePositive: 0.5, falseNegative: 0.5 }, 0)).toBe(0);
    expect(muLowerBound({ falsePositive: 0.5, falseNegative: 0.5 })).toBe(0);
    expect(muLowerBound({ falsePositive: 1, falseNegative: 0.2 })).toBe(0);
    // Truth with probability e / (1 + e): epsilon 1 exactly (Warner 1965).
    const lie = 1 / (1 + Math.E);
    expect(epsilonLowerBound({ falsePositive: lie, falseNegative: lie }, 0)).toBeCloseTo(1, 12);
    expect(epsilonLowerBound({ falsePositive: lie, falseNegative: lie }, 0)).toBeLessThanOrEqual(1);
  });

  test('a curve of deltas is contradicted by rates below it only', () => {
    const curve = [0, 0.5, 1, 2].map((epsilon) => ({ epsilon, delta: gdpDelta(1, epsilon) }));
    const at = (mu: number) => closestTo(curve, { falsePositive: tail(0.5), falseNegative: tail(mu - 0.5) });
    expect(at(0.98).proved).toBeLessThan(at(0.98).promised);
    expect(at(1).proved).toBeLessThanOrEqual(at(1).promised);
    expect(at(1.02).proved).toBeGreaterThan(at(1.02).promised);
    expect(closestTo(curve, { falsePositive: 1, falseNegative: 1 }).proved).toBeLessThan(0);
  });

  test('no rates that a Gaussian mechanism can have prove more than its loss', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.05, max: 5, noNaN: true }),
        fc.double({ min: -5, max: 8, noNaN: true }),
        fc.constantFrom(1e-9, 1e-6, 1e-3),
        (mu, threshold, delta) => {
          const rates = { falsePositive: tail(threshold), falseNegative: tail(mu - threshold) };
          fc.pre(Math.min(rates.falsePositive, rates.falseNegative) > 1e-9);
          fc.pre(Math.max(rates.falsePositive, rates.falseNegative) < 1 - 1e-9);
          expect(muLowerBound(rates)).toBeLessThanOrEqual(mu);
          expect(muLowerBound(rates)).toBeGreaterThan(mu - 1e-6);
          expect(epsilonLowerBound(rates, delta)).toBeLessThanOrEqual(gdpEpsilon(mu, delta) + 1e-9);
        },
      ),
      { seed: 1, numRuns: 500 },
    );
  });
});

/** P(N(0, 1) > z). */
function tail(z: number): number {
  return z < 0 ? 1 - tail(-z) : (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * millsRatio(z);
}

/** Trials of one integer with discrete Gaussian noise: GDP of mu = 1 / sigma to four digits at sigma = 100. */
function gaussianTrials(count: number, shift: number, seed: number): Trials {
  const random = seededRandom(seed);
  const sigmaSquared = { num: 10_000n, den: 1n };
  return {
    without: addNoise(new Float64Array(count), sigmaSquared, random),
    with: addNoise(new Float64Array(count).fill(shift), sigmaSquared, random),
  };
}

describe('attack', () => {
  test('counts errors of "present from the threshold on"', () => {
    const trials = { without: Float64Array.of(1, 2, 3, 4), with: Float64Array.of(3, 4, 5) };
    expect(countErrors(trials, 3)).toEqual({ falsePositives: 2, trialsWithout: 4, falseNegatives: 0, trialsWith: 3 });
  });

  test('comes close to the loss of a Gaussian from below (seeded; either side fails with probability below 10^-9)', () => {
    const { rates } = attack(gaussianTrials(100_000, 100, 7), muLowerBound, 1e-9);
    expect(muLowerBound(rates)).toBeLessThan(1);
    expect(muLowerBound(rates)).toBeGreaterThan(0.9);
  });

  test('does not believe the trials the threshold was chosen on', () => {
    // Noise alone. On the choosing half the best threshold looks good by chance; on the other it does not.
    let accused = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const { rates } = attack(gaussianTrials(400, 0, seed), (r) => epsilonLowerBound(r, 0), 0.1);
      if (epsilonLowerBound(rates, 0) > 0) accused++;
    }
    // At most 10 % by the bound; 25 of 100 has probability below 10^-5 at 10 %, and the seeds are fixed.
    expect(accused).toBeLessThan(25);
  });

  test('separates worlds that never overlap, and worlds of one value', () => {
    const apart = { without: new Float64Array(2000), with: new Float64Array(2000).fill(1) };
    const { rates, errors } = attack(apart, (r) => epsilonLowerBound(r, 0), 1e-6);
    expect(errors.falsePositives + errors.falseNegatives).toBe(0);
    expect(epsilonLowerBound(rates, 0)).toBeGreaterThan(4);
    const equal = { without: new Float64Array(2000), with: new Float64Array(2000) };
    expect(epsilonLowerBound(attack(equal, (r) => epsilonLowerBound(r, 0), 1e-6).rates, 0)).toBe(0);
    expect(() => attack({ without: new Float64Array(0), with: new Float64Array(0) }, muLowerBound, 0.1)).toThrow(
      expect.objectContaining({ code: 'PRIVACY_PARAMETER' }),
    );
  });
});
