/**
 * The SDK against a real node with Postgres, through a proxy that loses its answers: results are the model's, the meter
 * counts once, a key lives, is replaced and ends.
 */
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { createClient, createKeys, openKeyFile, type Progress, sealKeyFile } from '../../src/client/client.ts';
import { binRecord } from '../../src/contract/contract.ts';
import { logitOf, modelHash, riskScore } from '../../src/learning/scorecard.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const { records } = simulated(50, 23);
const model = trainedModel();
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let proxy: Server;
let url: string;
let apiKey: string;
/** Answers of POST requests that the proxy still takes from the node and does not pass on to the end. */
let losses = 0;

beforeAll(async () => {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  await adoptModel(node, { contract, model, actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  ({ key: apiKey } = await createApiKey(node, { name: 'caller', scopes: ['score', 'keys', 'models'], actor: 'test' }));
  proxy = createServer((incoming, outgoing) => {
    const { method, headers } = incoming;
    const onward = httpRequest(`${api.url}${incoming.url}`, { method, headers }, async (answer) => {
      const chunks: Buffer[] = [];
      for await (const chunk of answer) chunks.push(chunk);
      const body = Buffer.concat(chunks);
      if (method !== 'GET' && losses > 0) {
        losses--;
        outgoing.writeHead(answer.statusCode!, answer.headers);
        outgoing.write(body.subarray(0, body.length >> 1), () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode!, answer.headers).end(body);
    });
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  await pool.warmed;
});

afterAll(async () => {
  proxy?.closeAllConnections();
  await new Promise((resolve) => proxy?.close(resolve));
  await api?.close();
  await node?.close();
  await pool?.close();
});

test('registered, scored, replaced and revoked although every answer is lost once or twice', async () => {
  const first = await createKeys();
  const client = createClient({ url, apiKey: async () => apiKey, secretKey: async () => first, backoffMs: 1 });
  losses = 1;
  const registered = await client.registerKey({ days: 30 });
  expect(registered).toMatchObject({ keyId: first.keyId, standing: 'usable', revokedAt: null, replacedBy: null });
  const days = (Date.parse(registered.expiresAt!) - Date.parse(registered.createdAt)) / 86_400_000;
  expect(days).toBeCloseTo(30, 2);

  losses = 4;
  let progress: Progress | undefined;
  const onProgress = (now: Progress) => {
    progress = now;
  };
  const scores: number[] = [];
  for await (const result of client.scoreEncryptedStream(records, { batch: 20, onProgress })) {
    expect(result.position).toBe(scores.length);
    if ('issues' in result) throw new TypeError('every record fits');
    expect(result.model.hash).toBe(modelHash(model));
    scores.push(result.score);
  }
  expect(losses).toBe(0);
  expect(progress).toMatchObject({ scored: records.length, retries: 4 });
  records.forEach((record, i) => {
    const exact = riskScore(model, logitOf(model, binRecord(contract, record).bins));
    expect(Math.abs(scores[i] - exact)).toBeLessThanOrEqual(1);
  });
  const [usage] = await client.usage();
  expect(usage).toMatchObject({ model: { hash: modelHash(model), status: 'champion' }, vectors: records.length });
  expect(usage.left).toBe(usage.limit - records.length);

  losses = 1;
  const second = await openKeyFile(await sealKeyFile(await createKeys(), 'a passphrase'), 'a passphrase');
  const { key, replaced } = await client.rotateKey(second, { graceHours: 1 });
  expect([key.keyId, replaced.keyId, replaced.replacedBy]).toEqual([second.keyId, first.keyId, second.keyId]);
  expect(Date.parse(replaced.expiresAt!)).toBeLessThan(Date.now() + 3_700_000);
  expect(await client.scoreEncrypted(records.slice(0, 1))).toMatchObject([{ model: { hash: modelHash(model) } }]);

  losses = 1;
  expect(await client.revokeKey()).toMatchObject({ keyId: second.keyId, standing: 'revoked' });
  await expect(client.scoreEncrypted(records.slice(0, 1))).rejects.toMatchObject({ serviceCode: 'KEY_REVOKED' });
  expect((await client.keys()).map(({ keyId, standing }) => [keyId, standing])).toEqual([
    [second.keyId, 'revoked'],
    [first.keyId, 'usable'],
  ]);
});
