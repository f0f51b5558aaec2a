import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { connect } from '../../src/database/connection.ts';
import { createApiKey, listApiKeys, openApiKeyAuthenticator, revokeApiKey } from '../../src/operations/apiKeys.ts';
import { openRefusalLog } from '../../src/operations/refusals.ts';
import { usePostgres } from '../support/postgres.ts';
import { auditEntries } from './audit.ts';
import { openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
let node: TestNode;
let url: string;

beforeAll(async () => {
  url = await postgres.freshDatabase();
  node = await openTestNode(url);
});

afterAll(async () => {
  await node?.close();
});

const size = async () => (await node.store.audit.head()).size;

describe('API keys', () => {
  test('a key is 256 random bits behind a prefix, and nothing but its hash is kept', async () => {
    const created = await createApiKey(node, {
      name: 'branch',
      scopes: ['models', 'score'],
      days: 30,
      actor: 'operator',
    });
    expect(created.key).toMatch(new RegExp(`^vrk_${created.prefix}_[A-Za-z0-9_-]{43}$`));
    expect(created).toMatchObject({ name: 'branch', scopes: ['score', 'models'] });
    const client = await connect(url);
    const everything = await client.query('SELECT api_keys::text AS row FROM api_keys');
    const { rows } = await client.query('SELECT secret_hash FROM api_keys WHERE prefix = $1', [created.prefix]);
    await client.end();
    expect(rows).toEqual([{ secret_hash: createHash('sha256').update(created.key).digest('hex') }]);
    const entries = await auditEntries(node, 0, 100);
    const secret = created.key.slice(-43);
    expect(JSON.stringify([everything.rows, entries, await listApiKeys(node)])).not.toContain(secret);
    expect(entries.at(-1)?.body).toMatchObject({
      type: 'api-key.create',
      actor: 'operator',
      details: { prefix: created.prefix, name: 'branch', scopes: ['score', 'models'], expiresAt: created.expiresAt },
    });
  });

  test('listing tells standing', async () => {
    const short = await createApiKey(node, { name: 'short', scopes: ['score'], days: 1, actor: 'operator' });
    const gone = await createApiKey(node, { name: 'gone', scopes: ['score'], actor: 'operator' });
    await revokeApiKey(node, { prefix: gone.prefix, actor: 'operator' });
    node.advance(86_400_001);
    const standing = new Map((await listApiKeys(node)).map((key) => [key.prefix, key.standing]));
    node.advance(-86_400_001);
    expect([standing.get(short.prefix), standing.get(gone.prefix)]).toEqual(['expired', 'revoked']);
  });

  test('revoking twice is one entry and one time', async () => {
    const { prefix } = await createApiKey(node, { name: 'twice', scopes: ['score'], actor: 'operator' });
    const first = await revokeApiKey(node, { prefix, actor: 'operator' });
    const before = await size();
    expect(await revokeApiKey(node, { prefix, actor: 'operator' })).toEqual(first);
    expect(await size()).toBe(before);
    await expect(revokeApiKey(node, { prefix: 'aaaaaaaa', actor: 'operator' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  test.each([
    ['an empty name', { name: '', scopes: ['score'] as const }],
    ['a name with a line break', { name: 'a\nb', scopes: ['score'] as const }],
    ['no scope', { name: 'a', scopes: [] as const }],
    ['half a day', { name: 'a', scopes: ['score'] as const, days: 0.5 }],
    ['no day', { name: 'a', scopes: ['score'] as const, days: 0 }],
  ])('%s is refused and nothing is written', async (_name, wish) => {
    const before = [await size(), (await listApiKeys(node)).length];
    await expect(createApiKey(node, { ...wish, actor: 'operator' })).rejects.toMatchObject({ code: 'USAGE' });
    expect([await size(), (await listApiKeys(node)).length]).toEqual(before);
  });

  test('a key revoked by another process is refused when its cache entry ends', async () => {
    const { key, prefix } = await createApiKey(node, { name: 'elsewhere', scopes: ['score'], actor: 'operator' });
    const authenticator = openApiKeyAuthenticator(node);
    const authenticate = () => authenticator.authenticate(`Bearer ${key}`, 'score', 'r');
    expect(await authenticate()).toEqual({ keyPrefix: prefix, owner: 'elsewhere' });
    const client = await connect(url);
    await client.query('UPDATE api_keys SET revoked_at = now() WHERE prefix = $1', [prefix]);
    await client.end();
    node.advance(2_900);
    expect(await authenticate()).toMatchObject({ owner: 'elsewhere' });
    node.advance(200);
    await expect(authenticate()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await authenticator.close();
  });
});

describe('the log of refusals', () => {
  test('counts within a window, writes the count when it ends, and opens a new one after', async () => {
    const refusals = openRefusalLog(node, 1_500);
    const refusal = { code: 'UNAUTHENTICATED', why: 'unknown', keyPrefix: null } as const;
    const from = await size();
    for (let i = 0; i < 5; i++) await refusals.record(refusal, `r-${i}`);
    await refusals.record({ ...refusal, why: 'missing' }, 'other');
    expect(await size()).toBe(from + 2);
    for (let waited = 0; (await size()) < from + 3 && waited < 20_000; waited += 20) await sleep(20);
    await refusals.record(refusal, 'later');
    await refusals.close();
    const bodies = (await auditEntries(node, from, 10)).map(({ body }) => body);
    expect(bodies.map(({ actor, requestId, details }) => [actor, requestId, details.why, details.count])).toEqual([
      ['anonymous', 'r-0', 'unknown', 1],
      ['anonymous', 'other', 'missing', 1],
      ['anonymous', undefined, 'unknown', 4],
      ['anonymous', 'later', 'unknown', 1],
    ]);
  });
});
