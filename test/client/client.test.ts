/**
 * The SDK against a small HTTP node that runs the real scorer: results, layouts, stale models, and what it refuses.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type Client,
  createClient,
  createKeys,
  decryptLogitsForMeasurement,
  type SecretKey,
} from '../../src/client/client.ts';
import { ClientError, EncryptionError } from '../../src/errors.ts';
import { scoreOf } from '../../src/learning/score.ts';
import { contractOf, exactLogit, openSmallNode, type SmallNode, scaling, testModel } from './smallNode.ts';

const contract = contractOf(1, ['web', 'shop']);
const model = testModel(contract, 'aa');
const transactions = Array.from({ length: 25 }, (_, i) => ({
  amount: i * 40,
  channel: ['web', 'shop', 'phone'][i % 3],
  abroad: i % 2 === 0,
}));
const exact = transactions.map((record) => exactLogit(model, record));
const ENCRYPTED = '/v1/scores/encrypted';

let node: SmallNode;
let url: string;
let secretKey: SecretKey;
let client: Client;

beforeAll(async () => {
  node = await openSmallNode(model);
  ({ url } = node);
  secretKey = await createKeys();
});

afterAll(() => node.close());

beforeEach(async () => {
  node.reset(model);
  client = createClient({ url, apiKey: 'vrk_test', secretKey, backoffMs: 1 });
  await client.registerKey();
  node.seen.length = 0;
});

const paths = () => node.seen.map(({ path }) => path);

/** Probability q at which the expected residual, clipped to 0.6, is zero: q min(c, 1 - p) = (1 - q) min(c, p). */
function calibrated(logit: number): number {
  const p = 1 / (1 + Math.exp(-logit));
  const [ifPositive, ifNegative] = [Math.min(0.6, 1 - p), Math.min(0.6, p)];
  return ifNegative / (ifPositive + ifNegative);
}

describe('encrypted scoring', () => {
  test.each(['row', 'column'] as const)('%s: raw logits keep the contract', async (layout) => {
    const logits = await decryptLogitsForMeasurement({ url, apiKey: 'vrk_test', secretKey }, transactions, { layout });
    expect(logits.length).toBe(transactions.length);
    logits.forEach((logit, i) => {
      expect(Math.abs(logit - exact[i])).toBeLessThan(2e-3);
    });
  });

  test('results are rounded, in order, with the decision of the public thresholds', async () => {
    const scores = await client.scoreEncrypted(transactions);
    scores.forEach(({ score, probability, decision, ...rest }, i) => {
      expect(rest).toEqual({ model: { hash: model.linear.hash } });
      expect(Math.abs(score - scoreOf(scaling, exact[i]))).toBeLessThanOrEqual(1);
      expect(Math.abs(probability - calibrated(exact[i]))).toBeLessThan(1e-3);
      expect(Number(probability.toFixed(4))).toBe(probability);
      expect(decision).toBe(score >= 640 ? 'decline' : score >= 520 ? 'review' : 'approve');
    });
    expect(new Set(scores.map(({ decision }) => decision)).size).toBeGreaterThan(1);
  });

  test('the upload has its media type, the API key, and no more bytes than one row ciphertext', async () => {
    await client.scoreEncrypted(transactions.slice(0, 1));
    expect(node.seen.at(-1)).toMatchObject({
      path: ENCRYPTED,
      headers: { 'content-type': 'application/vnd.veilrisk.encrypted-scores', authorization: 'Bearer vrk_test' },
    });
    expect(node.seen.at(-1)!.bytes).toBeLessThanOrEqual(66_000);
  });

  test('a champion that changed between listing and scoring is asked for again, once', async () => {
    await client.scoreEncrypted(transactions.slice(0, 1));
    node.served = testModel(contract, 'bb');
    expect(await client.scoreEncrypted(transactions.slice(0, 2))).toHaveLength(2);
    expect(paths().filter((path) => path === '/v1/models')).toHaveLength(2);
  });

  test('no transactions, no request for scores', async () => {
    expect(await client.scoreEncrypted([])).toEqual([]);
    expect(paths().filter((path) => path === ENCRYPTED)).toEqual([]);
  });
});

