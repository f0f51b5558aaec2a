import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { type Client, createClient, createKeys, type Transaction } from '../../src/client/client.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { readTransactions } from '../../src/operations/readTransactions.ts';
import { formatLine } from '../../src/operations/resultsFile.ts';
import { type FileScoring, scoreFile } from '../../src/operations/scoreFile.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from './node.ts';

const postgres = usePostgres();
const { records } = simulated(40, 41);
const names = Object.keys(records[0]);
let folder: string;
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let client: Client;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-score-'));
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  await adoptModel(node, { contract, model: trainedModel(), actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  client = await newClient('partner');
  await client.registerKey();
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
  await rm(folder, { recursive: true, force: true });
});

async function newClient(name: string): Promise<Client> {
  const { key } = await createApiKey(node, { name, scopes: ['score', 'keys', 'models'], actor: 'test' });
  return createClient({ url: api.url, apiKey: key, secretKey: await createKeys('standard') });
}

const at = (name: string) => join(folder, name);
const cells = (record: (typeof records)[number]) => names.map((name) => String(record[name] ?? ''));
const csv = (rows: readonly string[][]) => [names, ...rows].map((row) => `${row.join(',')}\n`).join('');
const good = records.map(cells);
const linesOf = async (name: string) => (await readFile(at(name), 'utf8')).trimEnd().split('\n');

async function score(name: string, text: string | Buffer, wish: Partial<FileScoring> = {}) {
  await writeFile(at(`${name}.csv`), text);
  const common = { client, input: at(`${name}.csv`), out: at(name), scoring: 'clear', lines: 'csv' } as const;
  return scoreFile({ ...common, ...wish });
}

/** Decisions in the node's audit log. */
async function decisions(): Promise<number> {
  const { size } = await node.store.audit.head();
  return size;
}

test('cells become the JSON that a caller would send', async () => {
  await writeFile(at('read.csv'), csv(good));
  const read: Transaction[] = [];
  for await (const row of readTransactions(contract, at('read.csv')))
    if ('transaction' in row) read.push(row.transaction);
  expect(read).toEqual(records);
});

test('invalid rows have their line, in order, with fields and rules and no value', async () => {
  const broken = good.slice(0, 6).map((row) => [...row]);
  broken[0][names.indexOf('amount')] = 'SECRET-1';
  broken[2] = broken[2].slice(1);
  broken[5][names.indexOf('merchantCategory')] = 'SECRET-2'.repeat(200);
  for (const scoring of ['clear', 'encrypted'] as const) {
    const name = `invalid-${scoring}`;
    const report = await score(name, gzipSync(csv(broken)), { scoring });
    expect(report).toMatchObject({ rows: 6, scored: 3, invalid: 3, complete: true });
    const lines = await linesOf(name);
    expect(lines.map((line) => line.split(',')[0])).toEqual(['line', '2', '3', '4', '5', '6', '7']);
    expect(lines[1]).toBe('2,,,,,,amount: must be a finite decimal number');
    expect(lines[3]).toBe(`4,,,,,,(row): must have ${names.length} cells`);
    expect(lines[6]).toMatch(/^7,,,,,,merchantCategory: must have at most \d+ characters$/);
    expect(lines.join()).not.toContain('SECRET');
    expect(existsSync(at(`${name}.resume`))).toBe(false);
  }
  const reasons = (await linesOf('invalid-clear'))[2].split(',')[4];
  expect(reasons).toMatch(/^\S+( \S+)*$/);
  const encrypted = (await linesOf('invalid-encrypted'))[2].split(',');
  expect(encrypted[4]).toBe('');
});

test('a run in the clear that goes on decides no row twice', async () => {
  const stop = new AbortController();
  const wish: Partial<FileScoring> = { lines: 'json' };
  const first = await score('clear', csv(good), {
    ...wish,
    stop: stop.signal,
    onProgress: ({ done }) => done >= 10 && stop.abort(),
  });
  expect(first.complete).toBe(false);
  expect(existsSync(at('clear.resume'))).toBe(true);
  const after = await decisions();
  // The answers of the last three rows were lost, and one line is cut.
  const kept = (await linesOf('clear')).slice(0, -3);
  await writeFile(at('clear'), `${kept.join('\n')}\n{"line":`);
  const second = await score('clear', csv(good), { ...wish, resume: true });
  expect(second).toMatchObject({ rows: 40, resumed: kept.length, complete: true });
  expect((await decisions()) - after).toBe(40 - first.scored);
  const lines = (await linesOf('clear')).map((line) => JSON.parse(line));
  expect(lines.map(({ line }) => line)).toEqual(good.map((_, i) => i + 2));
});

test('a run goes on with its own input only, and overwrites nothing', async () => {
  const stop = new AbortController();
  const halfway: Partial<FileScoring> = { stop: stop.signal, onProgress: ({ done }) => done >= 5 && stop.abort() };
  await score('own', csv(good), halfway);
  await expect(score('own', csv(good))).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
  const other = score('own', csv(good.toReversed()), { resume: true });
  await expect(other).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('another content') });
  const mode = score('own', csv(good), { resume: true, scoring: 'encrypted' });
  await expect(mode).rejects.toMatchObject({ code: 'USAGE' });
  const lines = await linesOf('own');
  await writeFile(at('own'), [...lines.slice(0, 2), ...lines.slice(3), ''].join('\n'));
  const missing = score('own', csv(good), { resume: true });
  await expect(missing).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('another row') });
  await writeFile(at('foreign'), 'something else\n');
  await expect(score('foreign', csv(good), { resume: true })).rejects.toMatchObject({ code: 'USAGE' });
  expect(await readFile(at('foreign'), 'utf8')).toBe('something else\n');
});

test('a file that does not fit or ends too early costs nothing', async () => {
  const before = await decisions();
  const header = score('bad', csv(good).replace('amount', 'sum'));
  await expect(header).rejects.toMatchObject({
    code: 'FILE_HEADER_MISMATCH',
    issues: [{ field: 'amount', rule: 'column is absent' }],
  });
  const cut = score('bad', gzipSync(csv(good)).subarray(0, 200));
  await expect(cut).rejects.toMatchObject({ code: 'FILE_TRUNCATED' });
  expect(await decisions()).toBe(before);
  expect(existsSync(at('bad'))).toBe(false);
});

test('a limit in the middle keeps what was scored and tells how to go on', async () => {
  const limited = await newClient('limited');
  await limited.registerKey();
  const { vectors } = node.limits;
  Object.assign(node.limits, { vectors: 25 });
  const wish = { client: limited, scoring: 'encrypted', batch: 10, layout: 'row' } as const;
  try {
    await expect(score('limit', csv(good), wish)).rejects.toMatchObject({
      code: 'SERVICE_REFUSED',
      serviceCode: 'VECTOR_LIMIT',
      fix: expect.stringMatching(/--batch 5 .*20 of 40 rows are in .*limit; run the same with --resume/),
    });
  } finally {
    Object.assign(node.limits, { vectors });
  }
  expect(await linesOf('limit')).toHaveLength(21);
  expect(await score('limit', csv(good), { ...wish, resume: true })).toMatchObject({ resumed: 20, scored: 20 });
  expect((await linesOf('limit')).map((line) => line.split(',')[0])).toEqual([
    'line',
    ...good.map((_, i) => `${i + 2}`),
  ]);
});

test('a line is one line of CSV whatever a field is called', () => {
  const issues = [{ field: 'a "b"\nc', rule: 'must be one of 0, 1' }];
  expect(formatLine({ line: 7, issues }, 'csv')).toBe('7,,,,,,"a ""b"" c: must be one of 0, 1"\n');
});
