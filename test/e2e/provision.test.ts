/**
 * Enrolment, revocation and rotation with real processes: an aggregator and banks that run throughout, the operator and the
 * members typing the verbs of the guide. What each process then does is read from its events, its log and its audit log.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parseRoster } from '../../federated/protocol/roster.ts';
import { openSupervisor, type Part, type PartEvent, type Supervisor } from '../../src/operations/demo/supervisor.ts';
import { usePostgres } from '../support/postgres.ts';

const WAIT_MS = 40_000;
const postgres = usePostgres();
const unexpected: unknown[] = [];
let workspace: string;
let supervisor: Supervisor;
let aggregator: Part;
let url: string;
let runs = 0;

const at = (name: string) => join(workspace, name);
const dirOf = (name: string) => at(name);
const databases = new Map<string, string>();

/** One command as a person types it; rejects with its last words. */
const veilrisk = (...args: string[]) => supervisor.run(`run-${++runs}`, args);
const provision = (verb: string, ...args: string[]) => veilrisk('provision', verb, ...args);
const ca = (verb: string, ...args: string[]) =>
  provision(verb, '--ca-dir', at('ca'), '--out', at('roster.json'), '--json', ...args);
const join_ = (name: string, ...args: string[]) =>
  provision('join', '--data-dir', dirOf(name), '--roster', at('roster.json'), ...args);
const health = (name: string) => veilrisk('aggregator', 'health', '--data-dir', dirOf(name), '--aggregator', url);
const inForce = (version: number) => (event: PartEvent) => event.event === 'roster' && event.version === version;

async function startBank(name: string): Promise<Part> {
  const database = databases.get(name) ?? (await postgres.freshDatabase());
  databases.set(name, database);
  const part = supervisor.start(name, [
    ...['node', 'start', '--data-dir', dirOf(name), '--database-url', database],
    ...['--port', '0', '--aggregator', url, '--progress-json'],
  ]);
  await part.waitFor(({ event }) => event === 'ready', WAIT_MS);
  return part;
}