describe('refusals', () => {
  test('a record that does not fit names the transaction and sends nothing', async () => {
    const bad = [transactions[0], { ...transactions[1], amount: 'much' }];
    await expect(client.scoreEncrypted(bad)).rejects.toMatchObject({ code: 'RECORD_INVALID', where: 'transaction 1' });
    expect(paths().filter((path) => path === ENCRYPTED)).toEqual([]);
  });

  test("a problem document becomes an error with the service's code", async () => {
    const stranger = createClient({ url, apiKey: 'vrk_test', secretKey: await createKeys() });
    const refused = stranger.scoreEncrypted(transactions.slice(0, 1));
    await expect(refused).rejects.toBeInstanceOf(ClientError);
    await expect(refused).rejects.toMatchObject({
      code: 'SERVICE_REFUSED',
      serviceCode: 'KEY_UNKNOWN',
      status: 404,
      where: 'key id',
    });
  });

  test('a preset the model is not served at', async () => {
    const other = createClient({ url, apiKey: 'vrk_test', secretKey: await createKeys('conservative') });
    await expect(other.scoreEncrypted(transactions)).rejects.toMatchObject({ code: 'REPLY_MALFORMED' });
  });

  test.each([
    ['text', 200, 'no JSON'],
    ['another document', 200, '{"models": 3}'],
    ['a contract that is not its hash', 200, 'tampered'],
  ])('a model list that is %s', async (_, status, body) => {
    const text =
      body === 'tampered'
        ? JSON.stringify({
            models: [
              {
                hash: 'aa'.repeat(32),
                status: 'champion',
                family: 'scorecard',
                contractHash: '11'.repeat(32),
                contract,
                scaling,
              },
            ],
          })
        : body;
    node.answer = (_request, response) => {
      response.writeHead(status).end(text);
      return true;
    };
    await expect(client.models()).rejects.toMatchObject({ code: 'REPLY_MALFORMED' });
  });

  test('a reply that is cut short', async () => {
    await client.scoreEncrypted(transactions.slice(0, 1));
    node.answer = (_request, response) => {
      response.writeHead(200).end(Buffer.alloc(200));
      return true;
    };
    await expect(client.scoreEncrypted(transactions.slice(0, 1))).rejects.toMatchObject({ code: 'FRAME_MALFORMED' });
  });

  test('a node that is not there, and a client without a key', async () => {
    const lost = createClient({ url: 'http://127.0.0.1:9', apiKey: 'vrk_test', retries: 1, backoffMs: 1 });
    await expect(lost.models()).rejects.toMatchObject({ code: 'SERVICE_UNREACHABLE' });
    await expect(lost.scoreEncrypted(transactions)).rejects.toBeInstanceOf(EncryptionError);
  });
});

describe('keys', () => {
  test('registered with days, listed, rotated with a grace time, revoked', async () => {
    const [first, second] = [await createKeys(), await createKeys()];
    const mine = createClient({ url, apiKey: 'vrk_test', secretKey: first });
    expect(await mine.registerKey({ days: 30 })).toMatchObject({ keyId: first.keyId, standing: 'usable' });
    expect(node.seen.at(-1)!.headers['veilrisk-key-days']).toBe('30');
    const { key, replaced } = await mine.rotateKey(second, { days: 60, graceHours: 1 });
    expect(node.seen.at(-1)).toMatchObject({
      path: `/v1/keys/${first.keyId}/rotation`,
      headers: { 'veilrisk-key-days': '60', 'veilrisk-grace-hours': '1' },
    });
    expect([key.keyId, replaced.keyId, replaced.replacedBy]).toEqual([second.keyId, first.keyId, second.keyId]);
    // The new one is used from now on: encrypted for, and revoked when none is named.
    await mine.scoreEncrypted(transactions.slice(0, 1));
    expect(await mine.revokeKey()).toMatchObject({ keyId: second.keyId, standing: 'revoked' });
    expect(await mine.revokeKey(first.keyId)).toMatchObject({ keyId: first.keyId, standing: 'revoked' });
    expect((await mine.keys()).map(({ keyId }) => keyId)).toEqual(expect.arrayContaining([first.keyId, second.keyId]));
    expect(
      node.seen.some(({ headers }) => 'veilrisk-key-days' in headers && headers['content-type'] === undefined),
    ).toBe(false);
  });

  test('a rotation that is refused changes nothing', async () => {
    node.answer = (request, response) =>
      request.url!.endsWith('/rotation') && Boolean(response.writeHead(409).end('{"code":"KEY_LIMIT"}'));
    const refused = client.rotateKey(await createKeys());
    await expect(refused).rejects.toMatchObject({ serviceCode: 'KEY_LIMIT', status: 409 });
    expect(await client.scoreEncrypted(transactions.slice(0, 1))).toHaveLength(1);
  });

  test('an answer about another key is no answer', async () => {
    const stranger = createClient({ url, apiKey: 'vrk_test', secretKey: await createKeys() });
    const { keyId } = await stranger.registerKey();
    node.answer = (_request, response) => {
      const state = { keyId, preset: 'standard', createdAt: '2026-01-01T00:00:00.000Z', expiresAt: null };
      const rest = { revokedAt: null, replacedBy: null, standing: 'usable', audit: { index: 0, leafHash: keyId } };
      response.writeHead(200).end(JSON.stringify({ ...state, ...rest }));
      return true;
    };
    await expect(client.registerKey()).rejects.toMatchObject({ code: 'REPLY_MALFORMED' });
    await expect(client.revokeKey(secretKey.keyId)).rejects.toMatchObject({ code: 'REPLY_MALFORMED' });
  });

  test('usage is what was scored', async () => {
    await client.scoreEncrypted(transactions);
    expect(await client.usage()).toEqual([
      { model: { hash: model.linear.hash, status: 'champion' }, vectors: 25, limit: 1000, left: 975 },
    ]);
  });
});

