/** Shares by dynamic thresholds: what one alone, several and late callers get; nothing is lost or counted twice. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { openShares, type Shares } from '../src/fairShare.ts';

/** Takes one after another until refused; how many there were. */
function takeAll(shares: Shares, owner: string): number {
  let taken = 0;
  for (; shares.shortage(owner, 1) === null; taken++) shares.hold(owner, 1);
  return taken;
}

describe('a caller may hold what stays free for others', () => {
  test('one alone half, and each later one finds room of the rest', () => {
    const shares = openShares(120);
    expect(takeAll(shares, 'first')).toBe(60);
    expect(shares.shortage('first', 1)).toBe('caller');
    expect(takeAll(shares, 'second')).toBe(30);
    expect(takeAll(shares, 'third')).toBe(15);
    expect(shares.shortage('second', 1)).toBe('caller');
  });

  test('one that holds nothing gets whatever fits, and nobody more than fits', () => {
    const shares = openShares(100);
    expect(shares.shortage('first', 101)).toBe('everyone');
    expect(shares.shortage('first', 100)).toBeNull();
    const leave = shares.hold('first', 64);
    expect(shares.shortage('second', 36)).toBeNull();
    expect(shares.shortage('second', 37)).toBe('everyone');
    expect(shares.shortage('first', 1)).toBe('caller');
    leave();
    leave();
    expect(shares.shortage('second', 100)).toBeNull();
    expect(shares.shortage('second', 101)).toBe('everyone');
  });
});

test('whatever the order of arrivals and ends, the sum stays within the limit and all of it comes back', () => {
  const step = fc.record({
    owner: fc.constantFrom('a', 'b', 'c'),
    amount: fc.integer({ min: 1, max: 40 }),
    ends: fc.nat(9),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const shares = openShares(100);
      const held: { owner: string; amount: number; leave: () => void }[] = [];
      for (const { owner, amount, ends } of steps) {
        for (const { leave } of held.splice(0, Math.max(0, ends - 7))) leave();
        const total = held.reduce((sum, one) => sum + one.amount, 0);
        const own = held.filter((one) => one.owner === owner).reduce((sum, one) => sum + one.amount, 0);
        const shortage = shares.shortage(owner, amount);
        expect(shortage === 'everyone').toBe(total + amount > 100);
        if (own === 0 && total + amount <= 100) expect(shortage).toBeNull();
        if (own > 0 && shortage === null) expect(own + amount).toBeLessThanOrEqual(100 - total - amount);
        if (shortage === null) held.push({ owner, amount, leave: shares.hold(owner, amount) });
      }
      for (const { leave } of held) leave();
      expect(shares.shortage('a', 100)).toBeNull();
      expect(shares.shortage('a', 101)).toBe('everyone');
    }),
  );
});
