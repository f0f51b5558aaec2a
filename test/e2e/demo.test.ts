/**
 * `veilrisk demo` as a person runs it, on less data: the whole main job on real processes, its JSON, what it refuses, and
 * that nothing stays behind when it ends or is interrupted.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { DemoResult } from '../../src/operations/demo/run.ts';

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');
const TAIWAN = resolve(import.meta.dirname, '../../../shared/data/taiwan/taiwan.csv.gz');

/** Everything runs in a directory of its own, temporary files included, so that leftovers can be told apart. */
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'veilrisk-demo-test-'));
  // As root, the database runs as another user, who has to get in.
  await chmod(home, 0o711);
});
afterAll(async () => {
  await rm(home, { recursive: true, force: true });
});

interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

function veilrisk(args: readonly string[], interruptWhen?: RegExp): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: home,
    env: { ...process.env, TMPDIR: home, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  let interrupted = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    if (interruptWhen?.test(out) && !interrupted) {
      interrupted = true;
      child.kill('SIGINT');
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  return new Promise((done) => child.once('close', (code) => done({ code, out, err })));
}

/**
 * Processes that work in our directory or name it in their command line: nodes, aggregators, commands and database
 * servers alike. Told on Linux only.
 */
function survivors(): string[] {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return `${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')} in ${readlinkSync(`/proc/${pid}/cwd`)}`;
      } catch {
        return '';
      }
    })
    .filter((process) => process.includes(home));
}

test('runs the whole main job and leaves nothing running', async () => {
  const json = join(home, 'demo.json');
  const { code, out, err } = await veilrisk(['demo', '--banks', '3', '--rows', '9000', '--json', json]);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  const result = JSON.parse(await readFile(json, 'utf8')) as DemoResult;
  expect(result.banks.map(({ name }) => name)).toEqual(['bank-a', 'bank-b', 'bank-c']);
  for (const auc of [result.aucFederated, result.aucPooledNonPrivate, ...result.banks.map((bank) => bank.aucAlone)]) {
    expect(auc).toBeGreaterThan(0);
    expect(auc).toBeLessThanOrEqual(1);
  }
  // Noise decides the private figures on so little data; the reference without privacy has none.
  expect(result.aucPooledNonPrivate).toBeGreaterThan(0.8);
  expect(result).toMatchObject({ epsilon: 1, delta: 1e-6 });
  // The whole budget is planned, but for what the noise of several banks has over in whole numbers.
  expect(result.losses.aggregator).toBeGreaterThan(0.998);
  expect(result.losses.aggregator).toBeLessThanOrEqual(1);
  expect(result.losses.readers).toBeGreaterThan(0.6);
  expect(result.losses.readers).toBeLessThan(0.85);
  expect(out).toMatch(/evaluated on the 10 % of the customers of 3 sites/);
  expect(result.rounds).toBeGreaterThan(0);
  expect(result.encrypted.rowMaxLogitError).toBeGreaterThan(0);
  expect(result.encrypted.rowMaxLogitError).toBeLessThanOrEqual(2e-3);
  expect(result.encrypted.columnMaxLogitError).toBeGreaterThan(0);
  expect(result.encrypted.columnMaxLogitError).toBeLessThanOrEqual(2e-3);
  expect(result.encrypted.streamed).toBe(4096);
  expect(result.encrypted.streamedPerSecond).toBeGreaterThan(0);
  expect(out).toMatch(/metered: [\d,]+ of 1,000,000 vectors/);
  expect(out).toContain('revoked: KEY_REVOKED');
  expect(result.audit.verified).toBe(result.audit.entries);
  // A thousand decisions and every release of every bank are in the logs.
  expect(result.audit.entries).toBeGreaterThan(1000 + 3 * 2 * result.rounds);
  expect(out).toContain('BUDGET_EXHAUSTED');
  expect(out).toContain('RECORD_INVALID');
  expect(out).toContain('synthetic');
  expect(survivors()).toEqual([]);

  const log = join(home, '.veilrisk/demo/bank-a.log');
  const verified = await veilrisk(['audit', 'verify', log]);
  expect(verified.code).toBe(0);
  const tampered = (await readFile(log, 'utf8')).replace('"outcome":"approve"', '"outcome":"decline"');
  await writeFile(log, tampered);
  const refused = await veilrisk(['audit', 'verify', log]);
  expect(refused.code).toBe(1);
  expect(refused.err).toContain('AUDIT_LOG_TAMPERED');
}, 300_000);

test.each([
  ['while the banks import', /Start the aggregator/],
  ['while they train', /Train one scorecard/],
])(
  'Ctrl-C stops every part %s',
  async (_when, reached) => {
    const { code } = await veilrisk(['demo', '--banks', '2', '--rows', '2000'], reached);
    expect(code).toBe(130);
    expect(survivors()).toEqual([]);
  },
  120_000,
);

test('refuses what it cannot run, before anything starts', async () => {
  const alone = await veilrisk(['demo', '--data', 'transactions.csv']);
  expect(alone.code).toBe(2);
  expect(alone.err).toContain('error USAGE: --data and --contract belong together');

  const missing = await veilrisk(['demo', '--data', 'nowhere.csv', '--contract', 'taiwan']);
  expect(missing.code).toBe(1);
  expect(missing.err).toContain('error FILE_UNREADABLE');

  await writeFile(join(home, 'cut.csv.gz'), gzipSync('ID,LIMIT_BAL\n'.repeat(1000)).subarray(0, 60));
  const cut = await veilrisk(['demo', '--data', 'cut.csv.gz', '--contract', 'taiwan']);
  expect(cut.code).toBe(1);
  expect(cut.err).toContain('error FILE_TRUNCATED');
  expect(survivors()).toEqual([]);
}, 60_000);

const onRealData = existsSync(TAIWAN) && process.env.VEILRISK_LONG === '1' ? test : test.skip;
onRealData(
  `runs on real data (npm run test:long, and ${TAIWAN})`,
  async () => {
    const json = join(home, 'taiwan.json');
    const { code, err } = await veilrisk(['demo', '--data', TAIWAN, '--contract', 'taiwan', '--json', json]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const result = JSON.parse(await readFile(json, 'utf8')) as DemoResult;
    // The mean over the noise is .761 with a standard deviation of .003; below .745 is a false alarm of less than 1e-6.
    expect(result.aucFederated).toBeGreaterThan(0.745);
    expect(result.encrypted.rowMaxLogitError).toBeLessThanOrEqual(2e-3);
    expect(result.encrypted.columnMaxLogitError).toBeLessThanOrEqual(2e-3);
  },
  300_000,
);
