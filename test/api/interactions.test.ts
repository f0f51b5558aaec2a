/** A contract with interactions through the whole node: import, store, training, REST, reasons, encrypted scoring. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { createClient, createKeys, decryptLogitsForMeasurement, type SecretKey } from '../../src/client/client.ts';
import { binRecord, contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { defaultPlan } from '../../src/learning/plan.ts';
import { logitOf, reasonsFor, riskScore, type Scorecard } from '../../src/learning/scorecard.ts';
import { trainPrivate } from '../../src/learning/train.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { seededRandom } from '../../src/simulator/random.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { contract as demo, openTestNode, type Record, simulated, type TestNode } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';

const pair = (name: string, of: [string, string], bins: [number | null, number | null]) => ({
  ...{ kind: 'interaction', name, of, bins },
  reason: { code: name.toUpperCase(), text: `Both of ${of.join(' and ')}` },
});
const contract = parseContract({
  ...demo,
  fields: [
    pair('amount_new', ['amount', 'newMerchant'], [8, null]),
    ...demo.fields,
    pair('hour_channel', ['hour', 'channel'], [6, null]),
  ],
});
const { sizes, total } = layoutOf(contract);
const postgres = usePostgres();
const rows = 6_000;
const simulation = { seed: 7, bank: 'a', rows, fraudRate: 0.05 };
const { records } = simulated(rows);
let folder: string;
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let secretKey: SecretKey;
let apiKey: string;
let model: Scorecard;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  secretKey = await createKeys('standard');
  ({ key: apiKey } = await createApiKey(node, { name: 'caller', scopes: ['score', 'keys', 'models'], actor: 'test' }));
  await pool.warmed;
  await createClient(options()).registerKey();
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
  await rm(folder, { recursive: true, force: true });
});

const exact = (record: Record) => logitOf(model, binRecord(contract, record).bins);
const options = () => ({ url: api.url, apiKey, secretKey });

describe('a node with a contract of interactions', () => {
  test('imports a file of the columns it always had, and stores the bins of a record', async () => {
    const path = join(folder, 'transactions.csv');
    await writeFile(path, `${[...simulateTransactions(simulation)].join('\n')}\n`);
    const contractFile = { contract, hash: contractHash(contract), path: 'demo.json' };
    const report = await importRecords(node, { contractFile, path, dataset: 'pairs' });
    expect(report).toMatchObject({ read: rows, accepted: rows, rejected: 0 });
    expect(Object.keys(report.clampedByField)).not.toContain('amount_new');
    const dataset = await node.store.datasets.find('pairs');
    const held = await node.store.trainingData(dataset!.id, sizes.length);
    const expected = records.map((record) => binRecord(contract, record).bins.join(' ')).sort();
    const stored = records.map((_, row) => held.bins.subarray(row * sizes.length, (row + 1) * sizes.length).join(' '));
    expect(stored.sort()).toEqual(expected);
    const plan = defaultPlan({ contract, epsilon: 4, delta: 1e-6, sites: 1, quorum: 1, expectedRows: rows });
    const data = { rows, sizes, bins: held.bins, labels: held.labels };
    model = trainPrivate(data, plan, contract, seededRandom(7, 'test noise'));
    expect(model.weights.map((weights) => weights.length)).toEqual(sizes);
    expect(total).toBe(layoutOf(demo).total + (8 * 2 + 1) + (6 * 4 + 1));
  });

  test('scores by REST with the reasons of interactions among the others, and refuses their names', async () => {
    await adoptModel(node, { contract, model, actor: 'test' });
    const client = createClient(options());
    const told = new Set<string>();
    for (const record of records.slice(0, 40)) {
      const reply = await client.score(record);
      const { bins } = binRecord(contract, record);
      expect(reply.score).toBe(riskScore(model, exact(record)));
      expect(reply.reasons.map(({ code }) => code)).toEqual(reasonsFor(model, contract, bins).map(({ code }) => code));
      for (const { code } of reply.reasons) told.add(code);
    }
    expect(told).toContain('AMOUNT_NEW');
    await expect(client.score({ ...records[0], amount_new: 1 })).rejects.toMatchObject({
      serviceCode: 'RECORD_INVALID',
      issues: [{ field: 'amount_new', rule: 'is derived from other fields and must not be sent' }],
    });
  });

  test.each(['row', 'column'] as const)('scores encrypted in %s layout as in the clear', async (layout) => {
    const some = [...records.slice(100, 119), { ...records[119], amount: null }];
    const logits = await decryptLogitsForMeasurement(options(), some, { layout });
    for (const [i, logit] of logits.entries()) {
      expect(Math.abs(logit - exact(some[i]))).toBeLessThan(2e-3);
    }
  });
});
