/** What wrong, early, late and repeated messages of secure aggregation get in each phase: a stable code, and no effect. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Aggregator } from '../../federated/aggregator/server.ts';
import { abortPlan, planStatus, proposePlan } from '../../federated/protocol/client.ts';
import { encodeHistogram } from '../../federated/protocol/histogram.ts';
import { type Connection, connect } from '../../federated/protocol/transport.ts';
import { NO_WEIGHTS, stateHash } from '../../federated/protocol/weights.ts';
import { type Advertisement, keyListHash } from '../../federated/secagg/epoch.ts';
import type { SumContext } from '../../federated/secagg/sum.ts';
import { canonicalHash } from '../../src/canonical.ts';
import { courseFor } from '../../src/learning/course.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, makeConsortium, operatorParty, siteParty, startTestAggregator, until } from './consortium.ts';
import { HandDrivenSite } from './handDriven.ts';
import { sumPlan } from './maskedPlan.ts';

const postgres = usePostgres();
const consortium = makeConsortium(4, 3);
const { roster, operator } = consortium;
const plan = sumPlan(consortium, 1, { id: 'hostile', rounds: 2, roundDeadlineMs: 60_000 });
const course = courseFor(plan, contract);
const dimension = course.dimension(1);
const slots = plan.rounds + 4;
let aggregator: Aggregator;
let connection: Connection;
let sites: HandDrivenSite[];
let keys: Advertisement[];
let sum: SumContext;

const status = async () => planStatus({ roster, key: operator, url: aggregator.url, planId: plan.id });
const phase = async () => (await status()).phase;
/** Counts and inputs are this site's number everywhere. */
const values = (site: number, length = dimension) => new Float64Array(length).fill(site);

beforeAll(async () => {
  aggregator = await startTestAggregator(consortium, await postgres.freshDatabase());
  connection = connect(roster, aggregator.url, consortium.operator);
  sites = [0, 1, 2, 3].map((index) => new HandDrivenSite(siteParty(consortium, index), plan, connection));
  await proposePlan({ roster, operatorKey: operator, plan, contract, url: aggregator.url });
  for (const site of sites) expect(await site.say('answer', { accepted: true })).toBe('stored');
  await until(async () => (await status()).state === 'counting');
  for (const [at, site] of sites.entries()) {
    const histogram = { dimension, values: encodeHistogram(values(100 + at)), releaseId: 'counts' };
    const outcome = { case: 'histogram', value: histogram };
    expect(await site.say('update', { round: 0, stateHash: stateHash(NO_WEIGHTS), outcome })).toBe('stored');
  }
  await until(async () => (await phase()) === 'keys');
});

afterAll(async () => {
  connection.close();
  await aggregator.stop();
});

/** The same bytes again are the same; others under the same or another id are a replay. */
async function takenOnce(
  site: HandDrivenSite,
  kind: 'keys' | 'shares' | 'agreement' | 'reveal' | 'update',
  body: object,
) {
  const first = site.seal(kind, body);
  expect(await site.send(kind, first)).toBe('stored');
  expect(await site.send(kind, first)).toBe('stored');
  expect(await site.say(kind, body)).toBe('MESSAGE_REPLAYED');
}

/** Of a message that does not exist yet or any more. */
const early = {
  shares: () => ({ epoch: 1, listHash: new Uint8Array(32), shares: [] }),
  agreement: () => ({ round: 1, attempt: 0, agreement: new Uint8Array(32) }),
  reveal: () => ({ round: 1, attempt: 0, selfShares: [], keyShares: [] }),
};

