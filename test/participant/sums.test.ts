/**
 * The steps of secure aggregation at a bank, task by task: an honest aggregator gets the exact sum, and each of its lies gets
 * nothing that opens anything.
 */
import { create } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, test } from '@jest/globals';
import {
  type AgreementTask,
  AgreementTaskSchema,
  EpochTaskSchema,
  KeysTaskSchema,
  RevealTaskSchema,
  type RoundTask,
  RoundTaskSchema,
  SharesTaskSchema,
  type SignedEnvelope,
} from '../../federated/protocol/generated/veilrisk_pb.js';
import type { Connection } from '../../federated/protocol/transport.ts';
import { encodeWeights, stateHash } from '../../federated/protocol/weights.ts';
import { SumAggregator } from '../../federated/secagg/aggregator.ts';
import type { EpochContext } from '../../federated/secagg/epoch.ts';
import type { SumContext } from '../../federated/secagg/sum.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { courseFor } from '../../src/learning/course.ts';
import { type TrainingPlan, thresholdOf } from '../../src/learning/plan.ts';
import { planKnownAs, type Session } from '../../src/participant/session.ts';
import { acceptShares, agree, makeKeys, reveal, sealShares } from '../../src/participant/sumTasks.ts';
import { doRound } from '../../src/participant/tasks.ts';
import { systemRandom } from '../../src/random.ts';
import {
  aggregatorParty,
  contract,
  MemoryBank,
  makeConsortium,
  makePlan,
  quiet,
  siteParty,
} from '../federated/consortium.ts';

const SITES = 4;
const consortium = makeConsortium(SITES, 3);
const aggregator = aggregatorParty(consortium);
const names = consortium.sites.map(({ id }) => id);
const summed: TrainingPlan = makePlan(consortium, {
  ...{ mode: 'sum', quorum: 3, dropouts: 1, colluders: 1, threshold: thresholdOf(SITES, 'lying') },
  ...{ ringBits: 32, ringShift: 4 },
});
const course = courseFor(summed, contract);
const { planHash } = course;
const named = { planId: summed.id, planHash };
const flat = new Float64Array(layoutOf(contract).total);
const state = stateHash({ intercept: 0, flat });

interface Site {
  session: Session;
  bank: MemoryBank;
  /** Kind -> what the site sent last. */
  sent: Map<string, SignedEnvelope>;
}

let sites: Site[];

/** A site whose calls are kept and answered, as by an aggregator that stored them. */
function openSite(index: number, bank = new MemoryBank(index + 1)): Site {
  const sent = new Map<string, SignedEnvelope>();
  const answer = (kind: 'stored' | 'received') => async (envelope: SignedEnvelope) => {
    sent.set(envelope.kind, envelope);
    return aggregator.seal(kind, envelope.messageId, { planId: summed.id });
  };
  const federation = {
    ...{ advertiseKeys: answer('stored'), submitShares: answer('stored'), agree: answer('stored') },
    ...{ reveal: answer('stored'), submit: answer('received') },
  };
  const session: Session = {
    // Safe: the tasks under test make no other call.
    connection: { federation, close() {} } as unknown as Connection,
    ...{ party: siteParty(consortium, index), port: bank, log: quiet, plans: new Map() },
    ...{ random: systemRandom(), incarnation: 'a process', cosigned: { size: 0, sent: 0 } },
  };
  session.plans.set(summed.id, planKnownAs(session, course));
  return { session, bank, sent };
}

beforeEach(() => {
  sites = names.map((_, index) => openSite(index));
});

function opened<K extends 'keys' | 'shares' | 'update' | 'agreement' | 'reveal'>(site: Site, kind: K) {
  return aggregator.open(kind, site.sent.get(kind)!).message;
}

const sentBy = (kind: string) => sites.map(({ sent }) => sent.get(kind)!);

async function setUp(epoch = 1, slots = 4): Promise<void> {
  for (const { session } of sites) await makeKeys(session, create(KeysTaskSchema, { ...named, epoch, slots }));
  const keys = sentBy('keys');
  for (const { session } of sites) await sealShares(session, create(SharesTaskSchema, { ...named, epoch, keys }));
  for (const [index, { session }] of sites.entries()) await acceptShares(session, delivered(index, epoch));
}

function delivered(index: number, epoch: number) {
  const shares = sites.flatMap((from, at) =>
    at === index ? [] : [{ site: names[at], sealed: sealedFor(from, names[index]) }],
  );
  return create(EpochTaskSchema, { ...named, epoch, shares });
}

const sealedFor = (from: Site, to: string) => opened(from, 'shares').shares.find(({ site }) => site === to)!.sealed;

