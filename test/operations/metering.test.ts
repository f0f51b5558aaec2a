import { createHash, createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { binRecord } from '../../src/contract/contract.ts';
import { modelHash } from '../../src/learning/scorecard.ts';
import { limitVectors, listUsage, requestTag, usageOf, vectorTag } from '../../src/operations/metering.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { refusalLogOf } from '../../src/operations/refusals.ts';
import { scoreTransaction } from '../../src/operations/scoreTransaction.ts';
import { usePostgres } from '../support/postgres.ts';
import { auditEntries } from './audit.ts';
import { contract, openTestNode, type Record, simulated, type TestNode, trainedModel } from './node.ts';

const postgres = usePostgres();
const { records } = simulated(120, 31);
const model = trainedModel();
const otherModel = trainedModel(8);
let node: TestNode;

beforeAll(async () => {
  node = await openTestNode(await postgres.freshDatabase());
});

afterAll(async () => {
  await node?.close();
});

const score = (owner: string, transaction: Record, change: { idempotencyKey?: string; keyPrefix?: string } = {}) =>
  scoreTransaction(node, {
    caller: { owner, keyPrefix: change.keyPrefix ?? `of-${owner}` },
    requestId: 'r',
    transaction,
    idempotencyKey: change.idempotencyKey,
  });
const limit = (owner: string, vectors: number | null) => limitVectors(node, { owner, vectors, actor: 'operator' });
const entriesOf = async (type: string) =>
  (await auditEntries(node, 0, 100_000)).filter(({ body }) => body.type === type).map(({ body }) => body);

describe('before the first model', () => {
  test('there is no usage, and a limit can be set', async () => {
    expect(await usageOf(node, 'nobody')).toEqual([]);
    await limit('early', 3);
    expect(await listUsage(node)).toEqual([]);
    await adoptModel(node, { contract, model, actor: 'test' });
    expect(await listUsage(node)).toEqual([
      { owner: 'early', model: { hash: modelHash(model), status: 'champion' }, vectors: 0, limit: 3, left: 3 },
    ]);
  });
});

describe('tags', () => {
  const key = new Uint8Array(32).fill(9);
  const hash = 'ab'.repeat(32);

  test('of a vector: HMAC of label, model hash and bins, cut to 16 bytes', () => {
    const bins = [1, 0x0203, 65_535];
    const message = Buffer.concat([Buffer.from(`veilrisk/vector/v1${hash}`), Buffer.from('01000302ffff', 'hex')]);
    const whole = createHmac('sha256', key).update(message).digest();
    expect(Buffer.from(vectorTag(key, hash, bins))).toEqual(whole.subarray(0, 16));
    const others = [
      vectorTag(key, hash, [1, 0x0203, 65_534]),
      vectorTag(key, 'cd'.repeat(32), bins),
      vectorTag(new Uint8Array(32), hash, bins),
    ];
    expect(new Set([whole.subarray(0, 16), ...others].map((tag) => Buffer.from(tag).toString('hex'))).size).toBe(4);
  });

  test('of an encrypted request: SHA-256 of all its bytes, cut to 16', () => {
    const frame = new Uint8Array(1_000).fill(5);
    expect(Buffer.from(requestTag(frame))).toEqual(createHash('sha256').update(frame).digest().subarray(0, 16));
    expect(requestTag(frame.with(999, 6))).not.toEqual(requestTag(frame));
  });
});

describe('transactions in the clear', () => {
  test('equal bins count once, whatever values they came from', async () => {
    const [first] = records;
    const near = { ...first, amount: Number(first.amount) + 1e-9 };
    expect(binRecord(contract, near).bins).toEqual(binRecord(contract, first).bins);
    expect((await score('bins', first)).allowance).toEqual({ limit: 1_000_000, left: 999_999 });
    expect((await score('bins', near)).allowance.left).toBe(999_999);
    expect((await score('bins', records[1])).allowance.left).toBe(999_998);
  });

  test('keys of one name share a meter, other names do not', async () => {
    await score('shared', records[0], { keyPrefix: 'aaaaaaaa' });
    await score('shared', records[1], { keyPrefix: 'bbbbbbbb' });
    await score('alone', records[2]);
    const vectors = async (owner: string) => (await usageOf(node, owner))[0].vectors;
    expect([await vectors('shared'), await vectors('alone')]).toEqual([2, 1]);
  });

  test('a repeated request gets its stored reply at the limit too, and counts nothing', async () => {
    await limit('repeats', 1);
    const first = await score('repeats', records[0], { idempotencyKey: 'k' });
    expect(first.allowance).toEqual({ limit: 1, left: 0 });
    await expect(score('repeats', records[1], { idempotencyKey: 'l' })).rejects.toMatchObject({ code: 'VECTOR_LIMIT' });
    const again = await score('repeats', records[0], { idempotencyKey: 'k' });
    expect(again).toEqual({ ...first, replayed: true });
    // The refused request left nothing under its key.
    await limit('repeats', 2);
    expect(await score('repeats', records[2], { idempotencyKey: 'l' })).toMatchObject({ replayed: false });
  });

  test('an invalid transaction counts nothing', async () => {
    const wrong = { ...records[0], amount: 'much' };
    await expect(
      scoreTransaction(node, { caller: { owner: 'wrong', keyPrefix: 'w' }, requestId: 'r', transaction: wrong }),
    ).rejects.toMatchObject({ code: 'RECORD_INVALID' });
    expect((await usageOf(node, 'wrong'))[0].vectors).toBe(0);
  });

  test('exactly the limit is answered when all ask at once', async () => {
    const distinct = [...new Map(records.map((each) => [`${binRecord(contract, each).bins}`, each])).values()];
    expect(distinct.length).toBeGreaterThan(60);
    await limit('crowd', 40);
    const results = await Promise.allSettled(distinct.flatMap((each) => [score('crowd', each), score('crowd', each)]));
    const answered = results.flatMap((result) =>
      result.status === 'fulfilled' ? [result.value.reply.audit.index] : [],
    );
    const vectors = new Set(results.flatMap(({ status }, i) => (status === 'fulfilled' ? [i >> 1] : [])));
    expect(vectors.size).toBe(40);
    expect(answered).toHaveLength(80);
    expect(await usageOf(node, 'crowd')).toMatchObject([{ vectors: 40, limit: 40, left: 0 }]);
    const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []));
    expect(new Set(refused)).toEqual(new Set(['VECTOR_LIMIT']));
  });

  test('refusals are in the audit log, once and then counted', async () => {
    const mine = async () =>
      (await entriesOf('access.refuse')).filter(({ actor, reasonCodes }) => {
        return actor === 'api-key:of-blocked' && reasonCodes?.[0] === 'VECTOR_LIMIT';
      });
    await limit('blocked', 0);
    for (const record of records.slice(0, 5)) {
      await expect(score('blocked', record)).rejects.toMatchObject({ code: 'VECTOR_LIMIT' });
    }
    expect(await mine()).toMatchObject([{ requestId: 'r', outcome: 'refused', details: { why: 'vectors', count: 1 } }]);
    await refusalLogOf(node).close();
    expect(await mine()).toMatchObject([{ details: { count: 1 } }, { details: { why: 'vectors', count: 4 } }]);
  });
});

