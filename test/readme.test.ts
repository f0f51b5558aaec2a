/** What the README promises a newcomer exists: its links, its npm scripts, and every verb of the command line. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from '@jest/globals';
import { binRecord, parseContract } from '../src/contract/contract.ts';

const root = resolve(import.meta.dirname, '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };

function veilrisk(...args: string[]): string {
  return execFileSync(process.execPath, [join(root, 'src/main.ts'), ...args], { encoding: 'utf8', stdio: 'pipe' });
}

test('every link leads to a file', () => {
  const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)]
    .map(([, link]) => link)
    .filter((link) => !/^https?:/.test(link));
  expect(links.length).toBeGreaterThan(5);
  expect(links.filter((link) => !existsSync(join(root, link)))).toEqual([]);
});

test('every npm command is a script', () => {
  const used = [...readme.matchAll(/npm (?:run ([a-z:]+)|(test))/g)].map(([, script, test]) => script ?? test);
  expect(used).toEqual(expect.arrayContaining(['demo', 'test', 'veilrisk']));
  expect(used.filter((name) => !(name in scripts))).toEqual([]);
});

test('the transaction of the curl example fits the demo contract', () => {
  const body = /-d '(\{.*\})'/.exec(readme)?.[1] ?? '';
  const { transaction } = JSON.parse(body) as { transaction: Record<string, unknown> };
  const contract = parseContract(JSON.parse(readFileSync(join(root, 'contracts/demo-transactions.json'), 'utf8')));
  expect(binRecord(contract, transaction).clamped).toEqual([]);
});

test('every verb of the table explains itself, and no verb is missing', () => {
  const section = readme.slice(readme.indexOf('## The command line'), readme.indexOf('### A consortium'));
  const rows = [...section.matchAll(/^\| `([a-z-]+)(?: ([a-z, -]+))?` \|/gm)].map(([, verb, subverbs]) => ({
    verb,
    subverbs: subverbs?.split(', ') ?? [],
  }));
  const listed = [...veilrisk('--help').matchAll(/^ {2}([a-z-]+)(?: \[options\])?(?: <[a-z]+>)? {2,}/gm)].map(
    ([, verb]) => verb,
  );
  expect(rows.map(({ verb }) => verb).sort()).toEqual(listed.filter((verb) => verb !== 'help').sort());
  for (const { verb, subverbs } of rows) {
    const help = veilrisk(verb, '--help');
    for (const subverb of subverbs) {
      expect(help).toContain(subverb);
      expect(veilrisk(verb, subverb, '--help')).toContain('Example');
    }
    if (subverbs.length === 0) expect(help).toContain('Example');
  }
}, 60_000);

test('a wrong verb or option is refused with what is right', () => {
  for (const args of [['tarin'], ['demo', '--bank', '3'], ['node', 'start', '--port', 'eighty']]) {
    expect(() => veilrisk(...args)).toThrow(/error: /);
  }
});
