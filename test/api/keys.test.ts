import { request as httpRequest } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { keysReply, usageReply } from '../../src/api/schemas.ts';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { binRecord, layoutOf } from '../../src/contract/contract.ts';
import { openEncryption, type SecretKey } from '../../src/encryption/encryption.ts';
import { modelHash } from '../../src/learning/scorecard.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';
import { expectDocumented } from './documented.ts';

const postgres = usePostgres();
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const model = trainedModel();
const { records } = simulated(2, 23);
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let apiKey: string;
let strangers: string;

beforeAll(async () => {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 16, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  await adoptModel(node, { contract, model, actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  ({ key: apiKey } = await createApiKey(node, { name: 'caller', scopes: ['score', 'keys'], actor: 'test' }));
  ({ key: strangers } = await createApiKey(node, { name: 'stranger', scopes: ['score', 'keys'], actor: 'test' }));
  await pool.warmed;
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
});

const createKeys = async (): Promise<SecretKey> => (await openEncryption('standard')).createKeys();

interface Call {
  body?: Uint8Array;
  headers?: Record<string, string>;
  by?: string;
}

async function call(method: string, path: string, { body, headers = {}, by = apiKey }: Call = {}): Promise<Response> {
  const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/octet-stream' };
  const response = await fetch(api.url + path, {
    method,
    headers: { authorization: `Bearer ${by}`, ...type, ...headers },
    ...(body !== undefined && { body: body as Uint8Array<ArrayBuffer> }),
  });
  const template = path.replace(/^\/v1\/keys\/[^/]+/, '/v1/keys/{keyId}');
  await expectDocumented(`${method.toLowerCase()} ${template}`, response);
  return response;
}

const register = (key: SecretKey, more: Call = {}) => call('POST', '/v1/keys', { body: key.publicKey, ...more });
const rotate = (keyId: string, next: SecretKey, more: Call = {}) =>
  call('POST', `/v1/keys/${keyId}/rotation`, { body: next.publicKey, ...more });
const revoke = (keyId: string, more: Call = {}) => call('DELETE', `/v1/keys/${keyId}`, more);
const listed = async (by = apiKey) => (await (await call('GET', '/v1/keys', { by })).json()).keys;
async function refusal(pending: Promise<Response>): Promise<[number, string, string | undefined]> {
  const response = await pending;
  const { code, where } = await response.json();
  return [response.status, code, where];
}

async function newKey(): Promise<SecretKey> {
  const key = await createKeys();
  expect((await register(key)).status).toBe(201);
  return key;
}

/** A fresh row request of one transaction under the key. */
async function frameOf(key: SecretKey): Promise<Uint8Array> {
  const { offsets, total } = layoutOf(contract);
  const vector = Array.from(binRecord(contract, records[0]).bins, (bin, k): [number, number] => [offsets[k] + bin, 1]);
  const header = {
    ...({ preset: 'standard', layout: 'row', transactions: 1, dimension: total, keyId: key.keyId } as const),
    ...{ contractHash: model.contractHash, modelHash: modelHash(model) },
  };
  return (await openEncryption('standard')).encryptRequest(key, header, [vector]);
}
const score = async (key: SecretKey) => call('POST', '/v1/scores/encrypted', { body: await frameOf(key) });

async function later<T>(ms: number, work: () => Promise<T>): Promise<T> {
  node.advance(ms);
  try {
    return await work();
  } finally {
    node.advance(-ms);
  }
}

test('a key is registered, listed, rotated and revoked in the shapes of the document', async () => {
  const [key, next] = [await createKeys(), await createKeys()];
  const type = { 'content-type': 'application/vnd.veilrisk.public-key', 'veilrisk-key-days': '30' };
  const registered = await register(key, { headers: type });
  expect(registered.status).toBe(201);
  const { audit, ...state } = await registered.json();
  expect(state).toEqual({
    ...{ keyId: key.keyId, preset: 'standard', createdAt: expect.any(String), expiresAt: expect.any(String) },
    ...{ revokedAt: null, replacedBy: null, standing: 'usable' },
  });
  expect(Date.parse(state.expiresAt) - Date.parse(state.createdAt)).toBe(30 * DAY);
  expect(audit).toEqual({ index: expect.any(Number), leafHash: expect.stringMatching(/^[0-9a-f]{64}$/) });
  const again = await register(key);
  expect([again.status, await again.json()]).toEqual([200, { ...state, audit: expect.anything() }]);
  expect(await listed()).toEqual([state]);

  const headers = { 'veilrisk-grace-hours': '3', 'veilrisk-key-days': '365' };
  const rotation = await rotate(key.keyId, next, { headers });
  expect(rotation.status).toBe(201);
  const rotated = await rotation.json();
  expect(Object.keys(rotated)).toEqual(['key', 'replaced']);
  expect(rotated.key).toMatchObject({ keyId: next.keyId, standing: 'usable', audit: { index: expect.any(Number) } });
  expect(rotated.replaced).toMatchObject({ ...state, replacedBy: next.keyId, expiresAt: expect.any(String) });
  expect(Date.parse(rotated.replaced.expiresAt) - Date.parse(rotated.key.createdAt)).toBe(3 * HOUR);
  const repeated = await rotate(key.keyId, next, { headers });
  const lost = { key: { ...rotated.key, audit: expect.anything() }, replaced: rotated.replaced };
  expect([repeated.status, await repeated.json()]).toEqual([200, lost]);

  const revoked = await revoke(next.keyId);
  const { audit: receipt, ...ended } = await revoked.json();
  expect([revoked.status, ended.standing, receipt.index > audit.index]).toEqual([200, 'revoked', true]);
  expect(await (await revoke(next.keyId)).json()).toEqual({ ...ended, audit: expect.anything() });
  const keys = await listed();
  expect(keys).toEqual(expect.arrayContaining([ended, rotated.replaced]));
  expect(keysReply.parse({ keys }).keys).toEqual(keys);
});

test('nothing of a caller is known to another', async () => {
  const key = await newKey();
  expect(await listed(strangers)).toEqual([]);
  const unknown = [404, 'KEY_UNKNOWN', 'keyId'];
  expect(await refusal(revoke(key.keyId, { by: strangers }))).toEqual(unknown);
  expect(await refusal(rotate(key.keyId, await createKeys(), { by: strangers }))).toEqual(unknown);
  expect(await refusal(revoke('0'.repeat(64)))).toEqual(unknown);
  expect(await refusal(register(key, { by: strangers }))).toEqual([409, 'ALREADY_EXISTS', 'public key']);
  expect((await listed()).find(({ keyId }: { keyId: string }) => keyId === key.keyId)).toMatchObject({
    standing: 'usable',
  });
});

describe('scoring', () => {
  test('a revoked and an expired key are refused, each with its code, and nothing is recorded', async () => {
    const [revoked, expired] = [await newKey(), await createKeys()];
    await register(expired, { headers: { 'veilrisk-key-days': '1' } });
    await revoke(revoked.keyId);
    const { size } = await node.store.audit.head();
    const response = await score(revoked);
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([403, null]);
    expect((await response.json()).code).toBe('KEY_REVOKED');
    const where = 'request frame, key id';
    await later(DAY, async () => expect(await refusal(score(expired))).toEqual([403, 'KEY_EXPIRED', where]));
    expect(await refusal(score(await createKeys()))).toEqual([404, 'KEY_UNKNOWN', where]);
    expect((await node.store.audit.head()).size).toBe(size);
    expect((await score(expired)).status).toBe(200);
    const usage = usageReply.strict().safeParse(await (await call('GET', '/v1/usage')).json());
    expect(usage.data?.usage).toEqual([
      expect.objectContaining({ model: { hash: modelHash(model), status: 'champion' } }),
    ]);
  });

  test('a replaced key is answered within its grace time and refused after it', async () => {
    const [old, next] = [await newKey(), await createKeys()];
    await rotate(old.keyId, next, { headers: { 'veilrisk-grace-hours': '1' } });
    expect([(await score(old)).status, (await score(next)).status]).toEqual([200, 200]);
    await later(HOUR, async () => {
      expect((await refusal(score(old)))[1]).toBe('KEY_EXPIRED');
      expect((await score(next)).status).toBe(200);
    });
  });
});

describe('requests are refused for', () => {
  test.each([
    ['veilrisk-key-days', '0'],
    ['veilrisk-key-days', '366'],
    ['veilrisk-key-days', '-1'],
    ['veilrisk-key-days', '1.5'],
    ['veilrisk-key-days', '01'],
    ['veilrisk-key-days', '0x10'],
    ['veilrisk-key-days', '1, 2'],
    ['veilrisk-key-days', ''],
    ['veilrisk-key-days', '9'.repeat(400)],
    ['veilrisk-grace-hours', '721'],
    ['veilrisk-grace-hours', '1e2'],
    ['veilrisk-grace-hours', 'soon'],
  ])('%s: %s', async (name, value) => {
    const path = name === 'veilrisk-key-days' ? '/v1/keys' : `/v1/keys/${'a'.repeat(64)}/rotation`;
    const response = await call('POST', path, { body: new Uint8Array(10), headers: { [name]: value } });
    const { code, where, detail } = await response.json();
    expect([response.status, code, where.toLowerCase()]).toEqual([400, 'REQUEST_MALFORMED', name]);
    expect(detail).toMatch(name === 'veilrisk-key-days' ? / from 1 to 365\.$/ : / from 0 to 720\.$/);
  });

  test('a wrong header before the body is read', async () => {
    const sent = httpRequest(`${api.url}/v1/keys`, {
      method: 'POST',
      headers: {
        ...{ authorization: `Bearer ${apiKey}`, 'content-type': 'application/octet-stream' },
        ...{ 'content-length': '98498', 'veilrisk-key-days': 'many' },
      },
    });
    sent.on('error', () => {});
    const status = new Promise((done) => sent.once('response', ({ statusCode }) => done(statusCode)));
    sent.flushHeaders();
    expect(await status).toBe(400);
    sent.destroy();
  });

  test.each(['abc', 'A'.repeat(64), `${'a'.repeat(64)}0`, "'%3B--", '%00'.repeat(64)])('key id %s', async (keyId) => {
    expect(await refusal(revoke(keyId))).toEqual([400, 'REQUEST_MALFORMED', 'keyId']);
    expect(await refusal(rotate(keyId, await createKeys()))).toEqual([400, 'REQUEST_MALFORMED', 'keyId']);
  });

  test('a media type that is no public key, an API key without the scope, or none', async () => {
    const body = new Uint8Array(10);
    const headers = { 'content-type': 'application/vnd.veilrisk.encrypted-scores' };
    expect(await refusal(call('POST', '/v1/keys', { body, headers }))).toEqual([
      ...[415, 'MEDIA_TYPE_UNSUPPORTED', 'Content-Type'],
    ]);
    const { key: by } = await createApiKey(node, { name: 'caller', scopes: ['score'], actor: 'test' });
    const path = `/v1/keys/${'a'.repeat(64)}`;
    for (const [method, at] of [
      ...[['GET', '/v1/keys'] as const, ['DELETE', path] as const, ['POST', `${path}/rotation`] as const],
    ]) {
      expect((await refusal(call(method, at, { by })))[1]).toBe('FORBIDDEN');
      expect((await refusal(call(method, at, { by: 'vrk_nobody' })))[1]).toBe('UNAUTHENTICATED');
    }
  });
});
