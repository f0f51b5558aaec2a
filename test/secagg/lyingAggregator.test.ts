/** An aggregator that lies, message by message: each lie is refused by the site it is told to, or by the next step. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import type { Advertisement, SealedShare } from '../../federated/secagg/epoch.ts';
import { publicKeyOf } from '../../federated/secagg/keys.ts';
import { EpochParticipant } from '../../federated/secagg/participant.ts';
import { agreementHash, type SumContext, sumHash } from '../../federated/secagg/sum.ts';
import { SecaggError, type SecaggErrorCode } from '../../src/errors.ts';
import { systemRandom } from '../../src/random.ts';
import { type Epoch, epochOf, setUp, site, sumOf, valuesOf } from './epoch.ts';

function refuses(code: SecaggErrorCode, step: () => unknown): void {
  let thrown: unknown;
  try {
    step();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(SecaggError);
  expect(thrown).toMatchObject({ code });
}

const freshKey = () => {
  const secret = new Uint8Array(32);
  systemRandom().fill(secret);
  return publicKeyOf(secret);
};
const context = epochOf(4);

describe('in the list of keys', () => {
  let sites: EpochParticipant[];
  let list: Advertisement[];
  beforeEach(() => {
    sites = context.roster.map((name) => new EpochParticipant(context, name, systemRandom()));
    list = sites.map((one) => one.advertise());
  });

  const otherKeys = (keys: Advertisement): Advertisement => ({ ...keys, channelKey: freshKey() });
  const lies: [string, (list: Advertisement[]) => Advertisement[]][] = [
    ['leaves the site itself out', (all) => all.slice(1)],
    ['gives the site other keys of its own', ([own, ...rest]) => [otherKeys(own), ...rest]],
    ['gives fewer sites than the threshold', (all) => all.slice(0, 2)],
    [
      'invents a site',
      (all) => [...all, { ...otherKeys(all[1]), site: 'bank-005', maskKeys: all[1].maskKeys.map((byte) => byte ^ 1) }],
    ],
    ['lists a site twice', (all) => [...all.slice(0, 2), all[1], ...all.slice(2)]],
    ['changes the order', ([own, second, third, last]) => [own, third, second, last]],
    [
      'uses the channel key of one site for another',
      ([own, second, ...rest]) => [own, second, { ...rest[0], channelKey: second.channelKey }, rest[1]],
    ],
    [
      'uses the mask keys of one site for another',
      ([own, second, ...rest]) => [own, second, { ...rest[0], maskKeys: second.maskKeys }, rest[1]],
    ],
    [
      'uses one mask key for all slots of a site',
      ([own, second, ...rest]) => {
        const first = second.maskKeys.subarray(0, 32);
        return [own, { ...second, maskKeys: new Uint8Array(Buffer.concat([first, first])) }, ...rest];
      },
    ],
    [
      'uses a mask key as channel key',
      ([own, second, ...rest]) => [own, { ...second, channelKey: second.maskKeys.slice(0, 32) }, ...rest],
    ],
    [
      'gives too few mask keys',
      ([own, second, ...rest]) => [own, { ...second, maskKeys: second.maskKeys.slice(0, 32) }, ...rest],
    ],
    [
      'gives a short channel key',
      ([own, second, ...rest]) => [own, { ...second, channelKey: second.channelKey.slice(1) }, ...rest],
    ],
    [
      'gives a key of low order',
      ([own, second, ...rest]) => [own, { ...second, channelKey: new Uint8Array(32) }, ...rest],
    ],
    [
      'hides a key seen twice behind its other encoding',
      ([own, second, ...rest]) => {
        const channelKey = second.channelKey.slice();
        channelKey[31] |= 0x80;
        return [own, second, { ...rest[0], channelKey }, rest[1]];
      },
    ],
  ];
  test.each(lies)('%s', async (_, lie) => {
    await expect(sites[0].seal(lie(list))).rejects.toMatchObject({ code: 'SECAGG_KEYS' });
    // A refused list binds nothing: the true one still works.
    expect((await sites[0].seal(list)).shares).toHaveLength(3);
  });

  test('tells a second list after the first', async () => {
    await sites[0].seal(list);
    await expect(sites[0].seal(list.slice(0, 3))).rejects.toMatchObject({ code: 'SECAGG_CONTEXT' });
  });

  test('tells two lists at once: one share is sealed under each key', async () => {
    const two = await Promise.allSettled([sites[0].seal(list), sites[0].seal(list.slice(0, 3)), sites[0].seal(list)]);
    expect(two.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(two[0]).toEqual(two[2]);
  });

  test('tells one site another list: nothing it seals can be opened, and it opens nothing', async () => {
    const [own, second, third, last] = list;
    const told = [own, { ...second, channelKey: third.channelKey }, { ...third, channelKey: second.channelKey }, last];
    const lied = await sites[0].seal(told);
    const honest = await Promise.all(sites.slice(1).map((one) => one.seal(list)));
    const forFirst = honest.map(({ shares }, at) => ({ site: context.roster[at + 1], sealed: shares[0].sealed }));
    refuses('SECAGG_SHARES', () => sites[0].accept(forFirst));
    const forLast: SealedShare[] = [
      { site: 'bank-001', sealed: lied.shares[2].sealed },
      { site: 'bank-002', sealed: honest[0].shares[2].sealed },
      { site: 'bank-003', sealed: honest[1].shares[2].sealed },
    ];
    refuses('SECAGG_SHARES', () => sites[3].accept(forLast));
  });
});

describe('in the shares', () => {
  let first: EpochParticipant;
  let list: Advertisement[];
  let delivered: SealedShare[];
  beforeEach(async () => {
    const sites = context.roster.map((name) => new EpochParticipant(context, name, systemRandom()));
    list = sites.map((one) => one.advertise());
    const sealed = await Promise.all(sites.map((one) => one.seal(list)));
    first = sites[0];
    delivered = sealed.slice(1).map(({ shares }, at) => ({ site: context.roster[at + 1], sealed: shares[0].sealed }));
  });

  const lies: [string, SecaggErrorCode, (shares: SealedShare[]) => SealedShare[]][] = [
    [
      'changes a byte',
      'SECAGG_SHARES',
      ([one, ...rest]) => [{ ...one, sealed: one.sealed.map((byte, at) => (at === 40 ? byte ^ 1 : byte)) }, ...rest],
    ],
    [
      'changes the tag',
      'SECAGG_SHARES',
      ([one, ...rest]) => [
        { ...one, sealed: one.sealed.map((byte, at) => (at === one.sealed.length - 1 ? byte ^ 1 : byte)) },
        ...rest,
      ],
    ],
    ['cuts a share short', 'SECAGG_SHARES', ([one, ...rest]) => [{ ...one, sealed: one.sealed.slice(1) }, ...rest]],
    [
      'swaps the senders',
      'SECAGG_SHARES',
      ([one, two, three]) => [{ ...one, sealed: two.sealed }, { ...two, sealed: one.sealed }, three],
    ],
    ['delivers one sender twice', 'SECAGG_CONTEXT', ([one, two]) => [one, two, two]],
    [
      'delivers from an unknown site',
      'SECAGG_CONTEXT',
      ([one, two, three]) => [one, two, { ...three, site: 'bank-009' }],
    ],
    [
      'delivers from the site itself',
      'SECAGG_CONTEXT',
      ([one, two, three]) => [one, two, { ...three, site: 'bank-001' }],
    ],
    ['delivers fewer than the threshold', 'SECAGG_THRESHOLD', ([one]) => [one]],
  ];
  test.each(lies)('%s', (_, code, lie) => {
    refuses(code, () => first.accept(lie(delivered)));
    first.accept(delivered);
  });

  test('delivers other shares after the first', () => {
    first.accept(delivered.slice(0, 2));
    refuses('SECAGG_CONTEXT', () => first.accept(delivered));
    first.accept(delivered.slice(0, 2).reverse());
  });

  test('gives a site back what it sealed itself', async () => {
    const own = (await first.seal(list)).shares;
    refuses('SECAGG_SHARES', () => first.accept(own));
  });

  test('reuses shares of another epoch', async () => {
    const next = { ...context, epoch: 2 };
    const sites = context.roster.map((name) => new EpochParticipant(next, name, systemRandom()));
    const others = sites.map((one) => one.advertise());
    for (const one of sites) await one.seal(others);
    refuses('SECAGG_SHARES', () => sites[0].accept(delivered));
  });
});

describe('in the round', () => {
  let epoch: Epoch;
  let sum: SumContext;
  const own = 'bank-001';
  beforeEach(async () => {
    epoch = await setUp(context);
    sum = sumOf(epoch);
  });
  const mask = (changes: Partial<SumContext> = {}) =>
    site(epoch, own).mask({ ...sum, ...changes }, valuesOf(own, changes.dimension ?? sum.dimension));

  const lies: [string, Partial<SumContext>][] = [
    ['names fewer members than the threshold', { members: ['bank-001', 'bank-002'] }],
    ['leaves the site out', { members: ['bank-002', 'bank-003', 'bank-004'] }],
    ['names a member twice', { members: ['bank-001', 'bank-002', 'bank-002', 'bank-003'] }],
    ['invents a member', { members: ['bank-001', 'bank-002', 'bank-003', 'bank-009'] }],
    ['changes the order of members', { members: ['bank-002', 'bank-001', 'bank-003', 'bank-004'] }],
    ['asks for a slot that is not there', { slot: 2 }],
    ['asks for a slot below zero', { slot: -1 }],
    ['asks for a ring of 8 bits', { bits: 8 }],
    ['asks for a ring of 33 bits', { bits: 33 }],
    ['asks for no coordinates', { dimension: 0 }],
    ['asks for a million and more coordinates', { dimension: (1 << 20) + 1 }],
    ['gives a short state hash', { stateHash: new Uint8Array(31) }],
  ];
  test.each(lies)('%s', (_, changes) => {
    refuses('SECAGG_CONTEXT', () => mask(changes));
    mask();
  });

  test('names a member that gave this site no shares', async () => {
    const names = ['bank-001', 'bank-002', 'bank-003', 'bank-004'];
    const short = await setUp(context, undefined, ['bank-004']);
    refuses('SECAGG_CONTEXT', () => site(short, own).mask(sumOf(short, { members: names }), valuesOf(own, 5)));
  });

  test.each<[string, Partial<SumContext>]>([
    ['another round', { round: 2 }],
    ['another attempt', { attempt: 1 }],
    ['another model', { stateHash: new Uint8Array(32).fill(8) }],
    ['other members', { members: ['bank-001', 'bank-002', 'bank-003'] }],
    ['another ring', { bits: 20 }],
    ['another dimension', { dimension: 4 }],
  ])('uses a slot for %s', (_, changes) => {
    const before = mask();
    refuses('SECAGG_CONTEXT', () => mask(changes));
    expect(mask()).toEqual(before);
  });

  test('makes a site mask another vector in the slot', () => {
    mask();
    refuses('SECAGG_CONTEXT', () => site(epoch, own).mask(sum, new Float64Array(sum.dimension)));
  });

  test('asks for a vector of a round whose sum is open, with fresh masks', () => {
    openAll();
    refuses('SECAGG_CONTEXT', () => mask({ attempt: 1, slot: 1 }));
    refuses('SECAGG_CONTEXT', () => mask());
  });

  const openAll = () => {
    for (const name of sum.members) site(epoch, name).mask(sum, valuesOf(name, sum.dimension));
    const agreements = sum.members.map((name) => ({
      site: name,
      agreement: site(epoch, name).agree(sum, sum.members, 3),
    }));
    return { agreements, reveal: site(epoch, own).reveal(sum, agreements) };
  };

  describe('about the survivors', () => {
    const three = ['bank-001', 'bank-002', 'bank-003'];
    test.each<[string, SecaggErrorCode, string[]]>([
      ['leaves the site out', 'SECAGG_CONTEXT', ['bank-002', 'bank-003', 'bank-004']],
      ['names too few', 'SECAGG_THRESHOLD', ['bank-001', 'bank-002']],
      ['names a site that is not a member', 'SECAGG_CONTEXT', ['bank-001', 'bank-002', 'bank-009']],
      ['names one twice', 'SECAGG_CONTEXT', ['bank-001', 'bank-002', 'bank-002']],
      ['changes the order', 'SECAGG_CONTEXT', ['bank-001', 'bank-003', 'bank-002']],
    ])('%s', (_, code, survivors) => {
      mask();
      refuses(code, () => site(epoch, own).agree(sum, survivors, 3));
      expect(site(epoch, own).agree(sum, three, 3)).toHaveLength(32);
    });

    test('stays below the quorum of the site', () => {
      mask();
      refuses('SECAGG_THRESHOLD', () => site(epoch, own).agree(sum, three, 4));
    });

    test('tells a second list', () => {
      mask();
      const first = site(epoch, own).agree(sum, sum.members, 3);
      refuses('SECAGG_AGREEMENT', () => site(epoch, own).agree(sum, three, 3));
      expect(site(epoch, own).agree({ ...sum, logHead: new Uint8Array(32).fill(1) }, sum.members, 3)).toBe(first);
    });

    test('asks before the site has masked anything', () => {
      refuses('SECAGG_CONTEXT', () => site(epoch, own).agree(sum, sum.members, 3));
    });

    test('tells two sites of different survivors: neither opens anything', () => {
      for (const name of sum.members) site(epoch, name).mask(sum, valuesOf(name, sum.dimension));
      const told: [string, string[]][] = [
        ['bank-001', sum.members.slice()],
        ['bank-002', sum.members.slice()],
        ['bank-003', ['bank-001', 'bank-003', 'bank-004']],
        ['bank-004', ['bank-001', 'bank-003', 'bank-004']],
      ];
      const agreements = told.map(([name, survivors]) => ({
        site: name,
        agreement: site(epoch, name).agree(sum, survivors, 3),
      }));
      for (const [name] of told) {
        refuses('SECAGG_AGREEMENT', () => site(epoch, name).reveal(sum, agreements));
        const alike = agreements.filter(({ agreement }) =>
          Buffer.from(agreement).equals(agreements.find((entry) => entry.site === name)!.agreement),
        );
        refuses('SECAGG_AGREEMENT', () => site(epoch, name).reveal(sum, alike));
      }
    });

    test.each<[string, Partial<SumContext>]>([
      ['model', { stateHash: new Uint8Array(32).fill(8) }],
      ['log', { logHead: new Uint8Array(32).fill(8) }],
      ['ring', { bits: 30 }],
      ['round', { round: 2 }],
    ])('shows one site another %s: the agreements differ', (_, changes) => {
      const agreements = sum.members.map((name) => {
        const told = name === 'bank-002' ? { ...sum, ...changes } : sum;
        site(epoch, name).mask(told, valuesOf(name, sum.dimension));
        return { site: name, agreement: site(epoch, name).agree(told, sum.members, 3) };
      });
      refuses('SECAGG_AGREEMENT', () => site(epoch, own).reveal(sum, agreements));
      // The two lists that are told apart by nothing but this site cannot both have the threshold's size.
      refuses('SECAGG_AGREEMENT', () => site(epoch, 'bank-002').reveal({ ...sum, ...changes }, agreements.slice(1, 2)));
    });
  });

  describe('about the agreements', () => {
    let agreements: { site: string; agreement: Uint8Array }[];
    beforeEach(() => {
      for (const name of sum.members) site(epoch, name).mask(sum, valuesOf(name, sum.dimension));
      const survivors = ['bank-001', 'bank-002', 'bank-003'];
      agreements = survivors.map((name) => ({ site: name, agreement: site(epoch, name).agree(sum, survivors, 3) }));
    });

    const forged = new Uint8Array(32).fill(1);
    test.each<[string, (all: typeof agreements) => typeof agreements]>([
      ['gives too few', (all) => all.slice(0, 2)],
      ['gives none', () => []],
      ['gives one twice', ([first, second]) => [first, second, second]],
      ['adds one of them again', (all) => [...all, all[2]]],
      ['forges one', ([first, second, third]) => [first, second, { ...third, agreement: forged }]],
      ['adds a forged one to enough true ones', (all) => [...all, { site: 'bank-004', agreement: all[0].agreement }]],
      ['names a stranger', ([first, second, third]) => [first, second, { ...third, site: 'bank-009' }]],
      ['alters the own one', ([first, ...rest]) => [{ ...first, agreement: forged }, ...rest]],
    ])('%s', (_, lie) => {
      refuses('SECAGG_AGREEMENT', () => site(epoch, own).reveal(sum, lie(agreements)));
      expect(site(epoch, own).reveal(sum, agreements).selfShares).toHaveLength(3);
    });

    test('asks a site that has not agreed', () => {
      refuses('SECAGG_AGREEMENT', () => site(epoch, 'bank-004').reveal(sum, agreements));
    });

    test('shows agreements on all members to a site that agreed on fewer, or the other way round', () => {
      const onAll = ['bank-002', 'bank-003', 'bank-004'].map((name) => ({
        site: name,
        agreement: agreementHash(sumHash(epoch.context, epoch.listHash, sum), sum.members, sum.logHead),
      }));
      refuses('SECAGG_AGREEMENT', () => site(epoch, own).reveal(sum, onAll));
      refuses('SECAGG_AGREEMENT', () => site(epoch, own).agreeOnAll(sum));
      // Who agreed on nothing else opens for all, once and for that only.
      const opened = site(epoch, 'bank-004').reveal(sum, onAll);
      expect(opened.keyShares).toEqual([]);
      expect(opened.selfShares).toHaveLength(4);
      refuses('SECAGG_AGREEMENT', () => site(epoch, 'bank-004').agree(sum, ['bank-001', 'bank-002', 'bank-004'], 3));
      refuses('SECAGG_AGREEMENT', () => site(epoch, 'bank-004').reveal(sum, agreements));
    });

    test('asks twice, and for another sum: the same shares, or none', () => {
      const once = site(epoch, own).reveal(sum, agreements);
      expect(site(epoch, own).reveal(sum, agreements)).toEqual(once);
      expect(once.selfShares.map((opened) => opened.site)).toEqual(['bank-001', 'bank-002', 'bank-003']);
      expect(once.keyShares.map((opened) => opened.site)).toEqual(['bank-004']);
      refuses('SECAGG_CONTEXT', () => site(epoch, own).reveal({ ...sum, attempt: 1 }, agreements));
    });

    test('claims afterwards that a survivor dropped out', () => {
      site(epoch, own).reveal(sum, agreements);
      refuses('SECAGG_THRESHOLD', () => site(epoch, own).agree(sum, ['bank-001', 'bank-002'], 2));
      refuses('SECAGG_AGREEMENT', () => site(epoch, own).agree(sum, ['bank-001', 'bank-003', 'bank-004'], 3));
    });
  });
});
