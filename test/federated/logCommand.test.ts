/** `aggregator log` as an operator runs it, on a provisioned data directory, and the auditor's side of it. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openInstallation } from '../../federated/aggregator/installation.ts';
import { startAggregator } from '../../federated/aggregator/server.ts';
import { changeConsortium, initConsortium } from '../../federated/provision/consortium.ts';
import { readRequest } from '../../federated/provision/request.ts';
import { connect } from '../../src/database/connection.ts';
import { provisionJoin, provisionSite } from '../../src/operations/provision.ts';
import { verifyLogFile } from '../../src/operations/verifyLog.ts';
import { usePostgres } from '../support/postgres.ts';
import { quiet } from './consortium.ts';

const main = join(import.meta.dirname, '../../src/main.ts');
const postgres = usePostgres();
let directory: string;
let dataDir: string;
let databaseUrl: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-log-'));
  const at = (file: string) => join(directory, file);
  dataDir = at('aggregator');
  await initConsortium(at('ca'), { consortium: 'Four banks', minimumQuorum: 1 });
  await provisionSite({ dataDir, aggregator: true, out: at('a.json') });
  await provisionSite({ dataDir: at('bank'), name: 'bank-a', out: at('b.json') });
  const sign = [await readRequest(at('a.json')), await readRequest(at('b.json'))];
  await changeConsortium(at('ca'), at('roster.json'), { sign });
  await provisionJoin(dataDir, at('roster.json'), { compared: true });
  databaseUrl = await postgres.freshDatabase();
  const { signedRoster, identity, tls } = await openInstallation(dataDir);
  const roster = signedRoster.roster;
  // Twice: the roster is entered once.
  for (let i = 0; i < 2; i++) {
    await (await startAggregator({ roster, identity, tls, databaseUrl, port: 0, log: quiet })).stop();
  }
});
afterAll(() => rm(directory, { recursive: true }));

function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const place = ['--data-dir', dataDir, '--database-url', databaseUrl];
  return new Promise((done) => {
    execFile(process.execPath, [main, 'aggregator', 'log', ...args, ...place], (error, stdout, stderr) =>
      done({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    );
  });
}

describe('the log of an aggregator', () => {
  test('is exported, and verified with nothing but the file and the key', async () => {
    const path = join(directory, 'aggregator.log');
    const { code, stdout } = await run('export', '--out', path, '--json');
    expect(code).toBe(0);
    const { entries, verifierKey, witnesses } = JSON.parse(stdout);
    expect([entries, verifierKey, witnesses]).toEqual([
      1,
      expect.stringMatching(/^Four%20banks\/[^/]+\/log\+[0-9a-f]{8}\+/),
      [expect.stringMatching(/^bank-a\/witness\+[0-9a-f]{8}\+/)],
    ]);
    expect(await verifyLogFile({ path, key: verifierKey })).toMatchObject({ verified: 1, keyFrom: 'argument' });
    await expect(verifyLogFile({ path, key: verifierKey, witnessKeys: witnesses })).rejects.toMatchObject({
      code: 'AUDIT_SIGNATURE_INVALID',
    });
  });

  test('is checked where it is, and a changed row is named', async () => {
    expect((await run('check')).stdout).toMatch(/^Four%20banks\/[^/]+\/log: 1 entries, root [0-9a-f]{64}\n$/);
    const client = await connect(databaseUrl);
    await client.query('ALTER TABLE audit_entries DISABLE TRIGGER USER');
    await client.query(
      "UPDATE audit_entries SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), 'bank-a', 'bank-b'), 'UTF8')",
    );
    await client.end();
    const { code, stderr } = await run('check');
    expect([code, stderr]).toEqual([1, expect.stringContaining('AUDIT_LOG_TAMPERED')]);
    expect(stderr).toContain('where: index 0');
  });
});