interface RoundChanges {
  round?: number;
  attempt?: number;
  sum?: { epoch?: number; slot?: number; members?: string[]; bits?: number } | null;
}

function roundTask({ round = 1, attempt = 1, sum = {} }: RoundChanges = {}): RoundTask {
  const masked = sum === null ? {} : { sum: { epoch: 1, slot: 0, members: names, bits: summed.ringBits, ...sum } };
  const weights = encodeWeights(flat);
  return create(RoundTaskSchema, { ...named, round, attempt, weights, intercept: 0, stateHash: state, ...masked });
}

const agreementTask = (changes: Partial<Pick<AgreementTask, 'survivors' | 'round' | 'attempt'>> = {}) =>
  create(AgreementTaskSchema, { ...named, round: 1, attempt: 1, survivors: names.slice(0, 3), ...changes });

const revealTask = (agreements: SignedEnvelope[], attempt = 1) =>
  create(RevealTaskSchema, { ...named, round: 1, attempt, agreements });

/** Up to the agreement of the first three. */
async function agreed(): Promise<SignedEnvelope[]> {
  await setUp();
  for (const { session } of sites) await doRound(session, roundTask(), undefined);
  for (const { session } of sites.slice(0, 3)) await agree(session, agreementTask());
  return sentBy('agreement').slice(0, 3);
}

test('an honest aggregator unmasks the sum of the survivors, and nothing else left a site', async () => {
  const agreements = await agreed();
  for (const { session } of sites.slice(0, 3)) await reveal(session, revealTask(agreements));

  const context: EpochContext = {
    ...{ planHash, epoch: 1, threshold: summed.threshold, minimum: 3, slots: 4, roster: names },
    rosterHash: new Uint8Array(Buffer.from(aggregator.rosterHash, 'hex')),
  };
  const keys = sites.map((site, at) => {
    const { channelKey, maskKeys } = opened(site, 'keys');
    return { site: names[at], channelKey, maskKeys };
  });
  const sum: SumContext = {
    ...{ round: 1, attempt: 1, slot: 0, stateHash: state, members: names, logHead: new Uint8Array(32) },
    ...{ dimension: course.dimension(1), bits: 32 },
  };
  const server = new SumAggregator(context, keys, sum);
  const exact = new Float64Array(course.dimension(1));
  for (const [at, site] of sites.slice(0, 3).entries()) {
    const update = opened(site, 'update');
    expect(update).toMatchObject({ round: 1, attempt: 1, outcome: { case: 'masked', value: { epoch: 1, slot: 0 } } });
    expect(site.sent.get('update')?.messageId).toBe(`update/${planHash}/1/1`);
    if (update.outcome.case === 'masked') server.input(names[at], update.outcome.value.values);
    const { histogram } = await site.bank.release({ ...released, round: 1, attempt: 1 });
    histogram.forEach((value, i) => {
      exact[i] += value;
    });
  }
  server.closeInputs(3);
  for (const [at, site] of sites.slice(0, 3).entries()) {
    server.agreement(names[at], opened(site, 'agreement').agreement);
  }
  for (const [at, site] of sites.slice(0, 3).entries()) server.reveal(names[at], opened(site, 'reveal'));
  expect(await server.unmask()).toEqual(exact);
  expect(sites[0].bank.revealed.size).toBe(1);
});

const released = { plan: summed, planHash, contract, weights: { intercept: 0, flat }, model: null, stateHash: '' };

test('a repeated task gives the same message, byte for byte', async () => {
  const agreements = await agreed();
  const [{ session, sent }] = sites;
  await reveal(session, revealTask(agreements));
  const before = new Map(sent);
  await makeKeys(session, create(KeysTaskSchema, { ...named, epoch: 1, slots: 4 }));
  await sealShares(session, create(SharesTaskSchema, { ...named, epoch: 1, keys: sentBy('keys') }));
  await acceptShares(session, delivered(0, 1));
  await agree(session, agreementTask());
  await reveal(session, revealTask(agreements));
  expect(sent).toEqual(before);
});

