import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createKeys } from '../../src/client/client.ts';
import { connect } from '../../src/database/connection.ts';
import { openLog } from '../../src/log.ts';
import { registerEncryptionKey, usableKey } from '../../src/operations/encryptionKeys.ts';
import { scoreEncrypted } from '../../src/operations/scoreEncrypted.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { usePostgres } from '../support/postgres.ts';
import { openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const caller = { keyPrefix: 'aaaaaaaa', owner: 'caller' };
let pool: EncryptionPool;
let node: TestNode;
let url: string;

beforeAll(async () => {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  url = await postgres.freshDatabase();
  node = await openTestNode(url, pool);
});

afterAll(async () => {
  await node?.close();
  await pool?.close();
});

const register = (publicKey: Uint8Array, by = caller) =>
  registerEncryptionKey(node, { caller: by, requestId: 'r', publicKey });

describe('encryption keys', () => {
  test.each(['standard', 'conservative'] as const)('a %s key is kept byte for byte', async (preset) => {
    const key = await createKeys(preset);
    expect(await register(key.publicKey)).toMatchObject({ created: true, keyId: key.keyId, preset });
    expect(Buffer.from(await usableKey(node, caller, key.keyId)).equals(key.publicKey)).toBe(true);
    expect(await register(key.publicKey, { ...caller, keyPrefix: 'bbbbbbbb' })).toMatchObject({ created: false });
  });

  test('ten registrations at once create it once', async () => {
    const { publicKey } = await createKeys('standard');
    const results = await Promise.all(Array.from({ length: 8 }, () => register(publicKey)));
    expect(results.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(results.map(({ createdAt }) => createdAt)).size).toBe(1);
  });

  test("another owner's, a revoked, an expired and an unknown key are the same to a caller", async () => {
    const { publicKey, keyId } = await createKeys('standard');
    await register(publicKey);
    await expect(usableKey(node, { ...caller, owner: 'other' }, keyId)).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
    await expect(usableKey(node, caller, '0'.repeat(64))).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
    const client = await connect(url);
    await client.query(`UPDATE encryption_keys SET expires_at = now() + interval '1 hour' WHERE key_id = $1`, [keyId]);
    await expect(usableKey(node, caller, keyId)).resolves.toBeInstanceOf(Uint8Array);
    node.advance(3_700_000);
    await expect(usableKey(node, caller, keyId)).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
    node.advance(-3_700_000);
    await client.query('UPDATE encryption_keys SET revoked_at = now() WHERE key_id = $1', [keyId]);
    await client.end();
    await expect(usableKey(node, caller, keyId)).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
    await expect(register(publicKey)).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
  });

  test('a process without encryption threads says so', async () => {
    const bare = { ...node, encryption: null };
    const request = { caller, requestId: 'r', request: new Uint8Array(200) };
    await expect(scoreEncrypted(bare, request)).rejects.toMatchObject({ code: 'NOT_READY' });
  });
});
