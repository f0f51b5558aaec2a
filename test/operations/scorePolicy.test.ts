import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { RequestError } from '../../src/errors.ts';
import { DECISIONS, decide, defaultPolicy, parsePolicy, policyHash } from '../../src/operations/policy.ts';

const policy = (reviewFrom: number, declineFrom: number) => ({ ...defaultPolicy(), reviewFrom, declineFrom });

describe('decision policy', () => {
  test('thresholds belong to the stricter side', () => {
    const p = parsePolicy(policy(600, 700));
    expect([0, 599, 600, 699, 700, 1000].map((score) => decide(p, score))).toEqual([
      'approve',
      'approve',
      'review',
      'review',
      'decline',
      'decline',
    ]);
  });

  test('a higher score is never treated more kindly', () => {
    const score = fc.integer({ min: 0, max: 1000 });
    fc.assert(
      fc.property(score, score, fc.tuple(score, score), (a, b, [x, y]) => {
        const p = parsePolicy(policy(Math.min(x, y), Math.max(x, y)));
        const rank = (s: number) => DECISIONS.indexOf(decide(p, s));
        expect(rank(Math.min(a, b))).toBeLessThanOrEqual(rank(Math.max(a, b)));
      }),
    );
  });

  test('equal thresholds leave out review, 1001 leaves out decline', () => {
    expect(decide(parsePolicy(policy(500, 500)), 500)).toBe('decline');
    expect(decide(parsePolicy(policy(500, 1001)), 1000)).toBe('review');
  });

  test('the hash does not depend on the order of members and changes with every member', () => {
    const p = defaultPolicy();
    const reversed = parsePolicy(JSON.parse(JSON.stringify(Object.fromEntries(Object.entries(p).reverse()))));
    expect(policyHash(reversed)).toBe(policyHash(p));
    const others = [{ name: 'other' }, { version: 2 }, { reviewFrom: 601 }, { declineFrom: 701 }];
    expect(new Set([p, ...others.map((o) => ({ ...p, ...o }))].map(policyHash)).size).toBe(5);
    expect(policyHash(p)).toMatch(/^[0-9a-f]{64}$/);
  });

  test.each([
    [null],
    [{ ...defaultPolicy(), format: 'veilrisk-policy/2' }],
    [{ ...defaultPolicy(), reviewFrom: 700, declineFrom: 600 }],
    [{ ...defaultPolicy(), reviewFrom: 600.5 }],
    [{ ...defaultPolicy(), reviewFrom: Number.NaN }],
    [{ ...defaultPolicy(), declineFrom: 1002 }],
    [{ ...defaultPolicy(), version: 0 }],
    [{ ...defaultPolicy(), rules: [] }],
  ])('refuses %j', (json) => {
    expect(() => parsePolicy(json)).toThrow(RequestError);
  });
});
