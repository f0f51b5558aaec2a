/**
 * The SDK against a small HTTP node that runs the real scorer: results, layouts, stale models, and what it refuses.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type Client,
  createClient,
  createKeys,
  decryptLogitsForMeasurement,
  type SecretKey,
} from '../../src/client/client.ts';
import { chooseLayout } from '../../src/client/layout.ts';
import { binRecord, type Contract, contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { inspectPublicKey, openEncryption } from '../../src/encryption/encryption.ts';
import { readFrameHeader } from '../../src/encryption/wire.ts';
import { ClientError, EncryptionError } from '../../src/errors.ts';
import { scoreOf } from '../../src/learning/score.ts';
import { systemRandom } from '../../src/random.ts';
import { modelOf, seededRandom } from '../encryption/support.ts';

const reason = (code: string) => ({ code, text: `Reason ${code}` });
const contract: Contract = parseContract({
  format: 'veilrisk-contract/1',
  name: 'client-test',
  version: 1,
  title: 'Contract of the client tests',
  synthetic: true,
  fields: [
    { kind: 'numeric', name: 'amount', min: 0, max: 1000, scale: 'linear', bins: 10, reason: reason('AMOUNT') },
    { kind: 'categorical', name: 'channel', categories: ['web', 'shop'], reason: reason('CHANNEL') },
    { kind: 'boolean', name: 'abroad', reason: reason('ABROAD') },
  ],
  label: { name: 'fraud', positive: ['1'], negative: ['0'] },
  subject: null,
  time: null,
  maxRecordsPerSubject: 1,
  csv: { header: true, delimiter: ',', comment: null, trim: true, missing: [] },
});
const { total, offsets } = layoutOf(contract);
const random = seededRandom(3);
const weights = Array.from({ length: total }, () => 4 * random.unit() - 2);
const models = ['aa', 'bb'].map((name) => modelOf(weights, -0.5, name));
const scaling = { anchorLogit: -1, anchorScore: 500, pointsToDouble: 50, residualBound: 0.6 };

const transactions = Array.from({ length: 25 }, (_, i) => ({
  amount: i * 40,
  channel: ['web', 'shop', 'phone'][i % 3],
  abroad: i % 2 === 0,
}));
const exact = transactions.map((record) =>
  binRecord(contract, record).bins.reduce((sum, bin, k) => sum + weights[offsets[k] + bin], -0.5),
);

let server: Server;
let url: string;
let secretKey: SecretKey;
let client: Client;
/** What the node does differently in a test. */
let node: { listed: number; served: number; answer?: (request: IncomingMessage, response: ServerResponse) => boolean };
const registered = new Map<string, Uint8Array>();
const seen: { path: string; type: string | undefined; authorization: string | undefined; bytes: number }[] = [];

