/**
 * The caller's command line as a partner runs it: real processes of `veilrisk` against a served node on PostgreSQL, from
 * the first key to a revoked one, with a process that is killed in the middle of a file.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { binRecord } from '../../src/contract/contract.ts';
import { logitOf, modelHash, riskScore } from '../../src/learning/scorecard.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');
const ROWS = 300;
const PASSPHRASE = 'correct horse battery staple';

const postgres = usePostgres();
const model = trainedModel();
const { records } = simulated(ROWS, 31);
const names = Object.keys(records[0]);
let folder: string;
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let apiKey: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-caller-'));
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  await adoptModel(node, { contract, model, actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  ({ key: apiKey } = await createApiKey(node, { name: 'partner', scopes: ['score', 'keys', 'models'], actor: 'test' }));
  await writeFile(at('api-key'), `${apiKey}\n`);
  await writeFile(at('passphrase'), `${PASSPHRASE}\n`);
  await pool.warmed;
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
  await rm(folder, { recursive: true, force: true });
});

const at = (name: string) => join(folder, name);
const csv = (rows: readonly (typeof records)[number][]) =>
  [names.join(','), ...rows.map((row) => names.map((name) => row[name] ?? '').join(','))].join('\n').concat('\n');

interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

/** Runs the command as a process. @param watch called while it runs; true sends the signal */
function veilrisk(args: readonly string[], signal?: { name: NodeJS.Signals; when: () => boolean }): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: folder,
    env: {
      ...{ PATH: process.env.PATH, VEILRISK_URL: api.url, VEILRISK_LOG_LEVEL: 'silent' },
      ...(args[0] === 'keys' && args[1] === 'create' ? { VEILRISK_PASSPHRASE: PASSPHRASE } : {}),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const printed = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    printed.err += text;
  });
  const watching = setInterval(() => {
    if (signal?.when() !== true) return;
    clearInterval(watching);
    child.kill(signal.name);
  }, 2);
  return new Promise((done) =>
    child.once('close', (code) => {
      clearInterval(watching);
      done({ code, ...printed });
    }),
  );
}

const byKeyFile = ['--api-key-file', 'api-key'];
const encrypted = (key: string) => ['--encrypted', '--key', key, '--passphrase-file', 'passphrase', ...byKeyFile];
const lineCount = (name: string) => (existsSync(at(name)) ? readFileSync(at(name), 'utf8').split('\n').length - 1 : 0);

test('a partner makes a key, scores a file over a crash, replaces the key and ends it', async () => {
  const created = await veilrisk(['keys', 'create', 'caller.vrk']);
  expect(created).toMatchObject({ code: 0, out: expect.stringMatching(/^[0-9a-f]{64}\n$/) });
  expect(statSync(at('caller.vrk')).mode & 0o777).toBe(0o600);
  const keyId = created.out.trim();
  const registered = await veilrisk(['keys', 'register', 'caller.vrk', '--days', '30', ...byKeyFile]);
  expect(registered).toMatchObject({ code: 0, out: expect.stringContaining(`registered ${keyId}, usable until`) });

  await writeFile(at('rows.csv'), csv(records));
  const score = ['score', 'rows.csv', ...encrypted('caller.vrk'), '--batch', '12', '--out', 'scores.csv'];
  const killed = await veilrisk(score, { name: 'SIGKILL', when: () => lineCount('scores.csv') > 60 });
  expect(killed.code).toBeNull();
  const before = lineCount('scores.csv');
  expect(before).toBeGreaterThan(60);
  expect(before).toBeLessThan(ROWS);
  // As a process that died in the middle of a write leaves it.
  await writeFile(at('scores.csv'), `${await readFile(at('scores.csv'), 'utf8')}${before + 1},73`);

  const stopped = await veilrisk([...score, '--resume'], {
    name: 'SIGINT',
    when: () => lineCount('scores.csv') > before + 24,
  });
  expect({ code: stopped.code, err: stopped.err }).toEqual({
    code: 130,
    err: expect.stringMatching(/go on with --resume/),
  });
  const resumed = await veilrisk([...score, '--resume']);
  expect({ code: resumed.code, err: resumed.err }).toEqual({
    code: 0,
    err: expect.stringMatching(/rows had been done before/),
  });
  expect(existsSync(at('scores.csv.resume'))).toBe(false);
  expect(resumed.err + stopped.err + killed.err).not.toContain(PASSPHRASE);

  const [head, ...lines] = (await readFile(at('scores.csv'), 'utf8')).trimEnd().split('\n');
  expect(head).toBe('line,score,probability,decision,reasons,model,issues');
  expect(lines).toHaveLength(ROWS);
  for (const [i, line] of lines.entries()) {
    const [number, points, , decision, , hash] = line.split(',');
    expect([Number(number), hash]).toEqual([i + 2, modelHash(model)]);
    // An error of 2e-3 in the logit moves a score by less than a point.
    const exact = riskScore(model, logitOf(model, binRecord(contract, records[i]).bins));
    expect(Math.abs(Number(points) - exact)).toBeLessThanOrEqual(1);
    expect(['approve', 'review', 'decline']).toContain(decision);
  }

  const rotated = await veilrisk([
    ...['keys', 'rotate', 'caller.vrk', 'next.vrk', '--grace-hours', '1', '--json'],
    ...['--passphrase-file', 'passphrase', ...byKeyFile],
  ]);
  expect(rotated.code).toBe(0);
  const rotation = JSON.parse(rotated.out);
  expect(rotation.replaced).toMatchObject({ keyId, replacedBy: rotation.key.keyId, standing: 'usable' });
  // The same again uses the file that is there, needs no passphrase, and changes nothing.
  const again = await veilrisk(['keys', 'rotate', 'caller.vrk', 'next.vrk', '--json', ...byKeyFile]);
  expect(JSON.parse(again.out).replaced).toEqual(rotation.replaced);

  const revoked = await veilrisk(['keys', 'revoke', 'next.vrk', ...byKeyFile]);
  expect(revoked).toMatchObject({ code: 0, out: expect.stringContaining(`revoked ${rotation.key.keyId}`) });
  const listed = await veilrisk(['keys', 'list', '--json', ...byKeyFile]);
  expect(JSON.parse(listed.out)).toMatchObject([
    { keyId: rotation.key.keyId, standing: 'revoked' },
    { keyId, standing: 'usable' },
  ]);
  const refused = await veilrisk(['score', 'rows.csv', ...encrypted('next.vrk')]);
  expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('error SERVICE_REFUSED (KEY_REVOKED)') });
}, 60_000);
