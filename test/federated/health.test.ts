/** `aggregator health` as an operator and a container run it: a process of its own against a real server. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { initAggregator, openInstallation } from '../../federated/aggregator/installation.ts';
import { type Aggregator, startAggregator } from '../../federated/aggregator/server.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { parseRoster, type Roster, rosterHash } from '../../federated/protocol/roster.ts';
import { usePostgres } from '../support/postgres.ts';
import { quiet } from './consortium.ts';

const main = join(import.meta.dirname, '../../src/main.ts');
const postgres = usePostgres();
let directory: string;
let dataDir: string;
let rosterFile: string;
let roster: Roster;
let aggregator: Aggregator;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-health-'));
  dataDir = join(directory, 'aggregator');
  rosterFile = join(directory, 'roster.json');
  const { aggregator: card, operator } = await initAggregator(dataDir, ['localhost']);
  roster = parseRoster({
    format: 'veilrisk-roster/1',
    consortium: 'Four banks',
    version: 1,
    minimumQuorum: 1,
    aggregator: { name: 'aggregator', ...card },
    operator,
    sites: [{ id: 'bank-a', identityKey: IdentityKey.create().publicKey }],
  });
  await writeFile(rosterFile, JSON.stringify(roster));
  const databaseUrl = await postgres.freshDatabase();
  aggregator = await startAggregator({
    ...{ roster, ...(await openInstallation(dataDir)), databaseUrl, port: 0, log: quiet },
  });
});

afterAll(async () => {
  await aggregator.stop();
  await rm(directory, { recursive: true });
});

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

function health(...args: string[]): Promise<Outcome> {
  return new Promise((done) => {
    execFile(process.execPath, [main, 'aggregator', 'health', ...args], (error, stdout, stderr) =>
      done({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    );
  });
}

const portOf = (url: string) => new URL(url).port;
const SERVING = { code: 0, stdout: 'serving consortium Four banks, protocol veilrisk/federation/v1\n', stderr: '' };

describe('a serving aggregator', () => {
  test('is healthy by the certificate of its data directory, and by the roster', async () => {
    const port = portOf(aggregator.url);
    expect(await health('--data-dir', dataDir, '--port', port)).toEqual(SERVING);
    expect(await health('--roster', rosterFile, '--aggregator', aggregator.url)).toEqual(SERVING);
    const { stdout } = await health('--data-dir', dataDir, '--port', port, '--json');
    expect(JSON.parse(stdout)).toEqual({
      url: aggregator.url,
      consortium: 'Four banks',
      protocol: 'veilrisk/federation/v1',
      rosterHash: rosterHash(roster),
    });
  });

  test("is found at the roster's address", async () => {
    const withUrl = join(directory, 'with-url.json');
    await writeFile(withUrl, JSON.stringify({ ...roster, aggregator: { ...roster.aggregator, url: aggregator.url } }));
    // Another file means another hash: reached, and told apart.
    const { code, stderr } = await health('--roster', withUrl);
    expect(code).toBe(1);
    expect(stderr).toContain('error ROSTER_INVALID: The aggregator serves another roster.');
  });

  test('that shows another certificate is not this one', async () => {
    const other = join(directory, 'other');
    await initAggregator(other, ['localhost', '127.0.0.1']);
    const { code, stdout, stderr } = await health('--data-dir', other, '--port', portOf(aggregator.url));
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('error AGGREGATOR_UNREACHABLE');
  });
});

describe('nobody', () => {
  test('at the port, or one who never answers, is unreachable', async () => {
    const silent = createServer((socket) => void socket.resume().on('error', () => {}));
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
    const port = String((silent.address() as AddressInfo).port);
    const waited = await health('--data-dir', dataDir, '--port', port);
    await new Promise((done) => silent.close(done));
    const refused = await health('--data-dir', dataDir, '--port', port);
    for (const { code, stdout, stderr } of [waited, refused]) {
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toContain('error AGGREGATOR_UNREACHABLE');
      expect(stderr).toContain(`where: https://127.0.0.1:${port}`);
    }
  });

  test('without a data directory, without a certificate in it, with a wrong port', async () => {
    const missing = await health('--data-dir', join(directory, 'none'));
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain('aggregator init');
    const broken = join(directory, 'broken');
    await initAggregator(broken, ['localhost']);
    await writeFile(join(broken, 'tls-certificate.pem'), 'not a certificate');
    expect((await health('--data-dir', broken)).stderr).toContain(
      'error ROSTER_INVALID: The file is not a certificate',
    );
    expect((await health('--port', '70000')).stderr).toContain('from 0 to 65535');
  });
});

test('the container asks the port it serves', async () => {
  const root = join(import.meta.dirname, '../..');
  const dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
  const compose = await readFile(join(root, 'docker-compose.yml'), 'utf8');
  const { stdout: help } = await new Promise<{ stdout: string }>((done) => {
    execFile(process.execPath, [main, 'aggregator', 'start', '--help'], (_error, stdout) => done({ stdout }));
  });
  const port = /\(default: (\d+)\)/.exec(help)?.[1];
  expect(port).toBe('7443');
  expect(dockerfile).toContain(`EXPOSE ${port}\nHEALTHCHECK`);
  expect(dockerfile).toContain(`"--port", "${port}"]`);
  expect(compose).toMatch(new RegExp(`:${port}:${port}['"]`));
});
