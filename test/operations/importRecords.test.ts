import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { commit } from '../../src/audit/entry.ts';
import { contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { connect } from '../../src/database/connection.ts';
import type { ContractFile } from '../../src/operations/contracts.ts';
import { type ImportReport, type ImportRequest, importRecords } from '../../src/operations/importRecords.ts';
import { simulateToFile } from '../../src/operations/simulate.ts';
import { subjectTags } from '../../src/operations/subjectTag.ts';
import { exampleDocument } from '../contract/example.ts';
import { usePostgres } from '../support/postgres.ts';
import { auditEntries, personalRows } from './audit.ts';
import { openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const header = 'customer,when,income,debt,purpose,employed,default';
const good = `${header}\nc1,2025-01-06T09:30:00Z,60,999,home,no,1\nc2,,500,5,car,yes,0\nc1,,10,,boat,TRUE,0\n`;

function contractFile(change: Record<string, unknown> = {}): ContractFile {
  const contract = parseContract({ ...exampleDocument(), ...change });
  return { contract, hash: contractHash(contract), path: 'loans.json' };
}

let folder: string;
let url: string;
let node: TestNode;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
  url = await postgres.freshDatabase();
  node = await openTestNode(url);
});
afterAll(async () => {
  await node?.close();
  await rm(folder, { recursive: true, force: true });
});

async function run(content: string | Uint8Array, request: Partial<ImportRequest> = {}): Promise<ImportReport> {
  const path = join(folder, 'rows.csv');
  await writeFile(path, content);
  return importRecords(node, { contractFile: contractFile(), path, ...request });
}

async function stored(name: string) {
  const dataset = await node.store.datasets.find(name);
  if (dataset === null) return null;
  const rows = await node.store.trainingData(dataset.id, layoutOf(contractFile().contract).sizes.length);
  return { dataset, rows };
}

describe('an import', () => {
  test('stores bins, labels and customer tags, and reports its counts', async () => {
    const report = await run(good.replace('boat,TRUE', 'boat,perhaps'), { dataset: 'first' });
    expect(report).toMatchObject({
      ...{ dataset: 'first', alreadyImported: false, read: 3, accepted: 2, rejected: 1, clamped: 1, positive: 1 },
      clampedByField: { income: 1 },
      firstRejects: [{ line: 4, issues: [{ field: 'employed' }] }],
    });
    const held = await stored('first');
    expect(held?.dataset).toMatchObject({ records: 2, contractHash: contractFile().hash });
    expect([...held!.rows.bins]).toEqual([2, 2, 1, 0, 3, 0, 0, 1]);
    expect([...held!.rows.labels]).toEqual([1, 0]);
    expect(Buffer.from(held!.rows.subjects.subarray(0, 32))).toEqual(subjectTags(node.subjectKey).ofCustomer('c1'));
  });

  test('gives a new data set the budget of the node', async () => {
    await run(good, { dataset: 'budgeted' });
    const held = await stored('budgeted');
    const totals = await node.store.ledger.totals(held!.dataset.id);
    expect(totals).toMatchObject({ budget: { epsilon: node.budget.epsilon, delta: node.budget.delta }, spent: 0 });
  });

  test('says in the log which data set and contract, and commits to counts and file', async () => {
    const report = await run(good, { dataset: 'logged' });
    const [entry] = await auditEntries(node, report.auditIndex!, 1);
    expect(entry.body).toMatchObject({ type: 'dataset.import', actor: 'node', outcome: 'ok' });
    expect(entry.body.details).toEqual({ dataset: 'logged', contractHash: contractFile().hash });
    const personal = await personalRows(node, report.auditIndex!);
    const opened = personal.map(({ name, value }) => [name, JSON.parse(Buffer.from(value).toString())]);
    expect(opened).toEqual([
      ['counts', { rowsRead: 3, rowsKept: 3, rowsBad: 0, clamped: 1 }],
      ['file', { fileSha256: report.fileSha256 }],
    ]);
    for (const { name, salt, value } of personal) {
      expect(salt).toHaveLength(32);
      expect(entry.body.commitments?.[name]).toBe(commit(salt, value));
    }
    expect(Object.keys(entry.body.commitments ?? {}).sort()).toEqual(['counts', 'file']);
    const { size } = await node.store.audit.head();
    for (const { body } of await auditEntries(node, 0, size)) {
      expect(JSON.stringify(body)).not.toMatch(/rowsRead|rowsKept|rowsBad|clamped|fileSha256/);
      expect(JSON.stringify(body)).not.toContain(report.fileSha256);
    }
  });

  test('of the same content, compressed or not, changes nothing', async () => {
    const once = await run(good, { dataset: 'twice' });
    const again = await run(gzipSync(good), { dataset: 'twice' });
    expect(again).toMatchObject({ alreadyImported: true, read: 3, accepted: 3, fileSha256: once.fileSha256 });
    expect((await stored('twice'))?.dataset.records).toBe(3);
  });

  test('of another file adds to the data set', async () => {
    await run(good, { dataset: 'more' });
    const second = await run(good.replaceAll('c1', 'c9'), { dataset: 'more' });
    expect(second).toMatchObject({ alreadyImported: false, accepted: 3 });
    expect((await stored('more'))?.dataset.records).toBe(6);
  });

  test('of another file without customer keys needs the statement that the files are disjoint', async () => {
    const request = { dataset: 'keyless', contractFile: contractFile({ subject: null }) };
    const [keyless, second, third] = [good, good.replace('60', '61'), good.replace('60', '62')].map((content) =>
      content.replaceAll(/^[^,]*,/gm, ''),
    );
    await run(keyless, request);
    expect(await run(keyless, request)).toMatchObject({ alreadyImported: true });
    const { size } = await node.store.audit.head();
    await expect(run(second, request)).rejects.toMatchObject({
      code: 'FILE_OVERLAP',
      fix: expect.stringContaining('--disjoint'),
    });
    expect((await node.store.audit.head()).size).toBe(size);
    expect((await stored('keyless'))?.dataset.records).toBe(3);
    const report = await run(second, { ...request, disjoint: true });
    expect((await stored('keyless'))?.dataset.records).toBe(6);
    const [entry] = await auditEntries(node, report.auditIndex!, 1);
    expect(entry.body.details.disjoint).toBe(true);
    // The statement is about one file: the next needs its own.
    await expect(run(third, request)).rejects.toMatchObject({ code: 'FILE_OVERLAP' });
    expect(await run(third, { ...request, dataset: 'keyless-2' })).toMatchObject({ accepted: 3 });
  });

  test('writes every rejected row where it is told to, without its cells', async () => {
    const rejectsPath = join(folder, 'rejects.jsonl');
    await run(good.replace('500', 'secret'), { dataset: 'rejects', rejectsPath });
    const lines = (await readFile(rejectsPath, 'utf8')).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      { line: 3, issues: [{ field: 'income', rule: 'must be a finite decimal number' }] },
    ]);
    await expect(run(good, { rejectsPath: join(folder, 'absent', 'x') })).rejects.toMatchObject({
      code: 'FILE_UNREADABLE',
    });
  });
});

