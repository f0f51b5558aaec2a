/**
 * Sums that fit a ring: what division, rounding and cutting off do to two neighbouring sums, which the stated sensitivity
 * has to contain, and that no sum of all banks wraps around.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { fitToRing, ringBitsOf, ringLimit, shiftedSensitivitySquared } from '../../src/learning/ring.ts';

const SIGMA = 1000;

/** Neighbouring sums: `touched` coordinates differ, by the integers of `moved`. */
const neighbours = fc
  .record({
    shift: fc.integer({ min: 0, max: 16 }),
    ringBits: fc.constantFrom(24, 28, 32),
    sites: fc.integer({ min: 1, max: 10 }),
    base: fc.array(fc.integer({ min: -(2 ** 34), max: 2 ** 34 }), { minLength: 1, maxLength: 12 }),
    moved: fc.array(fc.integer({ min: -(2 ** 18), max: 2 ** 18 }), { minLength: 1, maxLength: 12 }),
  })
  .map(({ base, moved, ...plan }) => {
    const changes = moved.slice(0, base.length);
    return {
      ...plan,
      sum: Float64Array.from(base),
      neighbour: Float64Array.from(base, (value, at) => value + (changes[at] ?? 0)),
      squared: changes.reduce((total, change) => total + change ** 2, 0),
      touched: changes.length,
    };
  });

const distanceSquared = (a: Float64Array, b: Float64Array) =>
  a.reduce((total, value, at) => total + (value - b[at]) ** 2, 0);

describe('the sensitivity after division', () => {
  /** @returns the first sums that are further apart than `stated` says, or null. */
  function counterexample(stated: typeof shiftedSensitivitySquared) {
    const result = fc.check(
      fc.property(neighbours, ({ sum, neighbour, squared, touched, shift, ...plan }) => {
        const [a, b] = [sum, neighbour].map((each) => fitToRing(each, plan, shift, SIGMA));
        return distanceSquared(a, b) <= stated(squared, shift, touched);
      }),
      { seed: 11, numRuns: 5_000 },
    );
    return result.counterexample;
  }

  test('contains what any two neighbouring sums become', () => {
    expect(counterexample(shiftedSensitivitySquared)).toBeNull();
  });

  test('does not without the unit that each touched number may be rounded by', () => {
    expect(counterexample((squared, shift) => squared / 4 ** shift)).not.toBeNull();
    // Half a unit is what one rounding costs; neighbouring sums are rounded both.
    expect(
      counterexample((squared, shift, touched) => (Math.sqrt(squared) / 2 ** shift + Math.sqrt(touched) / 2) ** 2),
    ).not.toBeNull();
  });

  test('is that of the exact sums where nothing is divided', () => {
    expect(shiftedSensitivitySquared(7, 0, 100)).toBe(7);
    expect(shiftedSensitivitySquared(4, 1, 9)).toBeGreaterThanOrEqual(16);
    expect(shiftedSensitivitySquared(4, 1, 9)).toBeLessThan(16 + 1e-12);
  });
});

test('cutting off moves no two sums apart', () => {
  const plan = { ringBits: 16, sites: 3 };
  const number = fc.integer({ min: -100_000, max: 100_000 });
  fc.assert(
    fc.property(number, number, (a, b) => {
      const [x, y] = [a, b].map((value) => fitToRing(Float64Array.of(value), plan, 0, 10)[0]);
      expect(Math.abs(x - y)).toBeLessThanOrEqual(Math.abs(a - b));
      expect(Math.abs(x)).toBeLessThanOrEqual(ringLimit(plan, 10));
    }),
    { seed: 12, numRuns: 500 },
  );
});

test('the largest sums of all banks and 20 standard deviations of their noise stay within the ring', () => {
  const plans = fc.record({ ringBits: fc.integer({ min: 16, max: 32 }), sites: fc.integer({ min: 1, max: 100 }) });
  fc.assert(
    fc.property(plans, fc.double({ min: 0.1, max: 1e6, noNaN: true }), (plan, sigma) => {
      const half = 2 ** (plan.ringBits - 1);
      const noise = 20 * sigma * Math.sqrt(plan.sites);
      let limit: number;
      try {
        limit = ringLimit(plan, sigma);
      } catch (error) {
        expect(error).toMatchObject({ code: 'PRIVACY_PARAMETER', where: 'ringBits' });
        // Refused only where not even one unit a bank is left.
        expect(noise + plan.sites).toBeGreaterThan(half - 3);
        return;
      }
      expect(limit).toBeGreaterThanOrEqual(1);
      expect(plan.sites * limit + noise).toBeLessThan(half);
    }),
    { seed: 13, numRuns: 500 },
  );
});

test('only exact integers are fitted', () => {
  for (const wrong of [0.5, Number.NaN, 2 ** 60]) {
    expect(() => fitToRing(Float64Array.of(wrong), { ringBits: 32, sites: 3 }, 0, 1)).toThrow(
      expect.objectContaining({ code: 'TRAINING_INPUT' }),
    );
  }
});

test('which rounds are masked follows from the plan', () => {
  const plan = { mode: 'sum' as const, ringBits: 32, quorum: 4, sites: 4 };
  expect([0, 1, 9].map((round) => ringBitsOf(plan, round))).toEqual([32, 32, 32]);
  // Counts are needed over the banks of every later round.
  expect([0, 1, 9].map((round) => ringBitsOf({ ...plan, quorum: 3 }, round))).toEqual([0, 32, 32]);
  expect([0, 1, 9].map((round) => ringBitsOf({ ...plan, mode: 'site', ringBits: 0 }, round))).toEqual([0, 0, 0]);
});
