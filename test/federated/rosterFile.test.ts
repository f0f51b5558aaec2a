/** Writing a roster from what the parties printed: what comes out is a roster, and nothing half-right is written. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { initAggregator } from '../../federated/aggregator/installation.ts';
import { writeRoster } from '../../federated/aggregator/rosterFile.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { parseRoster, rosterHash } from '../../federated/protocol/roster.ts';

let folder: string;
let request: Parameters<typeof writeRoster>[0];

async function card(name: string, content: unknown): Promise<string> {
  const file = join(folder, `${name}.json`);
  await writeFile(file, JSON.stringify(content));
  return file;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-roster-'));
  request = {
    ...{
      consortium: 'test',
      version: 1,
      minimumQuorum: 2,
      url: 'https://agg.example:7443',
      out: join(folder, 'roster.json'),
    },
    aggregatorFile: await card('aggregator', await initAggregator(join(folder, 'agg'), ['localhost'])),
    siteFiles: await Promise.all(
      ['bank-a', 'bank-b'].map((id) => card(id, { id, identityKey: IdentityKey.create().publicKey })),
    ),
  };
});
afterAll(() => rm(folder, { recursive: true }));

test('writes the roster once and names its hash', async () => {
  const { hash } = await writeRoster(request);
  const roster = parseRoster(JSON.parse(await readFile(request.out, 'utf8')));
  expect(rosterHash(roster)).toBe(hash);
  expect(roster.sites.map(({ id }) => id)).toEqual(['bank-a', 'bank-b']);
  await expect(writeRoster(request)).rejects.toMatchObject({ code: 'ROSTER_INVALID', where: request.out });
});

test('refuses what is no roster, and writes nothing', async () => {
  const out = join(folder, 'other.json');
  for (const changes of [
    { minimumQuorum: 3 },
    { siteFiles: [request.siteFiles[0], request.siteFiles[0]] },
    { siteFiles: [request.aggregatorFile] },
    { siteFiles: [join(folder, 'missing.json')] },
    { url: 'http://agg.example' },
    { aggregatorFile: await card('null', null) },
    { aggregatorFile: await card('text', { aggregator: 'text', operator: 1 }) },
  ]) {
    await expect(writeRoster({ ...request, out, ...changes })).rejects.toMatchObject({ code: 'ROSTER_INVALID' });
    await expect(readFile(out)).rejects.toMatchObject({ code: 'ENOENT' });
  }
});