describe('limitVectors', () => {
  test('is an audited change, and the same again is none', async () => {
    const change = { owner: 'partner', vectors: 10, previous: null, limit: 10, known: false };
    expect(await limit('partner', 10)).toEqual(change);
    expect(await limit('partner', 10)).toEqual({ ...change, previous: 10 });
    expect(await limit('partner', null)).toEqual({ ...change, vectors: null, previous: 10, limit: 1_000_000 });
    const entries = (await entriesOf('vector-limit.set')).filter(({ details }) => details.owner === 'partner');
    expect(entries).toMatchObject([
      { actor: 'operator', outcome: 'own', details: { owner: 'partner', vectors: 10, previous: null } },
      { actor: 'operator', outcome: 'general', details: { owner: 'partner', vectors: null, previous: 10 } },
    ]);
  });

  test.each([
    ['a b', 1],
    ['', 1],
    ['p', -1],
    ['p', 1.5],
    ['p', 1e13],
    ['p', Number.NaN],
  ])('%j with %p is refused', async (owner, vectors) => {
    await expect(limit(owner, vectors)).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('another model', () => {
  test('starts a new meter, and the one before goes on when it is adopted again', async () => {
    await limit('models', 2);
    await score('models', records[0]);
    await score('models', records[1]);
    await expect(score('models', records[2])).rejects.toMatchObject({ code: 'VECTOR_LIMIT' });
    await adoptModel(node, { contract, model: otherModel, actor: 'test' });
    expect(await usageOf(node, 'models')).toEqual([
      { model: { hash: modelHash(otherModel), status: 'champion' }, vectors: 0, limit: 2, left: 2 },
      { model: { hash: modelHash(model), status: 'retired' }, vectors: 2, limit: 2, left: 0 },
    ]);
    expect((await score('models', records[2])).allowance).toEqual({ limit: 2, left: 1 });
    await limit('models', 1);
    const usage = [
      { model: { hash: modelHash(otherModel) }, vectors: 1, limit: 1, left: 0 },
      { model: { hash: modelHash(model) }, vectors: 2, limit: 1, left: 0 },
    ];
    expect(await usageOf(node, 'models')).toMatchObject(usage);
    expect((await listUsage(node)).filter(({ owner }) => owner === 'models')).toMatchObject(usage);
    await adoptModel(node, { contract, model, actor: 'test' });
    await expect(score('models', records[3])).rejects.toMatchObject({ code: 'VECTOR_LIMIT' });
    expect((await usageOf(node, 'models')).map(({ model }) => model.status)).toEqual(['champion', 'retired']);
  });
});