describe('secrets', () => {
  test('callbacks are asked when first needed, once, even by calls at the same time', async () => {
    const asked = { apiKey: 0, secretKey: 0 };
    const mine = createClient({
      url,
      apiKey: async () => `vrk_${++asked.apiKey}`,
      secretKey: async () => {
        asked.secretKey++;
        return secretKey;
      },
    });
    expect(asked).toEqual({ apiKey: 0, secretKey: 0 });
    await mine.models();
    expect(asked).toEqual({ apiKey: 1, secretKey: 0 });
    await Promise.all([0, 1, 2].map((i) => mine.scoreEncrypted([transactions[i]])));
    expect(asked).toEqual({ apiKey: 1, secretKey: 1 });
    expect(new Set(node.seen.map(({ headers }) => headers.authorization))).toEqual(new Set(['Bearer vrk_1']));
  });

  test.each(['apiKey', 'secretKey'] as const)(
    'a failing %s callback: its own error, and it is asked again',
    async (which) => {
      const sealed = new TypeError('the vault is sealed');
      let failures = 2;
      const failing =
        <T>(value: T) =>
        () => {
          if (failures-- > 0) throw sealed;
          return value;
        };
      const secrets = { apiKey: 'vrk_test', secretKey };
      const mine = createClient({ url, ...secrets, [which]: failing(secrets[which]) });
      await expect(mine.scoreEncrypted(transactions)).rejects.toBe(sealed);
      await expect(mine.scoreEncrypted(transactions)).rejects.toBe(sealed);
      expect(node.seen.filter(({ path }) => path === ENCRYPTED)).toEqual([]);
      expect(await mine.scoreEncrypted(transactions)).toHaveLength(25);
    },
  );

  test('neither client nor errors show API key or secret key', async () => {
    const apiKey = 'vrk_not-to-be-seen';
    const tail = secretKey.exposeSealBytes().subarray(-30);
    const hidden = [apiKey, Buffer.from(tail).toString('hex'), tail.join('')];
    const mine = createClient({ url, apiKey, secretKey, retries: 0, timeoutMs: 1000 });
    const bad = createClient({ url, apiKey: `${apiKey}\n`, secretKey });
    node.faults = ['lost'];
    const shown: unknown[] = [mine, secretKey, { secretKey }];
    shown.push(await mine.scoreEncrypted(transactions).catch((error: unknown) => error));
    shown.push(await bad.models().catch((error: unknown) => error));
    shown.push(
      await createClient({ url: 'http://127.0.0.1:9', apiKey, retries: 0 })
        .models()
        .catch((e: unknown) => e),
    );
    expect(shown.slice(3).map((error) => (error as ClientError).code)).toEqual([
      'SERVICE_UNREACHABLE',
      'OPTION_INVALID',
      'SERVICE_UNREACHABLE',
    ]);
    for (const one of shown) {
      const text =
        inspect(one, { depth: 9, showHidden: true, maxArrayLength: null }) + JSON.stringify(one) + String(one);
      for (const secret of hidden) expect(text.replaceAll(/[ ,]|0x/g, '')).not.toContain(secret);
    }
  });

  test('an idempotency key that no header can carry is refused before anything is sent', async () => {
    const before = node.seen.length;
    const mine = createClient({ url, apiKey: 'vrk_test' });
    await expect(mine.score(transactions[0], { idempotencyKey: 'two\nlines' })).rejects.toMatchObject({
      ...{ code: 'OPTION_INVALID', where: 'idempotencyKey' },
    });
    expect(node.seen).toHaveLength(before);
  });

  test.each([
    ['url', 'ftp://node.example'],
    ['url', 'https://user:secret@node.example'],
    ['url', 'node.example'],
    ['retries', 8],
    ['retries', -1],
    ['timeoutMs', 0],
    ['deadlineMs', Number.NaN],
    ['backoffMs', -1],
  ])('%s %p is refused, and not shown', (option, value) => {
    const open = () => createClient({ url, apiKey: 'vrk_test', [option]: value });
    expect(open).toThrow(expect.objectContaining({ code: 'OPTION_INVALID', where: option }));
    expect(open).toThrow(expect.not.objectContaining({ message: expect.stringContaining('secret') }));
  });
});

test('the SDK and what it imports use no module of Node', () => {
  const rooms = ['client', 'encryption', 'contract'].map((room) => join(import.meta.dirname, '../../src', room));
  const files = rooms
    .flatMap((room) => readdirSync(room).map((file) => join(room, file)))
    .filter((f) => f.endsWith('.ts'));
  const guilty = files.filter((file) => /from 'node:|\bBuffer\b|\bprocess\./.test(readFileSync(file, 'utf8')));
  expect(guilty).toEqual([]);
});