/** Until the log of a part holds a text; the last lines tell when it does not come. */
async function logged(part: Part, text: string): Promise<string> {
  const end = performance.now() + WAIT_MS;
  for (;;) {
    const log = await readFile(part.logFile, 'utf8');
    if (log.includes(text)) return log;
    if (performance.now() > end) throw new TypeError(`${part.name} did not log "${text}": ${log.slice(-2000)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'veilrisk-enrol-'));
  supervisor = openSupervisor(workspace, (error) => unexpected.push(error));
  const founded = await provision(
    'init',
    '--ca-dir',
    at('ca'),
    '--consortium',
    'E2E',
    '--minimum-quorum',
    '2',
    '--json',
  );
  const { fingerprint } = JSON.parse(founded) as { fingerprint: string };
  const banks = ['bank-a', 'bank-b', 'bank-c'];
  await Promise.all([
    provision('site', '--aggregator', '--data-dir', dirOf('aggregator'), '--out', at('aggregator.json')),
    ...banks.map((name) => provision('site', '--data-dir', dirOf(name), '--name', name, '--out', at(`${name}.json`))),
  ]);
  await ca('sign', ...['aggregator', ...banks].map((name) => at(`${name}.json`)));
  await Promise.all(['aggregator', ...banks].map((name) => join_(name, '--operator-fingerprint', fingerprint)));
  aggregator = supervisor.start('aggregator', [
    ...['aggregator', 'start', '--data-dir', dirOf('aggregator'), '--database-url', await postgres.freshDatabase()],
    ...['--port', '0', '--progress-json'],
  ]);
  url = String((await aggregator.waitFor(({ event }) => event === 'ready', WAIT_MS)).url);
}, 120_000);

afterAll(async () => {
  await supervisor.stopAll();
  await rm(workspace, { recursive: true, force: true });
});

test('a revoked bank is cut off at once, and the plan under way ends', async () => {
  const bank = await startBank('bank-c');
  await logged(bank, 'connected to the aggregator');
  // Two banks have not answered yet, so it stays open.
  const operator = [
    '--roster',
    at('roster.json'),
    '--operator-key',
    join(at('ca'), 'operator.pem'),
    '--aggregator',
    url,
  ];
  const proposed = await veilrisk('train', 'propose', ...operator, '--contract', 'taiwan', '--quorum', '2', '--json');
  const { planId } = JSON.parse(proposed) as { planId: string };

  await ca('revoke', '--site', 'bank-c');
  await join_('aggregator');
  await aggregator.waitFor(inForce(2), WAIT_MS);
  expect(await logged(bank, 'CERTIFICATE_REFUSED')).toContain('The certificate was revoked or replaced.');
  await expect(health('bank-c')).rejects.toThrow(/CERTIFICATE_REFUSED: The certificate was revoked or replaced/);
  // Its own copy of the roster still lists it, and the new one it cannot follow: it is not in it.
  await expect(join_('bank-c')).rejects.toThrow(/ROSTER_INVALID: The roster does not list the identity key/);

  const ended = await aggregator.waitFor(({ event, state }) => event === 'plan' && state === 'aborted', WAIT_MS);
  expect(ended).toMatchObject({ plan: planId, code: 'ROSTER_INVALID' });
  // Its own customers are scored all the same: the process goes on.
  expect(unexpected).toEqual([]);
  bank.kill('SIGTERM');
  expect(await bank.ended).toBe(0);
}, 120_000);

test('a running bank takes newer rosters up, and its audit log says so', async () => {
  const bank = await startBank('bank-a');
  await bank.waitFor(inForce(1), WAIT_MS);
  // Its signatures are under the old roster.
  await logged(bank, 'MESSAGE_SIGNATURE');
  await join_('bank-a');
  await bank.waitFor(inForce(2), WAIT_MS);
  await logged(bank, 'connected to the aggregator');
  await health('bank-a');

  // New TLS keys, for the bank and for the aggregator, in one roster.
  const rotated = ['--rotate', '--out', at('rotation.json')];
  await provision('site', '--data-dir', dirOf('bank-a'), ...rotated);
  await ca('rotate', at('rotation.json'));
  await provision('site', '--aggregator', '--data-dir', dirOf('aggregator'), ...rotated);
  await ca('rotate', at('rotation.json'));
  const { version, revoked } = parseRoster(JSON.parse(await readFile(at('roster.json'), 'utf8')));
  expect([version, revoked.length]).toEqual([4, 3]);
  await Promise.all([join_('aggregator'), join_('bank-a')]);
  aggregator.kill('SIGHUP');
  await Promise.all([aggregator.waitFor(inForce(4), WAIT_MS), bank.waitFor(inForce(4), WAIT_MS)]);
  await health('bank-a');
  await health('aggregator');
  // A bank that has not followed pins the old certificate, and does not talk to the new one.
  await expect(health('bank-b')).rejects.toThrow(/AGGREGATOR_UNREACHABLE/);

  bank.kill('SIGTERM');
  expect(await bank.ended).toBe(0);
  const database = databases.get('bank-a') ?? '';
  await veilrisk(
    'audit',
    'export',
    '--data-dir',
    dirOf('bank-a'),
    '--database-url',
    database,
    '--out',
    at('bank-a.audit'),
  );
  const log = await readFile(at('bank-a.audit'), 'utf8');
  const accepted = [...log.matchAll(/"type":"roster\.accepted"/g)];
  expect(accepted).toHaveLength(3);
  for (const number of [1, 2, 4]) expect(log).toContain(`"version":${number}}`);
  await veilrisk('audit', 'verify', at('bank-a.audit'));
}, 120_000);

test('no process has written a private key anywhere but into its own directory', async () => {
  const keys = await Promise.all(
    [
      'ca/authority-key.pem',
      'ca/operator.pem',
      'ca/operator-tls.pem',
      'bank-a/identity.pem',
      'bank-a/identity-tls.pem',
    ].map(async (file) => (await readFile(at(file), 'utf8')).split('\n')[1]),
  );
  for (const file of ['aggregator.log', 'bank-a.log', 'bank-c.log', 'roster.json', 'bank-a.json', 'rotation.json']) {
    const text = await readFile(at(file), 'utf8');
    expect(text).not.toContain('PRIVATE KEY');
    for (const key of keys) expect(text).not.toContain(key);
  }
});
