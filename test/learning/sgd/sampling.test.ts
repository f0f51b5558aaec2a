/** Poisson sampling: exactly the stated probability, by comparison with whole words and by counting. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { exactRate, poissonSampler } from '../../../src/learning/sgd/sampling.ts';
import { seededRandom } from '../../support/publicData.ts';

/** A source that gives these bytes, then fails the test. */
function bytesOnly(bytes: readonly number[]) {
  return {
    nextUint32: (): number => {
      throw new RangeError('words are not drawn');
    },
    fill: (out: Uint8Array) => void out.set(bytes.slice(0, out.length)),
  };
}

test('a record is in the batch when its 32 bits are below the threshold, and no byte is read in vain', () => {
  const threshold = fc.oneof(fc.integer({ min: 1, max: 2 ** 32 }), fc.constantFrom(1, 255, 256, 2 ** 24, 2 ** 32));
  const near = fc.tuple(threshold, fc.integer({ min: -300, max: 300 }));
  fc.assert(
    fc.property(near, fc.nat(255), ([limit, distance], next) => {
      const word = Math.min(2 ** 32 - 1, Math.max(0, limit + distance));
      const digits = [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255];
      const of = (i: number) => Math.floor(limit / 256 ** (3 - i)) % 256;
      const used = limit === 2 ** 32 ? 0 : 1 + [0, 1, 2].findIndex((i) => digits[i] !== of(i));
      const read = used === 0 && limit !== 2 ** 32 ? 4 : used;
      // The second record reads where the first stopped: with `next` and zeros, below or not by `next` alone.
      const stream = [...digits.slice(0, read), next, 0, 0, 0];
      const out = new Int32Array(2);
      const count = poissonSampler(limit / 2 ** 32, bytesOnly(stream)).sample(2, out);
      const second = limit === 2 ** 32 || next * 2 ** 24 < limit;
      expect([...out.subarray(0, count)]).toEqual([...(word < limit ? [0] : []), ...(second ? [1] : [])]);
    }),
    { numRuns: 2000 },
  );
});

// Chance of a false alarm: 7 standard deviations, below 3e-12 a line; the seed is fixed.
describe.each([2 ** -32, 1e-3, 0.01, 1 / 256, 0.3, 0.75, 1 - 2 ** -32, 1])('rate %p', (wanted) => {
  test('batch sizes and pairs of records have the frequencies of independent coins', () => {
    const rate = exactRate(wanted);
    expect(rate).toBeLessThanOrEqual(wanted);
    expect(wanted - rate).toBeLessThan(2 ** -32);
    const sampler = poissonSampler(rate, seededRandom(11));
    const rows = 1000;
    const rounds = 2000;
    const out = new Int32Array(rows);
    let members = 0;
    let neighbours = 0;
    for (let round = 0; round < rounds; round++) {
      const count = sampler.sample(rows, out);
      members += count;
      for (let i = 1; i < count; i++) if (out[i] === out[i - 1] + 1) neighbours++;
    }
    const close = (seen: number, trials: number, chance: number, spread: number) =>
      expect(Math.abs(seen - trials * chance)).toBeLessThanOrEqual(
        7 * Math.sqrt(spread * trials * chance * (1 - chance)) + 1,
      );
    close(members, rows * rounds, rate, 1);
    // Overlapping pairs are correlated: their variance is at most 3 times that of independent ones.
    close(neighbours, (rows - 1) * rounds, rate * rate, 3);
  });
});

test('rates that are not what is drawn are refused', () => {
  for (const rate of [0, -1, 2, Number.NaN, 2 ** -33, 0.1]) {
    expect(() => poissonSampler(rate, seededRandom(1))).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  }
  for (const rate of [0, -1, Number.NaN]) {
    expect(() => exactRate(rate)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
  }
});