describe('in the phase of', () => {
  test('keys: wrong keys, and everything that comes too early, is refused', async () => {
    const [first, second] = sites;
    const made = first.makeKeys(1, slots);
    const good = first.keysBody(1, made);
    const twice = new Uint8Array(good.maskKeys);
    twice.set(twice.subarray(0, 32), 32);
    const lowOrder = new Uint8Array(good.maskKeys).fill(0, 0, 32);
    const cases: [object, string][] = [
      [{ ...good, epoch: 2 }, 'EPOCH_UNKNOWN'],
      [{ ...good, epoch: 4_000_000_000 }, 'EPOCH_UNKNOWN'],
      [{ ...good, planHash: '0'.repeat(64) }, 'ROUND_MISMATCH'],
      [{ ...good, planId: 'nowhere' }, 'PLAN_UNKNOWN'],
      [{ ...good, maskKeys: good.maskKeys.subarray(32) }, 'MESSAGE_MALFORMED'],
      [{ ...good, maskKeys: twice }, 'MESSAGE_MALFORMED'],
      [{ ...good, maskKeys: lowOrder }, 'MESSAGE_MALFORMED'],
      [{ ...good, channelKey: new Uint8Array(32).fill(255) }, 'MESSAGE_MALFORMED'],
      [{ ...good, incarnation: '' }, 'MESSAGE_MALFORMED'],
    ];
    for (const [body, code] of cases) expect(await first.say('keys', body)).toBe(code);
    await takenOnce(first, 'keys', good);
    // Another site's keys are not one's own.
    expect(await second.say('keys', { ...good, incarnation: 'thief' })).toBe('MESSAGE_MALFORMED');
    for (const kind of ['shares', 'agreement', 'reveal'] as const) {
      expect(await first.say(kind, early[kind]())).toBe('ROUND_MISMATCH');
    }
    expect(await first.say('update', { round: 1, attempt: 0, stateHash: new Uint8Array(32) })).toBe('ROUND_MISMATCH');
    keys = [made];
    for (const site of sites.slice(1)) {
      const advertisement = site.makeKeys(1, slots);
      expect(await site.say('keys', site.keysBody(1, advertisement))).toBe('stored');
      keys.push(advertisement);
    }
    await until(async () => (await phase()) === 'shares');
  });

  test('shares: those for another list, other sites or nobody are refused', async () => {
    const [first] = sites;
    expect(await first.say('keys', first.keysBody(1, keys[0]))).toBe('MESSAGE_REPLAYED');
    const sealed = await Promise.all(sites.map((site) => site.sealShares(keys)));
    const good = { epoch: 1, ...sealed[0] };
    const { threshold, quorum: minimum } = plan;
    const rosterHash = new Uint8Array(Buffer.from(first.party.rosterHash, 'hex'));
    const context = { rosterHash, planHash: course.planHash, epoch: 1, threshold, minimum, slots };
    const otherList = keyListHash(keys.slice(1), { ...context, roster: roster.sites.map(({ id }) => id) });
    const cases: [object, string][] = [
      [{ ...good, listHash: otherList }, 'ROUND_MISMATCH'],
      [{ ...good, shares: good.shares.slice(1) }, 'MESSAGE_MALFORMED'],
      [{ ...good, shares: [...good.shares.slice(1), good.shares[1]] }, 'MESSAGE_MALFORMED'],
      [
        { ...good, shares: good.shares.map((share, at) => (at ? share : { ...share, site: 'bank-9' })) },
        'MESSAGE_MALFORMED',
      ],
      [
        { ...good, shares: good.shares.map((share, at) => (at ? share : { ...share, site: 'bank-1' })) },
        'MESSAGE_MALFORMED',
      ],
      [{ ...good, shares: good.shares.map((share) => ({ ...share, sealed: new Uint8Array() })) }, 'MESSAGE_MALFORMED'],
      [{ ...good, epoch: 0 }, 'EPOCH_UNKNOWN'],
    ];
    for (const [body, code] of cases) expect(await first.say('shares', body)).toBe(code);
    await takenOnce(first, 'shares', good);
    for (const [at, site] of sites.entries()) {
      if (at > 0) expect(await site.say('shares', { epoch: 1, ...sealed[at] })).toBe('stored');
    }
    await until(async () => (await phase()) === 'inputs');
    for (const [at, site] of sites.entries()) {
      const delivered = sealed.flatMap(({ shares }, from) =>
        shares
          .filter((share) => share.site === site.id)
          .map((share) => ({ site: sites[from].id, sealed: share.sealed })),
      );
      expect(delivered).toHaveLength(sites.length - 1);
      sites[at].accept(delivered);
    }
  });

  test('inputs: another epoch, slot, ring, dimension, attempt or round is refused', async () => {
    const [first] = sites;
    const counts = sites.reduce((total, _, at) => total.map((value) => value + 100 + at), new Float64Array(dimension));
    const state = course.nextState(course.firstState(), 0, counts, null, 4);
    sum = {
      ...{ round: 1, attempt: 0, slot: 0, stateHash: stateHash(course.weights(1, state)) },
      ...{ members: sites.map(({ id }) => id), dimension, bits: plan.ringBits, logHead: new Uint8Array(32) },
    };
    const base = { round: 1, attempt: 0, stateHash: sum.stateHash };
    const packed = (site: number) => {
      const bytes = sites[site].mask(sum, values(site + 1));
      return { dimension, bits: plan.ringBits, values: bytes, epoch: 1, slot: 0, releaseId: 'r' };
    };
    const good = packed(0);
    const masked = (value: object) => ({ ...base, outcome: { case: 'masked', value: { ...good, ...value } } });
    const histogram = { dimension, values: encodeHistogram(values(1)), releaseId: 'r' };
    const cases: [object, string][] = [
      [masked({ dimension: dimension + 1 }), 'MESSAGE_MALFORMED'],
      [masked({ bits: 20 }), 'MESSAGE_MALFORMED'],
      [masked({ values: good.values.subarray(1) }), 'MESSAGE_MALFORMED'],
      [masked({ epoch: 2 }), 'EPOCH_UNKNOWN'],
      [masked({ slot: 1 }), 'ROUND_MISMATCH'],
      [{ ...masked({}), attempt: 1 }, 'ROUND_MISMATCH'],
      [{ ...masked({}), attempt: 4_000_000_000 }, 'ROUND_MISMATCH'],
      [{ ...masked({}), round: 2 }, 'ROUND_MISMATCH'],
      [{ ...masked({}), stateHash: new Uint8Array(32) }, 'ROUND_MISMATCH'],
      // A plain vector would be one bank's own.
      [{ ...base, outcome: { case: 'histogram', value: histogram } }, 'MESSAGE_MALFORMED'],
      [base, 'MESSAGE_MALFORMED'],
    ];
    for (const [body, code] of cases) expect(await first.say('update', body)).toBe(code);
    expect(await first.say('agreement', early.agreement())).toBe('ROUND_MISMATCH');
    expect(await first.say('reveal', early.reveal())).toBe('ROUND_MISMATCH');
    expect(await first.say('shares', { ...early.shares() })).toBe('MESSAGE_REPLAYED');
    await takenOnce(first, 'update', masked({}));
    for (const at of [1, 2]) {
      const outcome = { case: 'masked', value: packed(at) };
      expect(await sites[at].say('update', { ...base, outcome })).toBe('stored');
    }
    expect(await status()).toMatchObject({ phase: 'inputs', contributions: 3, attempt: 0 });
    const refusal = { case: 'refusal', value: { code: 'BUDGET_EXHAUSTED', reason: 'Nothing left.' } };
    expect(await sites[3].say('update', { ...base, outcome: refusal })).toBe('stored');
    await until(async () => (await phase()) === 'agreement');
    expect(await sites[3].say('update', { ...base, outcome: { case: 'masked', value: packed(3) } })).toBe(
      'MESSAGE_REPLAYED',
    );
  });

  test('agreement: a second one, one of a site that is not in the sum, and lone ones change nothing', async () => {
    const survivors = sites.slice(0, 3).map(({ id }) => id);
    const [first, second, third, missing] = sites;
    const agreement = first.agree(sum, survivors);
    const body = { round: 1, attempt: 0, agreement };
    expect(await missing.say('agreement', body)).toBe('ROUND_MISMATCH');
    expect(await first.say('agreement', { ...body, agreement: agreement.subarray(1) })).toBe('MESSAGE_MALFORMED');
    expect(await first.say('agreement', { ...body, attempt: 1 })).toBe('ROUND_MISMATCH');
    expect(await first.say('reveal', early.reveal())).toBe('ROUND_MISMATCH');
    await takenOnce(first, 'agreement', body);
    expect(await first.say('agreement', { ...body, agreement: new Uint8Array(32) })).toBe('MESSAGE_REPLAYED');
    expect(await second.say('agreement', { ...body, agreement: second.agree(sum, survivors) })).toBe('stored');
    expect(await phase()).toBe('agreement');
    expect(await third.say('agreement', { ...body, agreement: third.agree(sum, survivors) })).toBe('stored');
    await until(async () => (await phase()) === 'reveal');
  });

  test('reveal: shares of the wrong kind, too many, too few or of strangers are refused; then the sum is exact', async () => {
    const survivors = sites.slice(0, 3);
    const agreement = sites[0].agree(
      sum,
      survivors.map(({ id }) => id),
    );
    const agreements = survivors.map(({ id: site }) => ({ site, agreement }));
    const opened = survivors.map((site) => site.reveal(sum, agreements));
    const good = { round: 1, attempt: 0, ...opened[0] };
    const [self] = good.selfShares;
    const cases: [object, string][] = [
      // Both of one site would open its input.
      [{ ...good, keyShares: [...good.keyShares, self] }, 'MESSAGE_MALFORMED'],
      [{ ...good, selfShares: good.selfShares.slice(1) }, 'MESSAGE_MALFORMED'],
      [{ ...good, selfShares: good.keyShares, keyShares: good.selfShares }, 'MESSAGE_MALFORMED'],
      [{ ...good, keyShares: [{ site: 'bank-9', share: self.share }] }, 'MESSAGE_MALFORMED'],
      [
        { ...good, selfShares: good.selfShares.map(({ site }) => ({ site, share: new Uint8Array(8) })) },
        'MESSAGE_MALFORMED',
      ],
      [{ ...good, attempt: 1 }, 'ROUND_MISMATCH'],
    ];
    for (const [body, code] of cases) expect(await sites[0].say('reveal', body)).toBe(code);
    expect(await sites[3].say('reveal', good)).toBe('ROUND_MISMATCH');
    await takenOnce(sites[0], 'reveal', good);
    expect(await sites[1].say('reveal', { ...good, ...opened[1] })).toBe('stored');
    expect(await phase()).toBe('reveal');
    const last = sites[2].seal('reveal', { ...good, ...opened[2] });
    expect(await sites[2].send('reveal', last)).toBe('stored');
    await until(async () => (await status()).round === 2);
    // The reply was lost: the same again is still the same, and nothing else comes in any more.
    expect(await sites[2].send('reveal', last)).toBe('stored');
    expect(await sites[1].say('reveal', { ...good, ...opened[1] })).toBe('MESSAGE_REPLAYED');
    expect(await sites[3].say('agreement', { round: 1, attempt: 0, agreement })).toBe('ROUND_CLOSED');
    // Round 2 starts from the model of the exact sum 1 + 2 + 3 over the counts of the same three.
    const counts = values(100 + 101 + 102);
    const first = course.nextState(course.firstState(), 0, values(100 + 101 + 102 + 103), null, 4);
    const state = course.nextState(first, 1, values(6), counts, 3);
    const wrong = { round: 2, attempt: 0, stateHash: new Uint8Array(32), outcome: { case: undefined } };
    expect(await sites[0].say('update', wrong)).toBe('ROUND_MISMATCH');
    const right = { ...wrong, stateHash: stateHash(course.weights(2, state)) };
    expect(await sites[0].say('update', right)).toBe('MESSAGE_MALFORMED');
    expect(canonicalHash(JSON.parse(state))).not.toBe(canonicalHash(JSON.parse(first)));
  });

  test('any: the operator ends the plan at once and for ever, and nobody else can', async () => {
    const named = { roster, url: aggregator.url, planId: plan.id };
    const forged = siteParty(consortium, 0).seal('abort', 'a', {
      planId: plan.id,
      planHash: course.planHash,
      reason: '',
    });
    await expect(connection.federation.abort(forged)).rejects.toThrow();
    const wrong = operatorParty(consortium).seal('abort', 'b', {
      planId: plan.id,
      planHash: 'f'.repeat(64),
      reason: '',
    });
    await expect(connection.federation.abort(wrong)).rejects.toThrow();
    expect((await status()).state).toBe('training');
    for (let time = 0; time < 2; time++) {
      expect(await abortPlan({ ...named, key: operator, reason: 'We\u0007stop.' })).toEqual({ state: 'aborted' });
    }
    expect(await status()).toMatchObject({ state: 'aborted', code: 'OPERATOR_ABORT', reason: 'We stop.', phase: '' });
    const late = { round: 2, attempt: 0, stateHash: new Uint8Array(32), outcome: { case: undefined } };
    expect(await sites[0].say('update', late)).toBe('ROUND_CLOSED');
  });
});
