import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { createClient, createKeys, decryptLogitsForMeasurement } from '../../src/client/client.ts';
import { binRecord, layoutOf } from '../../src/contract/contract.ts';
import { largestRequestBytes, openEncryption, type SecretKey } from '../../src/encryption/encryption.ts';
import { LOGIT_ERROR_CONTRACT } from '../../src/encryption/presets.ts';
import { logitOf, modelHash, probabilityOf, riskScore } from '../../src/learning/scorecard.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { decide } from '../../src/operations/policy.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { auditEntries } from '../operations/audit.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const { records } = simulated(50, 23);
const model = trainedModel();
const exact = records.map((record) => logitOf(model, binRecord(contract, record).bins));
const largest = largestRequestBytes(layoutOf(contract).total);
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let secretKey: SecretKey;
let apiKey: string;
let prefix: string;

beforeAll(async () => {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  await adoptModel(node, { contract, model, actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  secretKey = await createKeys('standard');
  ({ key: apiKey, prefix } = await createApiKey(node, {
    name: 'caller',
    scopes: ['score', 'keys', 'models'],
    actor: 'test',
  }));
  await pool.warmed;
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
});

const client = () => createClient({ url: api.url, apiKey, secretKey });
const lastEntries = async (most: number) => {
  const { size } = await node.store.audit.head();
  return auditEntries(node, Math.max(0, size - most), most);
};

function post(path: string, body: Uint8Array, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${api.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/octet-stream', ...headers },
    body: body as Uint8Array<ArrayBuffer>,
  });
}

/** A row frame of the first records, made by hand, and the node's answer to it. */
async function capture(count: number): Promise<{ frame: Uint8Array; response: Response }> {
  const { offsets, total } = layoutOf(contract);
  const vectors = records
    .slice(0, count)
    .map((record) => Array.from(binRecord(contract, record).bins, (bin, k): [number, number] => [offsets[k] + bin, 1]));
  const header = {
    preset: 'standard' as const,
    layout: 'row' as const,
    transactions: count,
    dimension: total,
    keyId: secretKey.keyId,
    contractHash: model.contractHash,
    modelHash: modelHash(model),
  };
  const frame = (await openEncryption('standard')).encryptRequest(secretKey, header, vectors);
  const response = await post('/v1/scores/encrypted', frame, {
    'content-type': 'application/vnd.veilrisk.encrypted-scores',
  });
  return { frame, response };
}

describe('POST /v1/keys', () => {
  test('registers a key once, and says so again', async () => {
    const first = await post('/v1/keys', secretKey.publicKey);
    expect(first.status).toBe(201);
    const registered = await first.json();
    expect(registered).toMatchObject({ keyId: secretKey.keyId, preset: 'standard' });
    const second = await post('/v1/keys', secretKey.publicKey);
    expect(second.status).toBe(200);
    const { audit, ...again } = await second.json();
    expect({ ...again, audit: registered.audit }).toEqual(registered);
    expect(audit.index).toBeGreaterThan(registered.audit.index);
    const [created, unchanged] = await lastEntries(2);
    expect(created.body).toMatchObject({
      type: 'encryption-key.register',
      actor: `api-key:${prefix}`,
      outcome: 'created',
      details: { keyId: secretKey.keyId, preset: 'standard', owner: 'caller' },
    });
    expect(unchanged.body).toMatchObject({ outcome: 'unchanged' });
  });

  test('another caller cannot take a key over, nor use it, nor learn whose it is', async () => {
    const { key } = await createApiKey(node, { name: 'stranger', scopes: ['score', 'keys'], actor: 'test' });
    const headers = { authorization: `Bearer ${key}` };
    const taken = await post('/v1/keys', secretKey.publicKey, headers);
    expect([taken.status, (await taken.json()).code]).toEqual([409, 'ALREADY_EXISTS']);
    const { frame } = await capture(1);
    const used = await post('/v1/scores/encrypted', frame, headers);
    const text = await used.text();
    expect([used.status, JSON.parse(text).code]).toEqual([404, 'KEY_UNKNOWN']);
    expect(text).not.toContain('caller"');
  });

  test('a renewed API key of the same name keeps its encryption keys', async () => {
    const renewed = await createApiKey(node, { name: 'caller', scopes: ['score', 'models'], actor: 'test' });
    const scores = await createClient({ url: api.url, apiKey: renewed.key, secretKey }).scoreEncrypted([records[0]]);
    expect(scores).toHaveLength(1);
  });

  test.each<[string, (key: Uint8Array) => Uint8Array]>([
    ['nothing', () => new Uint8Array(0)],
    ['noise', (key) => key.map((byte, i) => (byte ^ (i * 167)) & 0xff)],
    ['a truncated key', (key) => key.subarray(0, key.length - 1)],
    ['a key with a tail', (key) => Uint8Array.of(...key, 0)],
    ['zeros after the preamble', (key) => key.map((byte, i) => (i < 200 ? byte : 0))],
  ])('%s is refused with a code of public keys', async (_name, change) => {
    const response = await post('/v1/keys', change(secretKey.publicKey));
    expect(response.status).toBe(400);
    expect((await response.json()).code).toMatch(/^PUBLIC_KEY_/);
  });
});

describe('POST /v1/scores/encrypted', () => {
  test.each(['row', 'column'] as const)('%s layout gives the scores of the clear model', async (layout) => {
    const logits = await decryptLogitsForMeasurement({ url: api.url, apiKey, secretKey }, records.slice(0, 10), {
      layout,
    });
    for (const [i, logit] of logits.entries()) expect(Math.abs(logit - exact[i])).toBeLessThan(LOGIT_ERROR_CONTRACT);
    const [entry] = await lastEntries(1);
    expect(entry.body).toMatchObject({
      type: 'decision.encrypted',
      actor: `api-key:${prefix}`,
      outcome: 'scored',
      details: { keyId: secretKey.keyId, preset: 'standard', layout, transactions: 10 },
    });
    expect(entry.body.commitments).toBeUndefined();
  });

  test('the client maps to score, probability and decision as the node does', async () => {
    const scores = await client().scoreEncrypted(records.slice(10, 20));
    for (const [i, { score, probability, decision }] of scores.entries()) {
      const logit = exact[10 + i];
      expect(Math.abs(score - riskScore(model, logit))).toBeLessThanOrEqual(1);
      expect(Math.abs(probability - probabilityOf(logit, model.scaling.residualBound))).toBeLessThan(1e-3);
      if (![600, 700].some((edge) => Math.abs(score - edge) <= 1)) {
        expect(decision).toBe(decide(node.policy, riskScore(model, logit)));
      }
    }
  });

  test('the reply names model and audit entry and has the media type of the request', async () => {
    const { response } = await capture(1);
    const [entry] = await lastEntries(1);
    expect(response.headers.get('veilrisk-audit-index')).toBe(String(entry.index));
    expect(response.headers.get('veilrisk-audit-leaf')).toBe(entry.leafHash);
    expect(response.headers.get('veilrisk-model')).toBe(entry.body.modelHash);
    expect(response.headers.get('content-type')).toBe('application/vnd.veilrisk.encrypted-scores');
  });

  test.each<[string, (frame: Uint8Array) => Uint8Array, number, string | RegExp]>([
    ['nothing', () => new Uint8Array(0), 400, 'FRAME_MALFORMED'],
    ['a truncated frame', (frame) => frame.subarray(0, frame.length - 1), 400, 'FRAME_MALFORMED'],
    ['a frame with a tail', (frame) => Uint8Array.of(...frame, 0), 400, 'FRAME_MALFORMED'],
    ['another key id', (frame) => flip(frame, 24), 404, 'KEY_UNKNOWN'],
    ['another contract hash', (frame) => flip(frame, 56), 409, 'MODEL_CONTRACT_MISMATCH'],
    ['another model hash', (frame) => flip(frame, 88), 409, 'MODEL_CONTRACT_MISMATCH'],
    ['another preset', (frame) => set(frame, 6, 2), 400, /^FRAME_/],
    ['a changed preamble', (frame) => flip(frame, 140), 400, /^(CIPHERTEXT|FRAME)_/],
  ])('%s is refused and not logged as scored', async (_name, change, status, code) => {
    const { frame } = await capture(1);
    const { size } = await node.store.audit.head();
    const response = await post('/v1/scores/encrypted', change(frame));
    expect([response.status, response.headers.get('content-type')]).toEqual([
      status,
      'application/problem+json; charset=utf-8',
    ]);
    expect((await response.json()).code).toMatch(code);
    expect((await node.store.audit.head()).size).toBe(size);
  });

  test('a frame for a retired model is refused', async () => {
    const { frame } = await capture(1);
    await adoptModel(node, { contract, model: trainedModel(8), actor: 'test' });
    const response = await post('/v1/scores/encrypted', frame);
    expect([response.status, (await response.json()).code]).toEqual([409, 'MODEL_CONTRACT_MISMATCH']);
    await adoptModel(node, { contract, model, actor: 'test' });
    expect((await post('/v1/scores/encrypted', frame)).status).toBe(200);
  });

  test('JSON is another media type, the largest frame of the champion is the limit', async () => {
    const json = await post('/v1/scores/encrypted', new TextEncoder().encode('{}'), {
      'content-type': 'application/json',
    });
    expect([json.status, (await json.json()).code]).toEqual([415, 'MEDIA_TYPE_UNSUPPORTED']);
    const large = await post('/v1/scores/encrypted', new Uint8Array(largest + 1));
    expect([large.status, (await large.json()).code]).toEqual([413, 'REQUEST_TOO_LARGE']);
    const fitting = await post('/v1/scores/encrypted', new Uint8Array(largest));
    expect([fitting.status, (await fitting.json()).code]).toEqual([400, 'FRAME_MALFORMED']);
  });

  test('a full pool answers 503 with Retry-After, and everything accepted is answered', async () => {
    const frames: Uint8Array[] = [];
    // Each was answered once when it was captured, and is answered 8 times at most.
    for (let i = 0; i < 6; i++) frames.push((await capture(40)).frame);
    const responses = await Promise.all(
      Array.from({ length: 40 }, (_, i) => post('/v1/scores/encrypted', frames[i % frames.length])),
    );
    const refused = responses.filter(({ status }) => status === 503);
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200, 503]));
    expect(refused.length).toBeGreaterThan(0);
    for (const response of refused) {
      expect(response.headers.get('retry-after')).toBe('1');
      expect((await response.json()).code).toBe('POOL_FULL');
    }
    expect((await fetch(`${api.url}/readyz`)).status).toBe(200);
  });
});

function flip(frame: Uint8Array, at: number): Uint8Array {
  return set(frame, at, frame[at] ^ 1);
}

function set(frame: Uint8Array, at: number, value: number): Uint8Array {
  const changed = frame.slice();
  changed[at] = value;
  return changed;
}
