/** What the aggregator of a sum takes from sites that are wrong, late, twice or lying. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import { SumAggregator } from '../../federated/secagg/aggregator.ts';
import type { Reveal, SumContext } from '../../federated/secagg/sum.ts';
import type { SecaggErrorCode } from '../../src/errors.ts';
import { type Epoch, epochOf, plainSum, setUp, site, sumOf, valuesOf } from './epoch.ts';

const refused = (code: SecaggErrorCode) => expect.objectContaining({ code });

describe('the aggregator of a sum', () => {
  let epoch: Epoch;
  let sum: SumContext;
  let aggregator: SumAggregator;
  beforeEach(async () => {
    epoch = await setUp(epochOf(6, { threshold: 4, minimum: 4 }));
    sum = sumOf(epoch);
    aggregator = new SumAggregator(epoch.context, epoch.list, sum);
  });
  const input = (name: string) => site(epoch, name).mask(sum, valuesOf(name, sum.dimension));
  const inputsOf = (names: readonly string[]) => {
    for (const name of names) aggregator.input(name, input(name));
  };
  /** What every survivor opens after honest agreements. */
  const reveals = (survivors: readonly string[]): Map<string, Reveal> => {
    const agreements = survivors.map((name) => ({ site: name, agreement: site(epoch, name).agree(sum, survivors, 4) }));
    return new Map(survivors.map((name) => [name, site(epoch, name).reveal(sum, agreements)]));
  };
  const five = ['bank-001', 'bank-002', 'bank-003', 'bank-004', 'bank-005'];

  test.each<[string, (told: SumContext) => SumContext]>([
    ['a member without keys', (told) => ({ ...told, members: [...told.members.slice(0, 5), 'bank-009'] })],
    ['members in another order', (told) => ({ ...told, members: told.members.toReversed() })],
    ['a slot that is not there', (told) => ({ ...told, slot: 2 })],
    ['fewer members than the threshold', (told) => ({ ...told, members: told.members.slice(0, 3) })],
  ])('is not made for %s', (_, change) => {
    expect(() => new SumAggregator(epoch.context, epoch.list, change(sum))).toThrow(refused('SECAGG_CONTEXT'));
  });

  test('takes an input once, of a member, of the right length, before they are closed', () => {
    inputsOf(five);
    aggregator.input('bank-001', input('bank-001'));
    expect(aggregator.inputs()).toEqual(five);
    const other = input('bank-001').map((byte) => byte ^ 1);
    expect(() => aggregator.input('bank-001', other)).toThrow(refused('SECAGG_CONTEXT'));
    expect(() => aggregator.input('bank-009', other)).toThrow(refused('SECAGG_CONTEXT'));
    expect(() => aggregator.input('bank-006', other.subarray(1))).toThrow(refused('SECAGG_RANGE'));
    expect(aggregator.closeInputs(4)).toEqual(five);
    aggregator.input('bank-001', input('bank-001'));
    expect(() => aggregator.input('bank-006', input('bank-006'))).toThrow(refused('SECAGG_CONTEXT'));
  });

  test('closes with the quorum only, and can go on where it is not reached', () => {
    inputsOf(five.slice(0, 3));
    expect(() => aggregator.closeInputs(2)).toThrow(refused('SECAGG_THRESHOLD'));
    inputsOf(five.slice(3, 4));
    expect(() => aggregator.closeInputs(5)).toThrow(refused('SECAGG_THRESHOLD'));
    inputsOf(five.slice(4));
    expect(aggregator.closeInputs(5)).toEqual(five);
  });

  test('shows sites the largest group of equal agreements', () => {
    inputsOf(five);
    expect(() => aggregator.agreement('bank-001', new Uint8Array(32))).toThrow(refused('SECAGG_CONTEXT'));
    aggregator.closeInputs(4);
    expect(aggregator.agreed()).toEqual([]);
    aggregator.agreement('bank-001', new Uint8Array(32).fill(1));
    for (const name of five.slice(1)) aggregator.agreement(name, site(epoch, name).agree(sum, five, 4));
    expect(aggregator.agreed()).toEqual(five.slice(1));
    expect(() => aggregator.agreement('bank-001', new Uint8Array(32))).toThrow(refused('SECAGG_CONTEXT'));
    expect(() => aggregator.agreement('bank-006', new Uint8Array(32))).toThrow(refused('SECAGG_CONTEXT'));
    expect(() => aggregator.agreement('bank-002', new Uint8Array(31))).toThrow(refused('SECAGG_CONTEXT'));
  });

  describe('with opened shares', () => {
    let opened: Map<string, Reveal>;
    beforeEach(() => {
      inputsOf(five);
      aggregator.closeInputs(4);
      opened = reveals(five);
    });
    const reveal = (name: string) => opened.get(name)!;

    test('unmasks as soon as the threshold is there', async () => {
      for (const name of five.slice(0, 3)) aggregator.reveal(name, reveal(name));
      expect(aggregator.canUnmask()).toBe(false);
      await expect(aggregator.unmask()).rejects.toEqual(refused('SECAGG_THRESHOLD'));
      aggregator.reveal('bank-004', reveal('bank-004'));
      expect(aggregator.canUnmask()).toBe(true);
      const once = await aggregator.unmask();
      expect(once).toEqual(plainSum(five, sum.dimension));
      expect(await aggregator.unmask()).toEqual(once);
    });

    test.each<[string, (one: Reveal) => Reveal]>([
      ['leaves a survivor out', (one) => ({ ...one, selfShares: one.selfShares.slice(1) })],
      ['opens a survivor twice', (one) => ({ ...one, selfShares: [one.selfShares[0], ...one.selfShares.slice(0, 4)] })],
      ['opens no key of the missing', (one) => ({ ...one, keyShares: [] })],
      ['opens the key of a survivor', (one) => ({ ...one, keyShares: [{ ...one.keyShares[0], site: 'bank-001' }] })],
      ['opens both shares of the missing', (one) => ({ ...one, selfShares: [...one.selfShares, one.keyShares[0]] })],
      [
        'cuts a share',
        (one) => ({ ...one, keyShares: [{ site: 'bank-006', share: one.keyShares[0].share.slice(1) }] }),
      ],
    ])('refuses a site that %s', (_, change) => {
      expect(() => aggregator.reveal('bank-001', change(reveal('bank-001')))).toThrow(refused('SECAGG_SHARES'));
      aggregator.reveal('bank-001', reveal('bank-001'));
      expect(aggregator.revealed()).toEqual(['bank-001']);
    });

    test('takes no second version', () => {
      aggregator.reveal('bank-001', reveal('bank-001'));
      aggregator.reveal('bank-001', structuredClone(reveal('bank-001')));
      expect(() => aggregator.reveal('bank-001', reveal('bank-002'))).toThrow(refused('SECAGG_CONTEXT'));
      expect(() => aggregator.reveal('bank-006', reveal('bank-001'))).toThrow(refused('SECAGG_CONTEXT'));
    });

    const forge = (one: Reveal, list: keyof Reveal): Reveal => ({
      ...one,
      [list]: one[list].map(({ site: name, share }) => ({
        site: name,
        share: share.map((byte, at) => byte ^ +(at < 32)),
      })),
    });

    test('notices forged shares of a mask key, says whose, and goes on when another site opens its', async () => {
      aggregator.reveal('bank-002', forge(reveal('bank-002'), 'keyShares'));
      for (const name of ['bank-001', 'bank-003', 'bank-004']) aggregator.reveal(name, reveal(name));
      await expect(aggregator.unmask()).rejects.toMatchObject({ code: 'SECAGG_SHARES', where: 'bank-006' });
      aggregator.reveal('bank-005', reveal('bank-005'));
      expect(await aggregator.unmask()).toEqual(plainSum(five, sum.dimension));
    });

    test('notices forged shares of a seed when one site more opens its', async () => {
      for (const name of five) {
        aggregator.reveal(name, name === 'bank-002' ? forge(reveal(name), 'selfShares') : reveal(name));
      }
      await expect(aggregator.unmask()).rejects.toMatchObject({ code: 'SECAGG_SHARES', where: 'bank-001' });
    });
  });

  test('rebuilds from stored messages in another order', async () => {
    const stored = new Map(five.map((name) => [name, input(name)]));
    const opened = reveals(five);
    for (const [name, packed] of [...stored].reverse()) aggregator.input(name, packed);
    expect(aggregator.closeInputs(4)).toEqual(five);
    for (const [name, one] of [...opened].reverse().slice(0, 4)) aggregator.reveal(name, one);
    expect(await aggregator.unmask()).toEqual(plainSum(five, sum.dimension));
  });
});
