/**
 * How fast the audit log is written and checked, on a fresh embedded database with fsync on. Bars: audit design, section
 * 6. `--entries N` sets the size of the log that is verified (default 1,000,000).
 *
 * Reference in the same run: the same number of one-row transactions without a log, one after the other, which is what
 * writing each entry by itself would cost at least.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signCheckpoint } from '../../src/audit/checkpoint.ts';
import { type EntryDraft, entryBytes } from '../../src/audit/entry.ts';
import { entryLine, headerLine } from '../../src/audit/exportFile.ts';
import { createLogSigner, type LogSigner } from '../../src/audit/note.ts';
import { inclusionProof, verifyInclusion } from '../../src/audit/proof.ts';
import { CompactRange, leafHash } from '../../src/audit/tree.ts';
import { connect } from '../../src/database/connection.ts';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { openLog } from '../../src/log.ts';
import { verifyLogFile } from '../../src/operations/verifyLog.ts';
import { type NodeStore, openNodeStore } from '../../src/store/nodeStore.ts';
import { openReport } from './report.ts';

const SUSTAINED_MS = 10_000;
const IN_FLIGHT = 500;
const PACED_PER_SECOND = 1_000;
const PACED_MS = 5_000;

/** An entry of the size of a decision. */
const draft = (number: number): EntryDraft => ({
  type: 'decision',
  actor: 'api-key:q7m2xk4a',
  requestId: '0b9d3c1e-8a1f-4c55-9a43-0d2f5e6b7c8d',
  modelHash: 'a'.repeat(64),
  policyHash: 'b'.repeat(64),
  outcome: 'approve',
  reasonCodes: ['AMOUNT_HIGH', 'TERMINAL_RISK', 'NIGHT'],
  details: { score: number % 1000, probability: 0.0123456 },
  commitments: { transaction: 'c'.repeat(64) },
});

const decisionOf = (number: number) => {
  const id = crypto.randomUUID();
  const reply = JSON.stringify({ id, score: number % 1000, decision: 'approve', reasons: ['AMOUNT_HIGH'] });
  return {
    ...{ id, apiKey: 'q7m2xk4a', idempotencyKey: id, bodyHash: 'd'.repeat(64), modelHash: 'a'.repeat(64), reply },
    entry: draft(number),
    personal: [
      { name: 'transaction', salt: new Uint8Array(32), value: new Uint8Array(200), subject: new Uint8Array(32) },
    ],
  };
};