describe('keys and shares', () => {
  test.each<[string, (keys: SignedEnvelope[]) => SignedEnvelope[]]>([
    ['signed by another site', ([a, b, ...rest]) => [a, { ...b, signer: names[2] }, ...rest]],
    [
      'changed on the way',
      ([a, b, ...rest]) => [a, { ...b, body: Uint8Array.from(b.body).fill(9, 120, 130) }, ...rest],
    ],
    ['of an aggregator', ([a, b, ...rest]) => [a, { ...b, signer: 'aggregator' }, ...rest]],
    ['twice', ([a, b]) => [a, b, b]],
    ['of too few sites', ([a, b]) => [a, b]],
    ['without the own', ([, ...others]) => others],
  ])('%s get no shares', async (_name, lie) => {
    for (const { session } of sites) await makeKeys(session, create(KeysTaskSchema, { ...named, epoch: 1, slots: 4 }));
    const [{ session, sent }] = sites;
    await sealShares(session, create(SharesTaskSchema, { ...named, epoch: 1, keys: lie(sentBy('keys')) }));
    expect(sent.has('shares')).toBe(false);
  });

  test('of another epoch get no shares, and an epoch before the newest no keys', async () => {
    await setUp(2);
    const old = sentBy('keys');
    for (const { session } of sites) await makeKeys(session, create(KeysTaskSchema, { ...named, epoch: 3, slots: 4 }));
    const [{ session, sent }] = sites;
    sent.delete('shares');
    await sealShares(
      session,
      create(SharesTaskSchema, { ...named, epoch: 3, keys: [sentBy('keys')[0], ...old.slice(1)] }),
    );
    expect(sent.has('shares')).toBe(false);
    const before = sent.get('keys');
    for (const [epoch, slots] of [
      [1, 4],
      [3, 5],
    ]) {
      await makeKeys(session, create(KeysTaskSchema, { ...named, epoch, slots }));
    }
    expect(sent.get('keys')).toBe(before);
  });

  test('of a process that ended are gone: a round is refused without asking the bank, and the rest not answered', async () => {
    const agreements = await agreed();
    const bank = new MemoryBank(1);
    const restarted = openSite(0, bank);
    await doRound(restarted.session, roundTask(), undefined);
    expect(opened(restarted, 'update').outcome).toMatchObject({ case: 'refusal', value: { code: 'EPOCH_UNKNOWN' } });
    expect(bank.released).toEqual([]);
    await sealShares(restarted.session, create(SharesTaskSchema, { ...named, epoch: 1, keys: sentBy('keys') }));
    await acceptShares(restarted.session, delivered(0, 1));
    await agree(restarted.session, agreementTask());
    await reveal(restarted.session, revealTask(agreements));
    expect([...restarted.sent.keys()]).toEqual(['update']);
  });
});

describe('a round', () => {
  test.each<[string, RoundChanges]>([
    ['of a plan of mode sum in the clear', { sum: null }],
    ['in another ring', { sum: { bits: 16 } }],
    ['of counts, which are sent in the clear, under masks', { round: 0 }],
  ])('%s releases nothing', async (_name, changes) => {
    await setUp();
    const [{ session, bank, sent }] = sites;
    await expect(doRound(session, roundTask(changes), undefined)).rejects.toMatchObject({ code: 'ROUND_MISMATCH' });
    expect(bank.released).toEqual([]);
    expect(sent.has('update')).toBe(false);
  });

  test('of a plan of mode site is never masked', async () => {
    const [{ session, bank }] = sites;
    const plain = makePlan(consortium, { id: 'plain' });
    session.plans.set(plain.id, planKnownAs(session, courseFor(plain, contract)));
    const task = { ...roundTask(), planId: plain.id, planHash: courseFor(plain, contract).planHash };
    await expect(doRound(session, task, undefined)).rejects.toMatchObject({ code: 'ROUND_MISMATCH' });
    expect(bank.released).toEqual([]);
  });

  test.each<[string, NonNullable<RoundChanges['sum']>]>([
    ['without the site', { members: names.slice(1) }],
    ['with too few members', { members: names.slice(0, 2) }],
    ['with a member that is not in the roster', { members: [...names, 'bank-9'] }],
    ['in a slot there is not', { slot: 4 }],
  ])('%s is refused', async (_name, sum) => {
    await setUp();
    await doRound(sites[0].session, roundTask({ sum }), undefined);
    expect(opened(sites[0], 'update').outcome).toMatchObject({ case: 'refusal', value: { code: 'SECAGG_CONTEXT' } });
  });

  test('and a slot are used once', async () => {
    await setUp();
    const [{ session }] = sites;
    const codeOf = async (changes: RoundChanges) => {
      await doRound(session, roundTask(changes), undefined);
      const { outcome } = opened(sites[0], 'update');
      return outcome.case === 'refusal' ? outcome.value.code : outcome.case;
    };
    expect(await codeOf({})).toBe('masked');
    // The same slot for another attempt, another round, other members.
    expect(await codeOf({ attempt: 2 })).toBe('SECAGG_CONTEXT');
    expect(await codeOf({ round: 2 })).toBe('SECAGG_CONTEXT');
    expect(await codeOf({ sum: { members: names.slice(0, 3) } })).toBe('SECAGG_CONTEXT');
    await expect(codeOf({ sum: { slot: 1 } })).rejects.toMatchObject({ code: 'ROUND_MISMATCH' });
    // Another attempt in another slot has fresh masks of the same numbers.
    const first = sites[0].sent.get('update');
    expect(await codeOf({ attempt: 2, sum: { slot: 1 } })).toBe('masked');
    expect(sites[0].sent.get('update')?.body).not.toEqual(first?.body);
  });
});

