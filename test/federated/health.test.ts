/** `aggregator health` as an operator and a container run it: a process of its own against a real server. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openInstallation } from '../../federated/aggregator/installation.ts';
import { type Aggregator, startAggregator } from '../../federated/aggregator/server.ts';
import { type Roster, rosterHash } from '../../federated/protocol/roster.ts';
import { changeConsortium, initConsortium } from '../../federated/provision/consortium.ts';
import { memberFiles } from '../../federated/provision/membership.ts';
import { readRequest } from '../../federated/provision/request.ts';
import { provisionJoin, provisionSite } from '../../src/operations/provision.ts';
import { usePostgres } from '../support/postgres.ts';
import { quiet } from './consortium.ts';

const main = join(import.meta.dirname, '../../src/main.ts');
const postgres = usePostgres();
let directory: string;
let dataDir: string;
let bankDir: string;
let rosterFile: string;
let roster: Roster;
let aggregator: Aggregator;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-health-'));
  ({ dataDir, bankDir, rosterFile } = await found('one'));
  const { signedRoster, identity, tls } = await openInstallation(dataDir);
  roster = signedRoster.roster;
  const databaseUrl = await postgres.freshDatabase();
  aggregator = await startAggregator({ roster, identity, tls, databaseUrl, port: 0, log: quiet });
});

/** A consortium of one bank; both members follow its first roster. */
async function found(name: string) {
  const at = (file: string) => join(directory, `${name}-${file}`);
  const [dataDir, bankDir, rosterFile] = [at('aggregator'), at('bank'), at('roster.json')];
  await initConsortium(at('ca'), { consortium: 'Four banks', minimumQuorum: 1 });
  await provisionSite({ dataDir, aggregator: true, out: at('a.json') });
  await provisionSite({ dataDir: bankDir, name: 'bank-a', out: at('b.json') });
  const sign = [await readRequest(at('a.json')), await readRequest(at('b.json'))];
  await changeConsortium(at('ca'), rosterFile, { sign });
  for (const dir of [dataDir, bankDir]) await provisionJoin(dir, rosterFile, { compared: true });
  return { dataDir, bankDir, rosterFile, caDir: at('ca') };
}

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
  test('is healthy to itself and to a bank, by the accepted roster or a file', async () => {
    const port = portOf(aggregator.url);
    expect(await health('--data-dir', dataDir, '--port', port)).toEqual(SERVING);
    expect(await health('--data-dir', bankDir, '--port', port)).toEqual(SERVING);
    expect(await health('--data-dir', bankDir, '--roster', rosterFile, '--aggregator', aggregator.url)).toEqual(
      SERVING,
    );
    const { stdout } = await health('--data-dir', dataDir, '--port', port, '--json');
    expect(JSON.parse(stdout)).toEqual({
      url: aggregator.url,
      consortium: 'Four banks',
      protocol: 'veilrisk/federation/v1',
      rosterHash: rosterHash(roster),
    });
  });

  test("is found at a newer roster's address, and told apart by its hash", async () => {
    const newer = join(directory, 'with-url.json');
    await changeConsortium(join(directory, 'one-ca'), newer, { url: aggregator.url });
    const { code, stderr } = await health('--data-dir', bankDir, '--roster', newer);
    expect(code).toBe(1);
    expect(stderr).toContain('error ROSTER_INVALID: The aggregator serves another roster.');
  });

  test('of another consortium is not ours, nor are we its members', async () => {
    const other = await found('two');
    const { code, stdout, stderr } = await health('--data-dir', other.bankDir, '--port', portOf(aggregator.url));
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

  test('without a data directory, without a roster in it, with a wrong port', async () => {
    const missing = await health('--data-dir', join(directory, 'none'));
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain('provision site --aggregator');
    const broken = await found('broken');
    await writeFile(memberFiles(broken.dataDir).roster, '{}');
    expect((await health('--data-dir', broken.dataDir)).stderr).toContain(
      'error ROSTER_INVALID: The roster is invalid',
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
