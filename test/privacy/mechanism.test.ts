/** Noise calibration, the customer bound and the budget. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { canSpend, epsilonOf, openBudget, requireBudget } from '../../src/privacy/budget.ts';
import { boundContributions } from '../../src/privacy/contributions.ts';
import { addNoise, lossOf, noiseFor } from '../../src/privacy/gaussianMechanism.ts';
import { sumUp } from '../../src/privacy/gdp.ts';
import { approximately, rationalAbove, rationalText, squareOf } from '../../src/privacy/rational.ts';
import { seededRandom } from '../support/publicData.ts';

describe('calibration', () => {
  test('the noise keeps the loss within what was asked, and wastes little', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 1e14, noNaN: true }),
        fc.double({ min: 1e-4, max: 1, noNaN: true }),
        (sensitivitySquared, muSquared) => {
          const { sigma, sigmaSquared, muSquared: actual } = noiseFor(sensitivitySquared, muSquared);
          expect(actual).toBeLessThanOrEqual(muSquared);
          expect(sigmaSquared).toEqual(squareOf(sigma));
          // sigma^2 - 4 >= D^2 / mu^2, checked on integers: num - 4 den >= den D^2 / mu^2.
          const needed = BigInt(Math.floor(sensitivitySquared / muSquared));
          expect(sigmaSquared.num - 4n * sigmaSquared.den >= needed * sigmaSquared.den).toBe(true);
          const wasted = approximately(sigmaSquared) / (sensitivitySquared / muSquared + 4);
          expect(wasted).toBeLessThan(1 + 0.0021 / Math.sqrt(sensitivitySquared / muSquared + 4) + 1e-9);
        },
      ),
      { seed: 1 },
    );
  });

  test('a variance that the discretisation eats up has no bound', () => {
    expect(() => lossOf(1, { num: 4n, den: 1n })).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
    expect(lossOf(1, { num: 5n, den: 1n })).toBeGreaterThanOrEqual(1);
  });

  test('no level is promised that the sampler cannot draw', () => {
    const random = seededRandom(1);
    const { sigmaSquared } = noiseFor(2 ** 62 - 2 ** 20, 1);
    expect(addNoise(Float64Array.of(0), sigmaSquared, random)).toHaveLength(1);
    expect(() => noiseFor(2 ** 63, 1)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  });

  test('only exact integers get noise', () => {
    const { sigmaSquared } = noiseFor(1, 0.01);
    expect(() => addNoise(Float64Array.of(0.5), sigmaSquared, seededRandom(1))).toThrow(
      expect.objectContaining({ code: 'PRIVACY_PARAMETER', where: 'coordinate 0' }),
    );
    const noisy = addNoise(new Float64Array(500), sigmaSquared, seededRandom(1));
    expect(noisy.every(Number.isInteger)).toBe(true);
    expect(new Set(noisy).size).toBeGreaterThan(20);
  });

  test('neighbouring inputs under the same randomness differ by exactly the neighbours difference', () => {
    const { sigmaSquared } = noiseFor(14, 0.01);
    const a = addNoise(Float64Array.of(5, 7, 9), sigmaSquared, seededRandom(4));
    const b = addNoise(Float64Array.of(5, 8, 9), sigmaSquared, seededRandom(4));
    expect(Array.from(b, (value, i) => value - a[i])).toEqual([0, 1, 0]);
  });

  test('rationals round up and print exactly', () => {
    expect(rationalText(rationalAbove(1))).toBe('1024/1024');
    expect(approximately(rationalAbove(0.1))).toBeGreaterThanOrEqual(0.1);
    expect(() => rationalAbove(Number.NaN)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  });
});

describe('customer bound', () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i);
  const subjects = fc.array(fc.option(fc.constantFrom('a', 'b', 'c', 'd')), { maxLength: 60 });

  test('nobody keeps more than m, and the rest keep everything', () => {
    fc.assert(
      fc.property(subjects, fc.integer({ min: 1, max: 4 }), (who, m) => {
        const kept = boundContributions(who, key, m);
        for (const subject of ['a', 'b', 'c', 'd']) {
          const has = who.filter((s) => s === subject).length;
          expect([...kept].filter((row) => who[row] === subject).length).toBe(Math.min(has, m));
        }
        expect([...kept].filter((row) => who[row] === null).length).toBe(who.filter((s) => s === null).length);
        expect([...kept]).toEqual([...kept].sort((x, y) => x - y));
      }),
      { seed: 1 },
    );
  });

  test('removing one customer changes no other customer', () => {
    fc.assert(
      fc.property(subjects, fc.integer({ min: 1, max: 4 }), (who, m) => {
        const rows = who.map((_, row) => row).filter((row) => who[row] !== 'a');
        const without = boundContributions(
          rows.map((row) => who[row]),
          key,
          m,
        );
        const expected = [...boundContributions(who, key, m)].filter((row) => who[row] !== 'a');
        expect([...without].map((i) => rows[i])).toEqual(expected);
      }),
      { seed: 1 },
    );
  });

  test('the key decides which records stay', () => {
    const who = new Array<string>(40).fill('a');
    const other = boundContributions(who, Uint8Array.from(key).reverse(), 5);
    expect([...boundContributions(who, key, 5)]).not.toEqual([...other]);
    expect(() => boundContributions(who, new Uint8Array(8), 5)).toThrow(
      expect.objectContaining({ code: 'PRIVACY_PARAMETER' }),
    );
  });
});

describe('budget', () => {
  const budget = openBudget(1, 1e-6);

  test('never lets the total pass the limit', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 0.05, noNaN: true }), { maxLength: 30 }), (losses) => {
        const booked: number[] = [];
        for (const loss of losses) if (canSpend(budget, sumUp(booked), loss)) booked.push(loss);
        expect(epsilonOf(sumUp(booked), 1e-6)).toBeLessThanOrEqual(1 + 1e-9);
        expect(booked.reduce((sum, loss) => sum + loss, 0)).toBeLessThanOrEqual(budget.muSquared * (1 + 1e-12));
      }),
      { seed: 1 },
    );
  });

  test('the whole budget fits once, and nothing after it', () => {
    expect(canSpend(budget, 0, budget.muSquared)).toBe(true);
    expect(canSpend(budget, budget.muSquared, 1e-12)).toBe(false);
    expect(canSpend(budget, 0, Number.NaN)).toBe(false);
    expect(canSpend(budget, 0, -1)).toBe(false);
    expect(() => requireBudget(budget, budget.muSquared, 0.01, 'cards')).toThrow(
      expect.objectContaining({ code: 'BUDGET_EXHAUSTED', where: 'cards' }),
    );
    expect(() => openBudget(0, 1e-6)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  });
});
