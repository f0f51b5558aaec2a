/**
 * Encrypted scoring as a caller sees it: SDK, HTTP on the loopback, the node's API with its worker threads, meter and
 * audit entry made durable in PostgreSQL, and back.
 *
 * Limit: caller and node share one process, hence one event loop; only SEAL's work for the node is in other threads.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serveApi } from '../../../src/api/server.ts';
import { createClient, createKeys, type PresetName } from '../../../src/client/client.ts';
import { startEmbeddedPostgres } from '../../../src/database/embeddedServer.ts';
import { openLog } from '../../../src/log.ts';
import { createApiKey } from '../../../src/operations/apiKeys.ts';
import { adoptModel } from '../../../src/operations/models.ts';
import { openEncryptionPool } from '../../../src/workers/encryptionPool.ts';
import { contract, openTestNode, simulated, trainedModel } from '../../operations/node.ts';
import type { BenchmarkReport } from '../report.ts';
import { percentile } from './measure.ts';

const RUNS = 400;
const WARM = 50;

export async function measureEndToEnd(report: BenchmarkReport): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const log = openLog('bench', 'silent');
  const directory = await mkdtemp(join(tmpdir(), 'veilrisk-bench-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const database = await startEmbeddedPostgres({ dataDir: join(directory, 'pg'), log });
  stack.defer(() => database.stop());
  const pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log });
  stack.defer(() => pool.close());
  const node = await openTestNode(database.url, pool);
  stack.defer(() => node.close());
  await adoptModel(node, { contract, model: trainedModel(), actor: 'bench' });
  const api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  stack.defer(() => api.close());
  const { key } = await createApiKey(node, { name: 'bench', scopes: ['score', 'keys', 'models'], actor: 'bench' });
  await pool.warmed;

  const { records } = simulated(WARM + RUNS, 31);
  const presets: readonly PresetName[] = ['standard', 'conservative'];
  for (const preset of presets) {
    const client = createClient({ url: api.url, apiKey: key, secretKey: await createKeys(preset) });
    await client.registerKey();
    const encrypted = await timeEach(records, (record) => client.scoreEncrypted([record]));
    const name = `${preset}: one transaction over REST, encrypt to decrypt, audit durable`;
    report.add({
      ...{ name: `${name}, p50`, value: percentile(encrypted, 0.5), unit: 'ms' },
      ...(preset === 'standard' ? { bar: { atMost: 15 } } : {}),
    });
    report.add({ name: `${name}, p95`, value: percentile(encrypted, 0.95), unit: 'ms' });
    report.add({ name: `${name}, p99`, value: percentile(encrypted, 0.99), unit: 'ms' });
    if (preset !== 'standard') continue;
    const clear = await timeEach(records, (record) => client.score(record));
    report.add({ name: 'the same in the clear, p50', value: percentile(clear, 0.5), unit: 'ms' });
    const ratio = percentile(encrypted, 0.5) / percentile(clear, 0.5);
    report.add({ name: 'encrypted / clear over REST, p50', value: ratio, unit: 'ratio' });
  }
}

async function timeEach<T>(records: readonly T[], step: (record: T) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (const [i, record] of records.entries()) {
    const start = performance.now();
    await step(record);
    if (i >= WARM) times.push(performance.now() - start);
  }
  return times;
}
