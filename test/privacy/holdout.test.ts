/** The hold-out: a customer's side is that customer's own matter, keyed, and the same for every plan. */
import { createHmac } from 'node:crypto';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { splitHoldout } from '../../src/privacy/holdout.ts';

const key = Uint8Array.from({ length: 32 }, (_, i) => i);
const tag = fc.uint8Array({ minLength: 32, maxLength: 32 });
const share = fc.double({ min: 0, max: 1, noNaN: true });
const flat = (tags: readonly Uint8Array[]) => Uint8Array.from(tags.flatMap((each) => [...each]));
const rowsOf = (tags: readonly unknown[]) => Uint32Array.from(tags, (_, row) => row);

test('is HMAC-SHA-256 in a domain of its own, compared with the share', () => {
  fc.assert(
    fc.property(fc.array(tag), share, (tags, holdout) => {
      const split = splitHoldout(flat(tags), rowsOf(tags), key, holdout);
      const fraction = (each: Uint8Array) =>
        createHmac('sha256', key).update('veilrisk holdout\0').update(each).digest().readUInt32BE() / 2 ** 32;
      const expected = tags.flatMap((each, row) => (fraction(each) < holdout ? [row] : []));
      expect([...split.holdout]).toEqual(expected);
      expect([...split.training, ...split.holdout].sort((a, b) => a - b)).toEqual([...rowsOf(tags)]);
    }),
  );
});

test('neither other customers nor the order of rows change a side; a larger share only adds', () => {
  fc.assert(
    fc.property(fc.array(tag), fc.array(tag, { minLength: 1 }), share, share, (others, own, one, two) => {
      const [small, large] = [Math.min(one, two), Math.max(one, two)];
      const alone = splitHoldout(flat(own), rowsOf(own), key, small).holdout;
      const all = [...others, ...own];
      const among = splitHoldout(flat(all), rowsOf(all), key, small).holdout;
      const mine = [...among].filter((row) => row >= others.length).map((row) => row - others.length);
      expect(mine).toEqual([...alone]);
      const more = new Set(splitHoldout(flat(own), rowsOf(own), key, large).holdout);
      expect([...alone].every((row) => more.has(row))).toBe(true);
    }),
  );
});

test('records of one customer are on one side, and only the rows asked for are dealt', () => {
  const tags = Array.from({ length: 100 }, (_, row) => new Uint8Array(32).fill(row % 10));
  const { training, holdout } = splitHoldout(
    flat(tags),
    Uint32Array.from({ length: 50 }, (_, i) => 2 * i),
    key,
    0.5,
  );
  const customers = (rows: Uint32Array) => new Set([...rows].map((row) => row % 10));
  expect([...customers(training)].filter((customer) => customers(holdout).has(customer))).toEqual([]);
  expect(training.length + holdout.length).toBe(50);
  expect(holdout.length).toBeGreaterThan(0);
  expect(training.length).toBeGreaterThan(0);
});

test('holds out about its share, another key holds out others, and nonsense is refused', () => {
  const tags = Array.from({ length: 20_000 }, (_, row) => {
    const bytes = new Uint8Array(32);
    new DataView(bytes.buffer).setUint32(0, row);
    return bytes;
  });
  const of = (by: Uint8Array) => new Set(splitHoldout(flat(tags), rowsOf(tags), by, 0.2).holdout);
  const mine = of(key);
  const theirs = of(new Uint8Array(32).fill(9));
  // Seven standard deviations; both keys are fixed.
  expect(Math.abs(mine.size - 4000)).toBeLessThan(7 * Math.sqrt(20_000 * 0.16));
  const both = [...mine].filter((row) => theirs.has(row)).length;
  expect(Math.abs(both - 800)).toBeLessThan(7 * Math.sqrt(800));
  const refused = expect.objectContaining({ code: 'PRIVACY_PARAMETER' });
  for (const bad of [-0.1, 1.1, Number.NaN]) {
    expect(() => splitHoldout(flat(tags), rowsOf(tags), key, bad)).toThrow(refused);
  }
  expect(() => splitHoldout(flat(tags), rowsOf(tags), key.slice(0, 8), 0.1)).toThrow(refused);
});