describe('an agreement', () => {
  test.each<[string, Parameters<typeof agreementTask>[0]]>([
    ['on fewer survivors than the quorum', { survivors: names.slice(0, 2) }],
    ['without the site', { survivors: names.slice(1) }],
    ['on sites that are not members', { survivors: [...names.slice(0, 3), 'bank-9'] }],
    ['in another order', { survivors: [names[1], names[0], names[2]] }],
    ['on an attempt the site did not mask for', { attempt: 2 }],
    ['on another round', { round: 2 }],
  ])('%s is not made', async (_name, changes) => {
    await setUp();
    for (const { session } of sites) await doRound(session, roundTask(), undefined);
    await agree(sites[0].session, agreementTask(changes));
    expect(sites[0].sent.has('agreement')).toBe(false);
  });

  test('on other survivors of the same sum is not made', async () => {
    await agreed();
    const before = sites[0].sent.get('agreement');
    await agree(sites[0].session, agreementTask({ survivors: names }));
    expect(sites[0].sent.get('agreement')).toBe(before);
  });
});

describe('a reveal', () => {
  test.each<[string, (agreements: SignedEnvelope[]) => SignedEnvelope[]]>([
    ['with too few agreements', ([a, b]) => [a, b].slice(0, 1)],
    ['with one agreement twice', ([a, b]) => [a, b, b]],
    ['with an agreement signed by another', ([a, b, c]) => [a, b, { ...c, signer: names[3] }]],
    ['with an agreement under another id', ([a, b, c]) => [a, b, { ...c, messageId: `${c.messageId}1` }]],
  ])('%s opens nothing and notes nothing', async (_name, lie) => {
    const agreements = await agreed();
    await reveal(sites[0].session, revealTask(lie(agreements)));
    expect(sites[0].sent.has('reveal')).toBe(false);
    expect(sites[0].bank.revealed.size).toBe(0);
  });

  test('with an agreement of a survivor on something else opens nothing', async () => {
    const agreements = await agreed();
    const other = siteParty(consortium, 2).seal('agreement', `agreement/${planHash}/1/1`, {
      ...{ ...named, round: 1, attempt: 1, agreement: new Uint8Array(32) },
    });
    await reveal(sites[0].session, revealTask([agreements[0], agreements[1], other]));
    expect(sites[0].sent.has('reveal')).toBe(false);
    expect(sites[0].bank.revealed.size).toBe(0);
  });

  test('of a second sum of the round opens nothing, also in another epoch and after a restart', async () => {
    const agreements = await agreed();
    await reveal(sites[0].session, revealTask(agreements));
    expect(sites[0].bank.revealed.size).toBe(1);
    // All sites were started anew; the bank's memory is that of its database.
    sites = sites.map(({ bank }, index) => openSite(index, bank));
    await setUp(2);
    const second = { attempt: 2, sum: { epoch: 2 } };
    for (const { session } of sites) await doRound(session, roundTask(second), undefined);
    const survivors = [names[0], names[1], names[3]];
    for (const at of [0, 1, 3]) await agree(sites[at].session, agreementTask({ survivors, attempt: 2 }));
    const again = [0, 1, 3].map((at) => sites[at].sent.get('agreement')!);
    for (const at of [0, 1, 3]) await reveal(sites[at].session, revealTask(again, 2));
    // The first had opened a sum before; the other two had not.
    expect([0, 1, 3].map((at) => sites[at].sent.has('reveal'))).toEqual([false, true, true]);
  });

  test('that the bank could not note does not leave, and does once it could', async () => {
    const agreements = await agreed();
    const [{ session, bank, sent }] = sites;
    const note = bank.revealing.bind(bank);
    bank.revealing = async () => {
      throw new TypeError('the database is away');
    };
    await expect(reveal(session, revealTask(agreements))).rejects.toThrow('the database is away');
    expect(sent.has('reveal')).toBe(false);
    bank.revealing = note;
    await reveal(session, revealTask(agreements));
    expect(sent.has('reveal')).toBe(true);
  });
});

test('secrets are wiped when the plan is over', async () => {
  await setUp();
  const { sums } = sites[0].session.plans.get(summed.id)!;
  const participant = sums!.participant(1);
  sums!.close();
  expect(() => participant.advertise()).toThrow('closed');
  await doRound(sites[0].session, roundTask(), undefined);
  expect(opened(sites[0], 'update').outcome).toMatchObject({ case: 'refusal', value: { code: 'EPOCH_UNKNOWN' } });
});
