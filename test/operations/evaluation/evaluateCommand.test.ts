/** `veilrisk evaluate` as a process of its own: the JSON, the warning, the refusals, and Ctrl-C. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { COLUMNS, csvOf, madeContract, madeRows } from './made.ts';

const MAIN = join(import.meta.dirname, '../../../src/main.ts');
const KEYS = ['family', 'mode', 'sites', 'epsilon', 'delta', 'aucMean', 'aucSd', 'fitSecondsMean'];
const PROCESS_MS = 60_000;

let folder: string;
const running = new Set<ChildProcess>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
  await writeFile(join(folder, 'made.json'), JSON.stringify(madeContract()));
  await writeFile(join(folder, 'made.csv'), csvOf(madeRows(400, 160)));
  await writeFile(join(folder, 'made.csv.gz'), gzipSync(csvOf(madeRows(400, 160))));
});
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** Runs the command; `onErr` sees standard error as it grows. */
function run(args: string[], onErr: (text: string, child: ChildProcess) => void = () => {}): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, 'evaluate', '--contract', join(folder, 'made.json'), ...args]);
  running.add(child);
  const ended: Ended = { code: null, out: '', err: '' };
  child.stdout.on('data', (chunk) => {
    ended.out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    ended.err += chunk;
    onErr(ended.err, child);
  });
  return new Promise((done) => {
    child.on('close', (code) => {
      running.delete(child);
      done({ ...ended, code });
    });
  });
}

describe('veilrisk evaluate', () => {
  test(
    'measures every family, mode and epsilon, and writes exactly the documented JSON',
    async () => {
      const out = join(folder, 'all.json');
      const lists = ['--family', 'scorecard,adassp,logistic,mlp', '--mode', 'single,site,sum', '--epsilon', '2,8'];
      const data = ['--data', join(folder, 'made.csv.gz'), '--json', out];
      const {
        code,
        err,
        out: printed,
      } = await run([...data, ...lists, '--sites', '3', '--splits', '2', '--jobs', '2']);
      expect({ code, errors: err.includes('error') }).toEqual({ code: 0, errors: false });
      const results = JSON.parse(await readFile(out, 'utf8'));
      expect(results).toHaveLength(24);
      for (const line of results) {
        expect(Object.keys(line)).toEqual(KEYS);
        const { family, mode, ...numbers } = line;
        expect(Object.values(numbers).every((value) => typeof value === 'number' && Number.isFinite(value))).toBe(true);
        expect(line.sites).toBe(mode === 'single' ? 1 : 3);
        expect(line.delta).toBe(1e-6);
        expect(line.aucMean > 0 && line.aucMean < 1 && line.aucSd >= 0 && line.fitSecondsMean > 0).toBe(true);
        expect(printed).toContain(family);
      }
      expect(new Set(results.map((line: typeof results) => `${line.family} ${line.mode} ${line.epsilon}`)).size).toBe(
        24,
      );
      expect(printed).toMatch(/^NOT PRIVATE: for researchers\./);
      expect(err).toMatch(/^NOT PRIVATE: for researchers\./);
      expect(printed).toContain('SYNTHETIC');
      expect(printed).toContain('no privacy');
      expect(err).toContain('read 400 rows of 160 customers');
      // Two of each customer's two or three rows.
      expect(err).toContain('320 may be trained on');
      expect((await readdir(folder)).filter((name) => name.includes('partial'))).toEqual([]);
    },
    PROCESS_MS,
  );

  test(
    'with much budget it finds what explains the label',
    async () => {
      await writeFile(join(folder, 'large.csv'), csvOf(madeRows(4000, 4000)));
      const out = join(folder, 'large.json');
      const options = ['--epsilon', '20', '--splits', '2', '--no-reference', '--family', 'scorecard,adassp'];
      const { code, out: printed } = await run(['--data', join(folder, 'large.csv'), '--json', out, ...options]);
      expect(code).toBe(0);
      expect(printed).not.toContain('no privacy');
      // Best possible: the label depends on whether the age is below 40, about a quarter of all.
      for (const { aucMean } of JSON.parse(await readFile(out, 'utf8'))) expect(aucMean).toBeGreaterThan(0.68);
    },
    PROCESS_MS,
  );

  test.each<[name: string, code: number, told: string, args: () => Promise<string[]>]>([
    ['a bad row', 1, 'line 4, age: must be a finite decimal number', () => withData((rows) => (rows[2][2] = 'old'))],
    ['a missing column', 1, 'default: column is absent', () => withData(() => {}, COLUMNS.slice(0, 5))],
    [
      'one label only',
      1,
      'Every row has the negative label',
      () => withData((rows) => void rows.map((row) => row.splice(5, 1, '0'))),
    ],
    [
      'an unknown family',
      2,
      '"forest" is not known',
      async () => ['--data', join(folder, 'made.csv'), '--family', 'forest'],
    ],
    [
      'a bad epsilon',
      2,
      '"half" is not a number',
      async () => ['--data', join(folder, 'made.csv'), '--epsilon', '1,half'],
    ],
  ])(
    'refuses %s and leaves the results that were there',
    async (_name, status, told, args) => {
      const out = join(folder, 'kept.json');
      await writeFile(out, 'kept');
      const { code, err, out: printed } = await run([...(await args()), '--splits', '1', '--json', out]);
      expect(err).toContain(told);
      expect(err).toContain('fix:');
      expect({ code, printed }).toEqual({ code: status, printed: '' });
      expect(await readFile(out, 'utf8')).toBe('kept');
    },
    PROCESS_MS,
  );

  test(
    'refuses to start when the results cannot be written',
    async () => {
      const out = join(folder, 'absent', 'out.json');
      const { code, err } = await run(['--data', join(folder, 'made.csv'), '--json', out]);
      expect(code).toBe(1);
      expect(err).toContain('The results cannot be written here');
      expect(err).not.toContain('read ');
    },
    PROCESS_MS,
  );

  test(
    'Ctrl-C ends it at once and nothing is written',
    async () => {
      const out = join(folder, 'stopped.json');
      // Hours of work, ended in the middle of a fit.
      const args = ['--data', join(folder, 'made.csv'), '--splits', '500', '--family', 'mlp,scorecard', '--json', out];
      let interrupted = false;
      const { code, err } = await run(args, (text, child) => {
        if (interrupted || !text.includes('read ')) return;
        interrupted = true;
        setTimeout(() => child.kill('SIGINT'), 500);
      });
      expect({ code, interrupted }).toEqual({ code: 130, interrupted: true });
      expect(err).toContain('stopped; nothing was written');
      expect((await readdir(folder)).filter((name) => name.startsWith('stopped'))).toEqual([]);
    },
    PROCESS_MS,
  );
});

/** The made rows, changed, in a file of their own; fewer columns when `header` says so. */
async function withData(change: (rows: string[][]) => void, header = COLUMNS): Promise<string[]> {
  const rows = madeRows(200, 80);
  change(rows);
  const path = join(folder, 'changed.csv');
  await writeFile(
    path,
    csvOf(
      rows.map((row) => row.slice(0, header.length)),
      header,
    ),
  );
  return ['--data', path];
}
