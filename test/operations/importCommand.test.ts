import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { registerImport } from '../../src/commands/import.ts';
import { exampleDocument } from '../contract/example.ts';
import { usePostgres } from '../support/postgres.ts';
import { openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const header = 'customer,when,income,debt,purpose,employed,default';
let folder: string;
let node: TestNode;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
  node = await openTestNode(await postgres.freshDatabase());
  await writeFile(join(folder, 'loans.json'), JSON.stringify(exampleDocument()));
  await writeFile(join(folder, 'keyless.json'), JSON.stringify({ ...exampleDocument(), subject: null }));
});

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await node?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Runs `veilrisk import` on the node with a terminal on neither stream; gives what it printed. */
async function run(content: string, ...args: string[]): Promise<{ out: string; err: string }> {
  const printed = { out: '', err: '' };
  const isTTY = Object.getOwnPropertyDescriptor(process.stderr, 'isTTY');
  Object.defineProperty(process.stderr, 'isTTY', { value: false, configurable: true });
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed.out += text;
    return true;
  });
  jest.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed.err += text;
    return true;
  });
  const path = join(folder, 'rows.csv');
  await writeFile(path, content);
  const program = new Command('veilrisk').exitOverride();
  registerImport(program, async () => ({ ...node, close: async () => {} }));
  for (const command of program.commands) command.exitOverride();
  try {
    await program.parseAsync(['import', '--data', path, ...args], { from: 'user' });
  } finally {
    // Safe: the property is configurable, and on a stream that is no terminal there was none.
    Reflect.deleteProperty(process.stderr, 'isTTY');
    if (isTTY !== undefined) Object.defineProperty(process.stderr, 'isTTY', isTTY);
  }
  return printed;
}

const rows = (good: number, bad: number) =>
  [
    header,
    ...Array.from({ length: good }, (_, i) => `c${i},,${i},5,car,yes,${i % 2}`),
    ...Array.from({ length: bad }, (_, i) => `b${i},,secret,5,car,yes,0`),
    '',
  ].join('\n');

describe('veilrisk import', () => {
  test('tells a person what was read, and the first rejected rows without their cells', async () => {
    const rejects = join(folder, 'rejects.jsonl');
    const args = ['--contract', join(folder, 'loans.json'), '--dataset', 'told', '--rejects', rejects];
    const { out, err } = await run(rows(1_200, 25), ...args);
    expect(err).toBe('');
    const lines = out.split('\n');
    expect(lines[0]).toBe(`rejected rows, the first 20 of 25 (all in ${rejects}):`);
    expect(lines[1]).toBe('  line 1202: income: must be a finite decimal number');
    expect(lines.filter((line) => line.startsWith('  line '))).toHaveLength(20);
    expect(out).toContain('\n\nimported into data set told');
    expect(out).toContain('\nrows      1,225 read, 1,200 accepted, 25 rejected\nlabel     600 positive\n');
    expect(out).not.toContain('secret');
    expect((await readFile(rejects, 'utf8')).trim().split('\n')).toHaveLength(25);
  });

  test('with --json prints one JSON object and nothing else', async () => {
    const { out, err } = await run(
      rows(3, 1),
      ...['--contract', join(folder, 'loans.json'), '--dataset', 'json', '--json'],
    );
    expect(err).toBe('');
    expect(out.indexOf('\n')).toBe(out.length - 1);
    expect(JSON.parse(out)).toMatchObject({ dataset: 'json', accepted: 3, rejected: 1, alreadyImported: false });
  });

  test('takes a second file without customer keys with --disjoint only', async () => {
    const args = ['--contract', join(folder, 'keyless.json'), '--dataset', 'keyless'];
    const keyless = (count: number) => rows(count, 0).replaceAll(/^[^,\n]*,/gm, '');
    await run(keyless(3), ...args);
    await expect(run(keyless(4), ...args)).rejects.toMatchObject({ code: 'FILE_OVERLAP' });
    expect((await run(keyless(4), ...args, '--disjoint')).out).toContain('4 accepted');
  });
});