describe('nothing is left of an import', () => {
  test.each([
    ['a cut file', good.slice(0, -10), 'FILE_TRUNCATED'],
    ['a cut compressed file', gzipSync(good).subarray(0, 60), 'FILE_TRUNCATED'],
    ['another header', good.replace('income', 'incomes'), 'FILE_HEADER_MISMATCH'],
    ['mostly bad rows', `${good}${'c7,,x,y,car,no,0\n'.repeat(9)}`, 'FILE_REJECTED'],
    ['no rows', `${header}\n`, 'FILE_REJECTED'],
  ])('from %s', async (_name, content, code) => {
    await expect(run(content, { dataset: 'bad' })).rejects.toMatchObject({ code });
    expect(await stored('bad')).toBeNull();
  });

  test('through another contract', async () => {
    await run(good, { dataset: 'kept' });
    await expect(run(good, { dataset: 'kept', contractFile: contractFile({ version: 2 }) })).rejects.toMatchObject({
      code: 'CONTRACT_HASH_MISMATCH',
    });
    expect((await stored('kept'))?.dataset.records).toBe(3);
  });

  test('whose process was killed half way; the next one then imports everything', async () => {
    const path = join(folder, 'synthetic-a.csv');
    await simulateToFile({ seed: 1, bank: 'a', rows: 60_000, out: path });
    const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
    const database = await postgres.freshDatabase();
    const args = [
      join(import.meta.dirname, 'importChild.ts'),
      database,
      Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64'),
      Buffer.from(await crypto.subtle.exportKey('raw', keys.publicKey)).toString('base64'),
      path,
    ];
    const start = () => {
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      const said: string[] = [];
      child.stdout.on('data', (chunk) => said.push(...String(chunk).trim().split('\n')));
      return { child, said, exited: once(child, 'close') };
    };

    const killed = start();
    await Promise.race([once(killed.child.stdout, 'data'), killed.exited]);
    killed.child.kill('SIGKILL');
    await killed.exited;
    expect(killed.said).toEqual(['half']);
    const client = await connect(database);
    try {
      for (const table of ['datasets', 'imports', 'records', 'budgets', 'audit_entries']) {
        const { rows } = await client.query(`SELECT count(*)::int AS rows FROM ${table}`);
        expect({ table, ...rows[0] }).toEqual({ table, rows: 0 });
      }
    } finally {
      await client.end();
    }

    for (const alreadyImported of [false, true]) {
      const next = start();
      await next.exited;
      expect(JSON.parse(next.said.at(-1)!)).toEqual({ accepted: 60_000, alreadyImported });
    }
  });
});
