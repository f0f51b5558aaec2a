import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { registerApiKey } from '../../src/commands/apikey.ts';
import { openApiKeyAuthenticator } from '../../src/operations/apiKeys.ts';
import { openTestNode, type TestNode } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
let node: TestNode;
let opened: object[] = [];

beforeAll(async () => {
  node = await openTestNode(await postgres.freshDatabase());
});

afterEach(() => {
  opened = [];
  jest.restoreAllMocks();
});

afterAll(async () => {
  await node?.close();
});

/** Runs `veilrisk apikey ...` on the node; gives what it printed. */
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
  registerApiKey(program, async (flags) => {
    opened.push(flags);
    return { ...node, close: async () => {} };
  });
  for (const command of program.commands) for (const verb of command.commands) verb.exitOverride();
  await program.parseAsync(['apikey', ...args], { from: 'user' });
  return printed;
}

describe('veilrisk apikey', () => {
  test('create prints the key alone on standard output, and it works until it is revoked', async () => {
    const { out, err } = await run('create', '--name', 'branch', '--data-dir', '/somewhere');
    expect(opened).toEqual([expect.objectContaining({ dataDir: '/somewhere' })]);
    const key = out.trim();
    const [, prefix] = key.split('_');
    expect(err).toContain(prefix);
    expect(err).not.toContain(key);
    const authenticator = openApiKeyAuthenticator(node);
    const authenticate = () => authenticator.authenticate(`Bearer ${key}`, 'keys', 'r');
    expect(await authenticate()).toEqual({ keyPrefix: prefix, owner: 'branch' });
    const listed = await run('list');
    expect(listed.out).toContain(prefix);
    expect(listed.out).not.toContain(key.slice(-43));
    expect((await run('revoke', prefix)).out).toContain('revoked');
    await expect(authenticate()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await authenticator.close();
  });

  test('create --json is for machines', async () => {
    const { out, err } = await run('create', '--name', 'p', '--scopes', 'score,models', '--days', '90', '--json');
    expect(err).toBe('');
    const created = JSON.parse(out);
    expect(created).toMatchObject({ name: 'p', scopes: ['score', 'models'] });
    expect(created.key).toMatch(/^vrk_[a-z2-7]{8}_[A-Za-z0-9_-]{43}$/);
    const listed = JSON.parse((await run('list', '--json')).out);
    expect(listed[0]).toMatchObject({ prefix: created.prefix, standing: 'valid', expiresAt: created.expiresAt });
  });

  test.each([
    [['create']],
    [['create', '--name', 'p', '--scopes', 'admin']],
    [['create', '--name', 'p', '--days', 'x']],
    [['revoke']],
  ])('%j is a usage error and opens no node', async (args) => {
    await expect(run(...args)).rejects.toMatchObject({ exitCode: 1 });
    expect(opened).toEqual([]);
  });

  test('a wrong name or prefix is told with its code', async () => {
    await expect(run('create', '--name', 'a b')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(run('revoke', 'aaaaaaaa')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
