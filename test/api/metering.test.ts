import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { createKeys } from '../../src/client/client.ts';
import { binRecord, layoutOf } from '../../src/contract/contract.ts';
import { openEncryption, type SecretKey } from '../../src/encryption/encryption.ts';
import { modelHash } from '../../src/learning/scorecard.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { limitVectors } from '../../src/operations/metering.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { auditEntries } from '../operations/audit.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const { records } = simulated(60, 37);
const model = trainedModel();
const hash = modelHash(model);
const { offsets, total } = layoutOf(contract);
let pool: EncryptionPool;
/** Requests that came as far as the worker threads. */
let worked = 0;
let node: TestNode;
let api: RunningApi;

beforeAll(async () => {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 32, log: openLog('test', 'silent') });
  const counting: EncryptionPool = {
    ...pool,
    ready: (owner) => pool.ready(owner),
    score: (...args) => {
      worked++;
      return pool.score(...args);
    },
  };
  node = await openTestNode(await postgres.freshDatabase(), counting);
  await adoptModel(node, { contract, model, actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  await pool.warmed;
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
});

/** Keys of one name. */
async function caller(name: string, keys = 1): Promise<string[]> {
  const made: string[] = [];
  for (let i = 0; i < keys; i++) {
    made.push((await createApiKey(node, { name, scopes: ['score', 'keys', 'models'], actor: 'test' })).key);
  }
  return made;
}