/** Calls per second with `IN_FLIGHT` of them waiting at any time. */
async function sustained(call: (number: number) => Promise<unknown>, forMs: number): Promise<number> {
  const started = performance.now();
  let done = 0;
  const caller = async () => {
    while (performance.now() - started < forMs) {
      await call(done);
      done++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  return (done * 1000) / (performance.now() - started);
}

/** Latencies in ms, ascending, of calls that start evenly, whether or not the ones before have ended. */
async function paced(call: (number: number) => Promise<unknown>): Promise<number[]> {
  const latencies: number[] = [];
  const pending: Promise<void>[] = [];
  const started = performance.now();
  let sent = 0;
  while (performance.now() - started < PACED_MS) {
    const due = ((performance.now() - started) * PACED_PER_SECOND) / 1000;
    for (; sent < due; sent++) {
      // Measured from when the call was due, so that a stalled event loop counts.
      const dueAt = started + (sent * 1000) / PACED_PER_SECOND;
      pending.push(call(sent).then(() => void latencies.push(performance.now() - dueAt)));
    }
    await new Promise((next) => setTimeout(next, 1));
  }
  await Promise.all(pending);
  return latencies.sort((a, b) => a - b);
}

async function oneByOne(url: string): Promise<number> {
  const client = await connect(url);
  await client.query('CREATE TABLE bench_reference (id bigint PRIMARY KEY, bytes bytea)');
  const bytes = Buffer.from(entryBytes(draft(1), new Date()));
  const started = performance.now();
  let rows = 0;
  for (; performance.now() - started < 2_000; rows++) {
    await client.query('INSERT INTO bench_reference VALUES ($1, $2)', [rows, bytes]);
  }
  await client.end();
  return (rows * 1000) / (performance.now() - started);
}

/** An export of `size` entries, made without a database. */
async function writeExport(path: string, size: number, signer: LogSigner): Promise<Uint8Array[]> {
  const range = CompactRange.empty();
  const leaves: Uint8Array[] = [];
  const lines: string[] = [''];
  const time = new Date();
  for (let index = 0; index < size; index++) {
    const bytes = entryBytes(draft(index), time);
    const leaf = leafHash(bytes);
    leaves.push(leaf);
    lines.push(entryLine({ index, node: range.append(leaf), bytes }));
  }
  const { origin, verifierKey } = signer;
  lines[0] = headerLine({ origin, verifierKey, checkpoint: await signCheckpoint(size, range.root(), signer) });
  await writeFile(
    path,
    (function* () {
      for (const line of lines) yield `${line}\n`;
    })(),
  );
  return leaves;
}

async function writing(store: NodeStore, report: ReturnType<typeof openReport>): Promise<void> {
  await sustained((number) => store.decisions.append(draft(number)), 1_000);
  const entries = await sustained((number) => store.decisions.append(draft(number)), SUSTAINED_MS);
  report.add({ name: 'durable entries, sustained', value: entries, unit: '1/s', bar: { atLeast: 5_000 } });
  const decisions = await sustained((number) => store.decisions.record(decisionOf(number)), SUSTAINED_MS);
  report.add({
    name: 'durable decisions with reply and commitment',
    value: decisions,
    unit: '1/s',
    bar: { atLeast: 3_000 },
  });
  const latencies = await paced((number) => store.decisions.append(draft(number)));
  const at = (share: number) => latencies[Math.floor(latencies.length * share)];
  report.add({ name: `append to durable at ${PACED_PER_SECOND}/s, p50`, value: at(0.5), unit: 'ms' });
  report.add({
    name: `append to durable at ${PACED_PER_SECOND}/s, p99`,
    value: at(0.99),
    unit: 'ms',
    bar: { atMost: 50 },
  });
}

const option = process.argv.indexOf('--entries');
const size = option < 0 ? 1_000_000 : Number(process.argv[option + 1]);
const report = openReport('audit log');
const directory = await mkdtemp(join(tmpdir(), 'veilrisk-bench-'));
const server = await startEmbeddedPostgres({ dataDir: join(directory, 'pg'), log: openLog('bench', 'silent') });
try {
  // Safe: generateKey for Ed25519 always gives a pair.
  const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  const signer = await createLogSigner('bench', keys);
  const store = await openNodeStore({ url: server.url, logSigner: signer });
  report.add({ name: 'reference: plain rows one by one', value: await oneByOne(server.url), unit: '1/s' });
  await writing(store, report);
  const beforeFsck = performance.now();
  const { size: stored } = await store.audit.fsck();
  const fsckSeconds = (performance.now() - beforeFsck) / 1000;
  report.add({ name: `fsck of the ${stored} rows written`, value: fsckSeconds, unit: 's' });
  await store.close();

  const path = join(directory, 'bench.log');
  const leaves = await writeExport(path, size, signer);
  const beforeVerify = performance.now();
  const { verified } = await verifyLogFile({ path, key: signer.verifierKey });
  const seconds = (performance.now() - beforeVerify) / 1000;
  report.add({
    name: `verify an export of ${verified} entries`,
    value: seconds,
    unit: 's',
    bar: { atMost: verified * 3e-5 },
  });

  const tree = leaves.slice(0, 100_000);
  const root = CompactRange.empty();
  for (const leaf of tree) root.append(leaf);
  const proof = inclusionProof(tree, 54_321);
  const beforeProof = performance.now();
  for (let i = 0; i < 1_000; i++) verifyInclusion(54_321, tree.length, tree[54_321], proof, root.root());
  report.add({
    name: 'check an inclusion proof',
    value: (performance.now() - beforeProof) / 1000,
    unit: 'ms',
    bar: { atMost: 5 },
  });
} finally {
  await server.stop();
  await rm(directory, { recursive: true, force: true });
}
report.finish();
