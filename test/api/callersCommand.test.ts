import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { registerCallers } from '../../src/commands/callers.ts';
import { modelHash } from '../../src/learning/scorecard.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { scoreTransaction } from '../../src/operations/scoreTransaction.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const model = trainedModel();
const hash = modelHash(model);
let node: TestNode;
let opened: object[] = [];

beforeAll(async () => {
  node = await openTestNode(await postgres.freshDatabase());
  await adoptModel(node, { contract, model, actor: 'test' });
  await createApiKey(node, { name: 'branch', scopes: ['score'], actor: 'test' });
  const caller = { owner: 'branch', keyPrefix: 'abcdefgh' };
  await scoreTransaction(node, { caller, requestId: 'r', transaction: simulated(1).records[0] });
});

afterEach(() => {
  opened = [];
  jest.restoreAllMocks();
});

afterAll(async () => {
  await node?.close();
});

/** Runs `veilrisk callers ...` on the node; gives what it printed. */
async function run(...args: string[]): Promise<{ out: string; err: string }> {
  const printed = { out: '', err: '' };
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed.out += text;
    return true;
  });
  jest.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed.err += text;
    return true;
  });
  const program = new Command('veilrisk').exitOverride();
  registerCallers(program, async (flags) => {
    opened.push(flags);
    return { ...node, close: async () => {} };
  });
  for (const command of program.commands) for (const verb of command.commands) verb.exitOverride();
  await program.parseAsync(['callers', ...args], { from: 'user' });
  return printed;
}

describe('veilrisk callers', () => {
  test('limit sets, and takes away, what usage shows', async () => {
    const row = { owner: 'branch', model: { hash, status: 'champion' }, vectors: 1 };
    const usage = async () => JSON.parse((await run('usage', '--json')).out);
    expect(await usage()).toEqual([{ ...row, limit: 1_000_000, left: 999_999 }]);
    const set = await run('limit', 'branch', '--vectors', '5', '--data-dir', '/somewhere');
    expect(opened).toContainEqual(expect.objectContaining({ dataDir: '/somewhere' }));
    expect(set).toEqual({ out: 'branch: 5 vectors a model (before: the general limit)\n', err: '' });
    expect(await usage()).toEqual([{ ...row, limit: 5, left: 4 }]);
    expect((await run('limit', 'branch', '--vectors', '5')).out).toContain('as before');
    const removed = JSON.parse((await run('limit', 'branch', '--general', '--json')).out);
    expect(removed).toEqual({ owner: 'branch', vectors: null, previous: 5, limit: 1_000_000, known: true });
    expect(await usage()).toEqual([{ ...row, limit: 1_000_000, left: 999_999 }]);
  });

  test('usage shows a table, also of one caller that has not asked yet', async () => {
    const { out } = await run('usage');
    expect(out).toMatch(new RegExp(`branch.*${hash.slice(0, 16)}.*champion.*1.*1000000.*999999`));
    const one = JSON.parse((await run('usage', '--owner', 'newcomer', '--json')).out);
    expect(one).toMatchObject([{ owner: 'newcomer', vectors: 0, left: 1_000_000 }]);
  });

  test('a limit for a name without an API key is set, with a word about it', async () => {
    const { out, err } = await run('limit', 'typo', '--vectors', '0');
    expect(out).toContain('typo: 0 vectors');
    expect(err).toContain('No API key has the name typo');
  });

  test('keys lists encryption keys, and revoke-key ends one', async () => {
    const keyId = 'c'.repeat(64);
    await node.store.transaction(async (tx) => {
      await tx.encryptionKeys.insert({
        ...{ keyId, preset: 'standard', owner: 'branch', publicKey: new Uint8Array(4) },
        ...{ createdAt: new Date(), expiresAt: null },
      });
    });
    expect((await run('keys')).out).toMatch(new RegExp(`${keyId}.*branch.*standard.*never.*usable`));
    expect(JSON.parse((await run('keys', '--owner', 'nobody', '--json')).out)).toEqual([]);
    expect((await run('revoke-key', keyId)).out).toMatch(/encryption key c{64} of branch revoked at 20/);
    expect(JSON.parse((await run('keys', '--owner', 'branch', '--json')).out)).toMatchObject([
      { keyId, standing: 'revoked' },
    ]);
    await expect(run('revoke-key', 'd'.repeat(64))).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
  });

  test.each([
    [['limit']],
    [['limit', 'p', '--vectors', 'x']],
    [['limit', 'p', '--vectors', '-1']],
    [['revoke-key']],
    [['revoke-key', 'short']],
  ])('%j is a usage error and opens no node', async (args) => {
    await expect(run(...args)).rejects.toMatchObject({ exitCode: 1 });
    expect(opened).toEqual([]);
  });

  test.each([[['limit', 'p']], [['limit', 'p', '--vectors', '1', '--general']], [['limit', 'a b', '--vectors', '1']]])(
    '%j is told with its code',
    async (args) => {
      await expect(run(...args)).rejects.toMatchObject({ code: 'USAGE' });
    },
  );
});