function call(apiKey: string, path: string, body?: Uint8Array | object): Promise<Response> {
  const binary = body instanceof Uint8Array;
  return fetch(`${api.url}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      authorization: `Bearer ${apiKey}`,
      ...(body !== undefined && { 'content-type': binary ? 'application/octet-stream' : 'application/json' }),
    },
    ...(body !== undefined && { body: binary ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body) }),
  });
}

async function frame(count: number, key: SecretKey): Promise<Uint8Array> {
  const vectors = records
    .slice(0, count)
    .map((record) => Array.from(binRecord(contract, record).bins, (bin, k): [number, number] => [offsets[k] + bin, 1]));
  const header = {
    ...{ preset: 'standard' as const, layout: 'row' as const, transactions: count, dimension: total },
    ...{ keyId: key.keyId, contractHash: model.contractHash, modelHash: hash },
  };
  return (await openEncryption('standard')).encryptRequest(key, header, vectors);
}

/** A caller with an encryption key of its own and a limit. */
async function encryptedCaller(name: string, limit: number, keys = 1) {
  const key = await createKeys('standard');
  const apiKeys = await caller(name, keys);
  expect((await call(apiKeys[0], '/v1/keys', key.publicKey)).status).toBe(201);
  await limitVectors(node, { owner: name, vectors: limit, actor: 'operator' });
  return { apiKeys, send: (bytes: Uint8Array, of = 0) => call(apiKeys[of], '/v1/scores/encrypted', bytes), key };
}

const rateLimit = ({ headers }: Response) => [headers.get('ratelimit-policy'), headers.get('ratelimit')];
const outcome = async (response: Response) =>
  response.ok ? [response.status, rateLimit(response)[1]] : [response.status, (await response.json()).code];
const usage = async (apiKey: string) => (await call(apiKey, '/v1/usage')).json();
const scored = async () =>
  (await auditEntries(node, 0, 100_000))
    .filter(({ body }) => body.type === 'decision.encrypted')
    .map(({ body }) => body);

describe('in the clear', () => {
  test('every reply tells what is left, and a refusal how to go on', async () => {
    const [apiKey] = await caller('clear');
    const score = (i: number) => call(apiKey, '/v1/scores', { transaction: records[i], id: `t-${i}` });
    expect(rateLimit(await score(0))).toEqual(['"vectors";q=1000000', '"vectors";r=999999']);
    await limitVectors(node, { owner: 'clear', vectors: 2, actor: 'operator' });
    expect(rateLimit(await score(1))).toEqual(['"vectors";q=2', '"vectors";r=0']);
    const refused = await score(2);
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({
      code: 'VECTOR_LIMIT',
      detail: expect.stringContaining('none is left of the 2'),
      fix: expect.stringContaining('operator'),
    });
    const replayed = await score(1);
    expect([replayed.status, replayed.headers.get('idempotency-replayed'), ...rateLimit(replayed)]).toEqual([
      ...[200, 'true', '"vectors";q=2', '"vectors";r=0'],
    ]);
  });
});

describe('GET /v1/usage', () => {
  test("shows the caller's own meters, the champion's before it was used", async () => {
    const [apiKey] = await caller('usage');
    const shown = { model: { hash, status: 'champion' }, vectors: 0, limit: 1_000_000, left: 1_000_000 };
    expect(await usage(apiKey)).toEqual({ usage: [shown] });
    await call(apiKey, '/v1/scores', { transaction: records[0] });
    expect(await usage(apiKey)).toEqual({ usage: [{ ...shown, vectors: 1, left: 999_999 }] });
  });
});

describe('encrypted', () => {
  test('every transaction counts, the same request again is free, 8 answers are the most', async () => {
    const { apiKeys, send, key } = await encryptedCaller('frames', 100);
    const bytes = await frame(3, key);
    const answers: unknown[] = [];
    for (let i = 0; i < 9; i++) answers.push(await outcome(await send(bytes)));
    expect(answers).toEqual([...Array(8).fill([200, '"vectors";r=97']), [409, 'REQUEST_REPLAYED']]);
    expect((await usage(apiKeys[0])).usage).toMatchObject([{ vectors: 3, limit: 100, left: 97 }]);
    expect((await scored()).slice(-8).map(({ details }) => details.repeated)).toEqual([false, ...Array(7).fill(true)]);
    // Encrypted anew the same transactions count again: only their caller could tell.
    expect(await outcome(await send(await frame(3, key)))).toEqual([200, '"vectors";r=94']);
  });

  test('more than is left is refused whole, before any work, and what fits is answered', async () => {
    const { apiKeys, send, key } = await encryptedCaller('whole', 10);
    expect((await send(await frame(6, key))).status).toBe(200);
    const [before, entries] = [worked, (await scored()).length];
    const refused = await send(await frame(5, key));
    expect([refused.status, (await refused.json()).detail]).toEqual([
      429,
      expect.stringContaining('5 transactions and 4 are left of the 10'),
    ]);
    expect([worked, (await scored()).length]).toEqual([before, entries]);
    expect((await usage(apiKeys[0])).usage).toMatchObject([{ vectors: 6, left: 4 }]);
    expect(await outcome(await send(await frame(4, key)))).toEqual([200, '"vectors";r=0']);
    const [refusal] = (await auditEntries(node, 0, 100_000)).filter(
      ({ body }) => body.type === 'access.refuse' && body.actor === `api-key:${apiKeys[0].slice(4, 12)}`,
    );
    expect(refusal.body).toMatchObject({ reasonCodes: ['VECTOR_LIMIT'], details: { why: 'vectors', count: 1 } });
  });

  test('exactly the limit is answered to several keys of one name at once, in the clear and encrypted', async () => {
    const { apiKeys, send, key } = await encryptedCaller('crowd', 20, 2);
    const frames = await Promise.all(Array.from({ length: 8 }, () => frame(4, key)));
    const clear = [...new Map(records.map((each) => [`${binRecord(contract, each).bins}`, each])).values()].slice(
      0,
      12,
    );
    const responses = await Promise.all([
      ...frames.map((bytes, i) => send(bytes, i % 2)),
      ...clear.map((transaction, i) => call(apiKeys[i % 2], '/v1/scores', { transaction })),
    ]);
    const vectors = responses.map(({ ok }, i) => (ok ? (i < frames.length ? 4 : 1) : 0));
    const sum = vectors.reduce<number>((total, each) => total + each, 0);
    expect(sum).toBe(20);
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200, 429]));
    expect((await usage(apiKeys[1])).usage).toMatchObject([{ vectors: 20, left: 0 }]);
  });

  test('one request sent many times at once counts once and is answered 8 times', async () => {
    const { apiKeys, send, key } = await encryptedCaller('echo', 2);
    const bytes = await frame(2, key);
    const responses = await Promise.all(Array.from({ length: 16 }, () => send(bytes)));
    const statuses = responses.map(({ status }) => status).sort();
    expect(statuses).toEqual([...Array(8).fill(200), ...Array(8).fill(409)]);
    expect((await usage(apiKeys[0])).usage).toMatchObject([{ vectors: 2, left: 0 }]);
  });

  test('a request that is refused for its bytes or its key counts nothing', async () => {
    const { apiKeys, send, key } = await encryptedCaller('malformed', 10);
    const bytes = await frame(2, key);
    expect((await send(bytes.subarray(0, bytes.length - 1))).status).toBe(400);
    expect((await send(bytes.with(140, bytes[140] ^ 1))).status).toBe(400);
    expect((await send(bytes.with(24, bytes[24] ^ 1))).status).toBe(404);
    expect((await usage(apiKeys[0])).usage).toMatchObject([{ vectors: 0, left: 10 }]);
  });
});