beforeAll(async () => {
  const encryption = await openEncryption('standard');
  const scorer = encryption.openScorer(systemRandom());
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = new Uint8Array(Buffer.concat(chunks));
    const { authorization, 'content-type': type } = request.headers;
    seen.push({ path: request.url!, type, authorization, bytes: body.length });
    const json = (status: number, document: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(document));
    };
    if (node.answer?.(request, response)) return;
    if (request.url === '/v1/models') {
      const model = models[node.listed];
      return json(200, {
        models: [
          {
            hash: model.hash,
            status: 'champion',
            family: 'scorecard',
            contractHash: contractHash(contract),
            contract,
            scaling,
            decisionThresholds: { version: 1, hash: '00'.repeat(32), reviewFrom: 520, declineFrom: 640 },
            encryption: { presets: ['standard'], dimension: total },
          },
        ],
      });
    }
    if (request.url === '/v1/keys') {
      const key = await inspectPublicKey(body);
      registered.set(key.keyId, body);
      return json(201, {
        ...key,
        createdAt: '2026-01-01T00:00:00Z',
        expiresAt: null,
        revokedAt: null,
        replacedBy: null,
        standing: 'usable',
        audit: { index: 0, leafHash: '00'.repeat(32) },
      });
    }
    const model = models[node.served];
    const header = readFrameHeader('request', body);
    if (header.modelHash !== model.hash) {
      node.listed = node.served;
      return json(409, { code: 'MODEL_CONTRACT_MISMATCH', detail: 'another model' });
    }
    const publicKey = registered.get(header.keyId);
    if (publicKey === undefined) return json(404, { code: 'KEY_UNKNOWN', detail: 'not registered', where: 'key id' });
    response.writeHead(200, { 'content-type': type! }).end(scorer.score(model, publicKey, body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  secretKey = await createKeys();
});

afterAll(() => new Promise((resolve) => server.close(resolve)));

beforeEach(async () => {
  node = { listed: 0, served: 0 };
  client = createClient({ url, apiKey: 'vrk_test', secretKey });
  await client.registerKey();
  seen.length = 0;
});

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
    scores.forEach(({ score, probability, decision }, i) => {
      expect(Math.abs(score - scoreOf(scaling, exact[i]))).toBeLessThanOrEqual(1);
      expect(Math.abs(probability - calibrated(exact[i]))).toBeLessThan(1e-3);
      expect(Number(probability.toFixed(4))).toBe(probability);
      expect(decision).toBe(score >= 640 ? 'decline' : score >= 520 ? 'review' : 'approve');
    });
    expect(new Set(scores.map(({ decision }) => decision)).size).toBeGreaterThan(1);
  });

  test('the upload has its media type, the API key, and no more bytes than one row ciphertext', async () => {
    await client.scoreEncrypted(transactions.slice(0, 1));
    expect(seen.at(-1)).toMatchObject({
      path: '/v1/scores/encrypted',
      type: 'application/vnd.veilrisk.encrypted-scores',
      authorization: 'Bearer vrk_test',
    });
    expect(seen.at(-1)!.bytes).toBeLessThanOrEqual(66_000);
  });

  test('a champion that changed between listing and scoring is asked for again, once', async () => {
    await client.scoreEncrypted(transactions.slice(0, 1));
    node.served = 1;
    expect(await client.scoreEncrypted(transactions.slice(0, 2))).toHaveLength(2);
    expect(seen.map(({ path }) => path).filter((path) => path === '/v1/models')).toHaveLength(2);
  });

  test('no transactions, no request for scores', async () => {
    expect(await client.scoreEncrypted([])).toEqual([]);
    expect(seen.filter(({ path }) => path === '/v1/scores/encrypted')).toEqual([]);
  });
});

test('layout: row below half a column, column above, row again when a column is too large to send', () => {
  expect(chooseLayout('standard', 350, 1)).toBe('row');
  expect(chooseLayout('standard', 350, 2047)).toBe('row');
  expect(chooseLayout('standard', 350, 2048)).toBe('column');
  expect(chooseLayout('standard', 2000, 4096)).toBe('row');
});

describe('refusals', () => {
  test('a record that does not fit names the transaction and sends nothing', async () => {
    const bad = [transactions[0], { ...transactions[1], amount: 'much' }];
    await expect(client.scoreEncrypted(bad)).rejects.toMatchObject({ code: 'RECORD_INVALID', where: 'transaction 1' });
    expect(seen.filter(({ path }) => path === '/v1/scores/encrypted')).toEqual([]);
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

test('the SDK and what it imports use no module of Node', () => {
  const rooms = ['client', 'encryption', 'contract'].map((room) => join(import.meta.dirname, '../../src', room));
  const files = rooms
    .flatMap((room) => readdirSync(room).map((file) => join(room, file)))
    .filter((f) => f.endsWith('.ts'));
  const guilty = files.filter((file) => /from 'node:|\bBuffer\b|\bprocess\./.test(readFileSync(file, 'utf8')));
  expect(guilty).toEqual([]);
});
