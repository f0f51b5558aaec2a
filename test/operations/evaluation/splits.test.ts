/** Splits and dealing: by customer, seeded, with the contribution bound on the training side only. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { splitRows } from '../../../src/operations/evaluation/splits.ts';

/** Rows of `of.length` rows whose customers are given, with alternating labels. */
function rowsOf(of: readonly number[], labels = Uint8Array.from(of, (_, row) => row % 2)) {
  const data = { rows: of.length, sizes: [1], bins: new Uint16Array(of.length), labels };
  return { data, customers: Uint32Array.from(of), customerCount: Math.max(...of) + 1 };
}

const all = (count: number) => Uint32Array.from({ length: count }, (_, row) => row);
const many = rowsOf(Array.from({ length: 1000 }, (_, row) => row % 300));

describe('splitRows', () => {
  test('a customer is on one side and at one bank; every usable row is somewhere', () => {
    fc.assert(
      fc.property(
        fc.record({
          customers: fc.array(fc.nat(199), { minLength: 600, maxLength: 900 }),
          sites: fc.integer({ min: 1, max: 5 }),
          seed: fc.nat(1e6),
          split: fc.integer({ min: 1, max: 9 }),
        }),
        ({ customers, sites, seed, split }) => {
          const usable = all(customers.length).filter((row) => row % 3 !== 0);
          const { banks, test: held } = splitRows(rowsOf(customers), usable, { seed, split, sites });
          const places = new Map<number, Set<string>>();
          const put = (row: number, place: string) => {
            const seen = places.get(customers[row]) ?? new Set();
            places.set(customers[row], seen.add(place));
          };
          banks.forEach((bank, i) => {
            for (const row of bank) put(row, `bank ${i}`);
          });
          for (const row of held) put(row, 'test');
          expect([...places.values()].every((seen) => seen.size === 1)).toBe(true);
          const trained = banks.flatMap((bank) => [...bank]);
          const heldCustomers = new Set([...held].map((row) => customers[row]));
          const expected = [...usable].filter((row) => !heldCustomers.has(customers[row]));
          expect(trained.sort((a, b) => a - b)).toEqual(expected);
          // The test side is not bounded.
          expect([...held]).toEqual([...all(customers.length)].filter((row) => heldCustomers.has(customers[row])));
        },
      ),
      { seed: 3, numRuns: 50 },
    );
  });

  test('the same seed gives the same split, whatever the number of banks; another gives another', () => {
    const usable = all(1000);
    const one = splitRows(many, usable, { seed: 4, split: 2, sites: 1 });
    expect(splitRows(many, usable, { seed: 4, split: 2, sites: 1 })).toEqual(one);
    expect(splitRows(many, usable, { seed: 4, split: 2, sites: 3 }).test).toEqual(one.test);
    expect(splitRows(many, usable, { seed: 4, split: 3, sites: 1 }).test).not.toEqual(one.test);
    expect(splitRows(many, usable, { seed: 5, split: 2, sites: 1 }).test).not.toEqual(one.test);
  });

  test('tests on a fifth of the customers, and deals them evenly', () => {
    const { banks, test: held } = splitRows(many, all(1000), { seed: 1, split: 1, sites: 4 });
    const customersIn = (rows: Uint32Array) => new Set([...rows].map((row) => many.customers[row])).size;
    expect(customersIn(held)).toBe(60);
    expect(banks.map(customersIn)).toEqual([60, 60, 60, 60]);
  });

  test('over many splits each customer is tested about equally often (10 standard deviations)', () => {
    // Each customer has a row of either label, so that no side ever has one label only.
    const small = rowsOf(
      Array.from({ length: 100 }, (_, row) => row % 50),
      Uint8Array.from({ length: 100 }, (_, row) => (row < 50 ? 1 : 0)),
    );
    const tested = new Uint32Array(50);
    const splits = 2000;
    for (let split = 1; split <= splits; split++) {
      for (const row of splitRows(small, all(100), { seed: 9, split, sites: 1 }).test) tested[row % 50]++;
    }
    const deviation = Math.sqrt(splits * 0.2 * 0.8);
    for (const times of tested) expect(Math.abs(times / 2 - 0.2 * splits)).toBeLessThan(10 * deviation);
  });

  test('lists lie in shared memory, where the threads read them', () => {
    const { banks, test: held } = splitRows(many, all(1000), { seed: 1, split: 1, sites: 2 });
    for (const list of [...banks, held]) expect(list.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  test('refuses banks without rows, and a side with one label', () => {
    expect(() => splitRows(many, all(1000), { seed: 1, split: 1, sites: 100 })).not.toThrow();
    expect(() => splitRows(many, Uint32Array.of(0, 1, 2), { seed: 1, split: 1, sites: 1 })).toThrow('training rows');
    const rare = new Uint8Array(1000);
    rare[0] = 1;
    const oneSided = { ...many, data: { ...many.data, labels: rare } };
    expect(() => splitRows(oneSided, all(1000), { seed: 1, split: 1, sites: 1 })).toThrow(
      'all rows have the negative label',
    );
  });
});
