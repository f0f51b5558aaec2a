import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { LogHeadSchema } from '../../federated/protocol/generated/veilrisk_pb.js';
import { siteWitnessName } from '../../federated/protocol/logNames.ts';
import { encodeWitnessKey } from '../../src/audit/cosignature.ts';
import { registerAudit } from '../../src/commands/audit.ts';
import { readJournal } from '../../src/journal/reader.ts';
import type { NodeContext } from '../../src/operations/context.ts';
import {
  type Bank,
  happened,
  makeMembers,
  type OpenAggregatorLog,
  openAggregator,
  openBank,
} from '../federated/logs.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const members = makeMembers(2);
let directory: string;
let aggregator: OpenAggregatorLog;
let forked: OpenAggregatorLog;
let bank: Bank;
const path = (name: string) => join(directory, name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-audit-'));
  aggregator = await openAggregator(await postgres.freshDatabase(), members);
  forked = await openAggregator(await postgres.freshDatabase(), members);
  bank = await openBank(await postgres.freshDatabase(), members, 0, directory);
  await aggregator.enter(happened(1));
  await forked.enter(happened(2));
  const head = create(LogHeadSchema, await aggregator.log.headFor(bank.id));
  const { cosignature } = await bank.logs.witness(head);
  await aggregator.log.cosigned(bank.id, cosignature);
  await aggregator.enter(happened(3));
  await aggregator.log.close();
  await readJournal(aggregator.database.pool, aggregator.log).exportTo(path('aggregator.log'));
  forked.log.listening(bank.id, 2);
  const lie = create(LogHeadSchema, await forked.log.headFor(bank.id));
  await expect(bank.logs.witness(lie)).rejects.toMatchObject({ code: 'LOG_INCONSISTENT' });
  await writeFile(path('b.checkpoint'), lie.checkpoint);
});
afterEach(() => {
  jest.restoreAllMocks();
  process.exitCode = undefined;
});
afterAll(async () => {
  await bank?.store.close();
  for (const each of [aggregator, forked]) await each?.close();
  await rm(directory, { recursive: true, force: true });
});

/** Runs `veilrisk audit ...`; gives what it printed and the exit code it leaves. */
async function run(...args: string[]): Promise<{ out: string; exit: unknown }> {
  let out = '';
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text;
    return true;
  });
  const program = new Command('veilrisk').exitOverride();
  // Safe: these verbs read the store, name and identity of a node.
  const node = { store: bank.store, name: bank.id, identity: members.banks[0].key, close: async () => {} };
  registerAudit(program, async () => node as unknown as NodeContext);
  await program.parseAsync(['audit', ...args], { from: 'user' });
  const exit = process.exitCode;
  process.exitCode = undefined;
  return { out, exit };
}

const [first, second] = members.banks.map(({ id, key }) =>
  encodeWitnessKey(siteWitnessName(id), Buffer.from(key.publicKey, 'base64')),
);

describe('veilrisk audit', () => {
  test('witnessed prints the note that was accepted, and compare finds what another bank was shown', async () => {
    const key = ['--key', aggregator.log.verifierKey];
    const { out } = await run('witnessed');
    expect(out).toMatch(/^Test%20%2B%20consortium\/aggregator\/log\n2\n/);
    await writeFile(path('a.checkpoint'), out);
    const same = await run('compare', path('a.checkpoint'), path('a.checkpoint'), ...key);
    expect([same.exit, same.out]).toEqual([0, expect.stringContaining('The checkpoints are the same')]);
    const differ = await run('compare', path('a.checkpoint'), path('b.checkpoint'), ...key);
    expect([differ.exit, differ.out]).toEqual([4, expect.stringContaining('PROOF OF EQUIVOCATION')]);
    const unproven = await run('compare', path('a.checkpoint'), path('b.checkpoint'));
    expect([unproven.exit, unproven.out]).toEqual([4, expect.stringContaining('this proves nothing')]);
    const sizes = await run('compare', path('a.checkpoint'), path('aggregator.log'), ...key);
    expect([sizes.exit, sizes.out]).toEqual([3, expect.stringContaining('different sizes')]);
  });

  test('compare reads the evidence that the witness wrote', async () => {
    const [name] = (await readdir(directory)).filter((file) => file.startsWith('equivocation-'));
    const { verifierKey } = JSON.parse(await readFile(path(name), 'utf8'));
    expect(verifierKey).toBe(aggregator.log.verifierKey);
    const { out, exit } = await run('compare', path(name), '--key', aggregator.log.verifierKey, '--json');
    expect([exit, JSON.parse(out)]).toEqual([
      4,
      expect.objectContaining({ comparison: 'equivocation', verified: true }),
    ]);
    await expect(run('compare', path('b.checkpoint'))).rejects.toMatchObject({ code: 'AUDIT_FILE_MALFORMED' });
  });

  test('verify counts witnesses', async () => {
    const file = path('aggregator.log');
    const { out } = await run('verify', file, '--witness', first, '--witness', second, '--witness-quorum', '1');
    expect(out).toMatch(/bank-1\/witness cosigned 2 entries at \d{4}-/);
    expect(out).toContain('The first 2 entries were seen by at least 1 of these witnesses.');
    await expect(run('verify', file, '--witness', first, '--witness', second)).rejects.toMatchObject({
      code: 'AUDIT_SIGNATURE_INVALID',
    });
    await expect(run('verify', file, '--witness-quorum', '1')).rejects.toMatchObject({ code: 'USAGE' });
    expect((await run('verify', file)).out).not.toContain('cosigned');
  });

  test('export prints the key this node cosigns with', async () => {
    const { out } = await run('export', '--out', path('bank.log'));
    expect(out).toContain(`witness key of this node: ${first}`);
  });
});
