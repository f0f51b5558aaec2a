import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createLogSigner } from '../../src/audit/note.ts';
import { connect } from '../../src/database/connection.ts';
import { openEncryption } from '../../src/encryption/encryption.ts';
import type { PresetName } from '../../src/encryption/presets.ts';
import { openLog } from '../../src/log.ts';
import type { NodeContext } from '../../src/operations/context.ts';
import {
  listEncryptionKeys,
  MOST_NEW_KEYS_A_DAY,
  MOST_USABLE_KEYS,
  type Registration,
  type Rotation,
  registerEncryptionKey,
  revokeEncryptionKey,
  rotateEncryptionKey,
  usableKey,
} from '../../src/operations/encryptionKeys.ts';
import { scoreEncrypted } from '../../src/operations/scoreEncrypted.ts';
import { type NodeStore, openNodeStore } from '../../src/store/nodeStore.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { usePostgres } from '../support/postgres.ts';
import { auditEntries } from './audit.ts';
import { openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const caller = { keyPrefix: 'aaaaaaaa', owner: 'caller' };
const stranger = { keyPrefix: 'cccccccc', owner: 'stranger' };
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
let pool: EncryptionPool;
let node: TestNode;
let url: string;

beforeAll(async () => {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 64, log: openLog('test', 'silent') });
  url = await postgres.freshDatabase();
  node = await openTestNode(url, pool);
  await pool.warmed;
});

afterAll(async () => {
  await node?.close();
  await pool?.close();
});

const createKeys = async (preset: PresetName) => (await openEncryption(preset)).createKeys();
type Wish<T> = Partial<T> & { on?: NodeContext };
const register = (publicKey: Uint8Array, { on = node, ...wish }: Wish<Registration> = {}) =>
  registerEncryptionKey(on, { caller, requestId: 'r', publicKey, ...wish });
const rotate = (keyId: string, publicKey: Uint8Array, { on = node, ...wish }: Wish<Rotation> = {}) =>
  rotateEncryptionKey(on, { caller, requestId: 'r', keyId, publicKey, ...wish });
const revoke = (keyId: string, { owner = 'caller', on = node }: { owner?: string | null; on?: NodeContext } = {}) =>
  revokeEncryptionKey(on, { keyId, owner, actor: 'api-key:aaaaaaaa', requestId: 'r' });
const use = (keyId: string, by = caller) => usableKey(node, by, keyId);
const listOf = (owner: string | null) => listEncryptionKeys(node, owner);
const one = async (keyId: string) => (await listOf(null)).find((key) => key.keyId === keyId);
const newKey = async (wish: Wish<Registration> = {}) => {
  const key = await createKeys('standard');
  return { ...(await register(key.publicKey, wish)), publicKey: key.publicKey };
};
async function lastEntries(most: number) {
  const { size } = await node.store.audit.head();
  return (await auditEntries(node, size - most, most)).map(({ body }) => body);
}

/** Moves the clock for `work` only, so that the tests do not depend on their order. */
async function later<T>(ms: number, work: () => Promise<T>): Promise<T> {
  node.advance(ms);
  try {
    return await work();
  } finally {
    node.advance(-ms);
  }
}

const refused = (code: string) => expect.objectContaining({ code });
async function expectUnchanged(work: () => Promise<unknown>, code: string): Promise<void> {
  const [before, { size }] = [await listOf(null), await node.store.audit.head()];
  await expect(work()).rejects.toMatchObject({ code });
  expect([await listOf(null), (await node.store.audit.head()).size]).toEqual([before, size]);
}

describe('registration', () => {
  test.each(['standard', 'conservative'] as const)('a %s key is kept byte for byte', async (preset) => {
    const key = await createKeys(preset);
    expect(await register(key.publicKey)).toMatchObject({ created: true, keyId: key.keyId, preset });
    expect(Buffer.from(await use(key.keyId)).equals(key.publicKey)).toBe(true);
    const renewed = { caller: { ...caller, keyPrefix: 'bbbbbbbb' } };
    expect(await register(key.publicKey, renewed)).toMatchObject({ created: false });
  });

  test('ends after the days asked for, or the most there are, and again changes neither', async () => {
    const { publicKey, ...key } = await newKey({ days: 3 });
    expect(Date.parse(key.expiresAt ?? '') - Date.parse(key.createdAt)).toBe(3 * DAY);
    const again = await register(publicKey, { days: 300 });
    expect(again).toEqual({ ...key, created: false, audit: again.audit });
    const [created, unchanged] = await lastEntries(2);
    expect(created).toMatchObject({
      ...{ type: 'encryption-key.register', actor: 'api-key:aaaaaaaa', requestId: 'r', outcome: 'created' },
      details: { keyId: key.keyId, preset: 'standard', owner: 'caller', expiresAt: key.expiresAt },
    });
    expect(unchanged).toMatchObject({ type: 'encryption-key.register', outcome: 'unchanged' });
    const most = await newKey();
    expect(Date.parse(most.expiresAt ?? '') - Date.parse(most.createdAt)).toBe(365 * DAY);
  });

  test('eight registrations of one key at once create it once', async () => {
    const { publicKey } = await createKeys('standard');
    const results = await Promise.all(Array.from({ length: 8 }, () => register(publicKey)));
    expect(results.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(results.map(({ createdAt }) => createdAt)).size).toBe(1);
  });

  test('two callers at once cannot both have a key', async () => {
    const { publicKey, keyId } = await createKeys('standard');
    const both = await Promise.allSettled([register(publicKey), register(publicKey, { caller: stranger })]);
    const [lost] = both.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    expect([both.filter(({ status }) => status === 'fulfilled').length, lost.code]).toEqual([1, 'ALREADY_EXISTS']);
    expect((await listOf(null)).filter((key) => key.keyId === keyId)).toHaveLength(1);
  });

  test("a key that ended, or is another caller's, is not registered anew", async () => {
    const key = await newKey({ days: 1 });
    await expectUnchanged(() => register(key.publicKey, { caller: stranger }), 'ALREADY_EXISTS');
    await later(DAY, () => expectUnchanged(() => register(key.publicKey), 'KEY_EXPIRED'));
    await revoke(key.keyId);
    await expectUnchanged(() => register(key.publicKey), 'KEY_REVOKED');
  });
});

test('registering and revoking in turn ends at the keys of a day', async () => {
  const churn = { caller: { keyPrefix: 'ffffffff', owner: 'churn' } };
  const createdAt = node.clock();
  await node.store.transaction(async (tx) => {
    for (let i = 1; i < MOST_NEW_KEYS_A_DAY; i++) {
      const row = { keyId: `churn-${i}`, preset: 'standard', owner: 'churn', publicKey: Uint8Array.of(1), createdAt };
      await tx.encryptionKeys.insert({ ...row, expiresAt: null });
      await tx.encryptionKeys.revoke(row.keyId, createdAt);
    }
  });
  const last = await newKey(churn);
  await revoke(last.keyId, { owner: 'churn' });
  const { publicKey } = await createKeys('standard');
  await expectUnchanged(() => register(publicKey, churn), 'KEY_LIMIT');
  await later(DAY + 1_000, () => expect(register(publicKey, churn)).resolves.toMatchObject({ created: true }));
});

describe('use', () => {
  test('an own key tells why it is refused, any other is unknown', async () => {
    const { keyId } = await newKey({ days: 1 });
    await expect(use(keyId, stranger)).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
    await expect(use('0'.repeat(64))).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
    await later(DAY - HOUR, () => expect(use(keyId)).resolves.toBeInstanceOf(Uint8Array));
    await later(DAY, () => expect(use(keyId)).rejects.toMatchObject({ code: 'KEY_EXPIRED' }));
    await revoke(keyId);
    await later(DAY, () => expect(use(keyId)).rejects.toMatchObject({ code: 'KEY_REVOKED' }));
    await expect(use(keyId, stranger)).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
  });

  test('a key of before keys expired has no end until one is set', async () => {
    const { publicKey, keyId } = await createKeys('standard');
    const old = { keyId, preset: 'standard', owner: 'caller', publicKey, createdAt: new Date(), expiresAt: null };
    await node.store.transaction((tx) => tx.encryptionKeys.insert(old));
    await later(4_000 * DAY, () => expect(use(keyId)).resolves.toBeInstanceOf(Uint8Array));
    expect(await register(publicKey)).toMatchObject({ created: false, expiresAt: null, standing: 'usable' });
    const next = await createKeys('standard');
    const { replaced } = await rotate(keyId, next.publicKey, { graceHours: 2 });
    expect(replaced).toMatchObject({ standing: 'usable', replacedBy: next.keyId });
    await later(2 * HOUR, () => expect(use(keyId)).rejects.toMatchObject({ code: 'KEY_EXPIRED' }));
  });

  test('a process without encryption threads says so', async () => {
    const bare = { ...node, encryption: null };
    const request = { caller, requestId: 'r', request: new Uint8Array(200) };
    await expect(scoreEncrypted(bare, request)).rejects.toMatchObject({ code: 'NOT_READY' });
    await expect(register(new Uint8Array(10), { on: bare })).rejects.toMatchObject({ code: 'NOT_READY' });
  });
});

describe('rotation', () => {
  test('both keys are usable within the grace time, the new one after it; again it changes nothing', async () => {
    const old = await newKey();
    const next = await createKeys('standard');
    const { created, key, replaced } = await rotate(old.keyId, next.publicKey, { days: 10, graceHours: 5 });
    expect([created, key.keyId, key.standing]).toEqual([true, next.keyId, 'usable']);
    expect(Date.parse(key.expiresAt ?? '') - Date.parse(key.createdAt)).toBe(10 * DAY);
    expect(replaced).toMatchObject({ keyId: old.keyId, standing: 'usable', replacedBy: next.keyId, revokedAt: null });
    expect(Date.parse(replaced.expiresAt ?? '') - Date.parse(key.createdAt)).toBe(5 * HOUR);
    const [entry] = await lastEntries(1);
    expect(entry).toMatchObject({
      ...{ type: 'encryption-key.rotate', actor: 'api-key:aaaaaaaa', requestId: 'r', outcome: 'rotated' },
      details: { keyId: next.keyId, replaced: { keyId: old.keyId, expiresAt: replaced.expiresAt }, owner: 'caller' },
    });
    await later(4 * HOUR, async () => {
      await expect(use(old.keyId)).resolves.toBeInstanceOf(Uint8Array);
      const again = await rotate(old.keyId, next.publicKey, { days: 99, graceHours: 700 });
      expect(again).toEqual({ created: false, key: { ...key, audit: again.key.audit }, replaced });
      expect(await lastEntries(1)).toEqual([expect.objectContaining({ outcome: 'unchanged' })]);
    });
    await later(5 * HOUR, async () => {
      await expect(use(old.keyId)).rejects.toMatchObject({ code: 'KEY_EXPIRED' });
      await expect(use(next.keyId)).resolves.toBeInstanceOf(Uint8Array);
      const again = await rotate(old.keyId, next.publicKey);
      expect([again.created, again.replaced.standing]).toEqual([false, 'expired']);
    });
  });

  test('without grace the old key ends at once; its end is never put off; the preset may change', async () => {
    const [first, short] = [await newKey(), await newKey({ days: 1 })];
    const next = await createKeys('conservative');
    const { replaced, key } = await rotate(first.keyId, next.publicKey, { graceHours: 0 });
    expect([replaced.standing, key.preset]).toEqual(['expired', 'conservative']);
    await expect(use(first.keyId)).rejects.toMatchObject({ code: 'KEY_EXPIRED' });
    const kept = await rotate(short.keyId, (await createKeys('standard')).publicKey, { graceHours: 720 });
    expect(kept.replaced.expiresAt).toBe(short.expiresAt);
  });

  test('two rotations of one key at once: one wins, the other is told so', async () => {
    const old = await newKey();
    const next = await Promise.all([createKeys('standard'), createKeys('standard')]);
    const results = await Promise.allSettled(next.map(({ publicKey }) => rotate(old.keyId, publicKey)));
    const [won] = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const lost = results.find(({ status }) => status === 'rejected');
    expect(lost).toMatchObject({ reason: refused('ALREADY_EXISTS') });
    expect(await one(old.keyId)).toMatchObject({ replacedBy: won.key.keyId });
    const loser = next.find(({ keyId }) => keyId !== won.key.keyId);
    expect(await one(loser?.keyId ?? '')).toBeUndefined();
    const same = await createKeys('standard');
    const repeated = await Promise.all([1, 2, 3].map(() => rotate(won.key.keyId, same.publicKey)));
    expect(repeated.filter(({ created }) => created)).toHaveLength(1);
  });

  test('what cannot be replaced, or cannot replace, is refused and nothing changes', async () => {
    const fresh = await createKeys('standard');
    const [key, other, foreign] = [await newKey({ days: 1 }), await newKey(), await newKey({ caller: stranger })];
    await expectUnchanged(() => rotate('0'.repeat(64), fresh.publicKey), 'KEY_UNKNOWN');
    await expectUnchanged(() => rotate(foreign.keyId, fresh.publicKey), 'KEY_UNKNOWN');
    await expectUnchanged(() => rotate(key.keyId, key.publicKey), 'ALREADY_EXISTS');
    await expectUnchanged(() => rotate(key.keyId, other.publicKey), 'ALREADY_EXISTS');
    await expectUnchanged(() => rotate(key.keyId, foreign.publicKey), 'ALREADY_EXISTS');
    await expectUnchanged(() => rotate(key.keyId, fresh.publicKey.subarray(1)), 'PUBLIC_KEY_MALFORMED');
    await later(DAY, () => expectUnchanged(() => rotate(key.keyId, fresh.publicKey), 'KEY_EXPIRED'));
    await revoke(key.keyId);
    await expectUnchanged(() => rotate(key.keyId, fresh.publicKey), 'KEY_REVOKED');
  });
});

describe('revocation', () => {
  test('ends a key at once; again gives the first time; the operator ends any', async () => {
    const key = await newKey();
    const revoked = await revoke(key.keyId);
    expect(revoked).toMatchObject({ keyId: key.keyId, standing: 'revoked', expiresAt: key.expiresAt });
    await later(HOUR, async () => {
      const again = await revoke(key.keyId);
      expect(again).toEqual({ ...revoked, audit: again.audit });
    });
    const entries = await lastEntries(2);
    expect(entries.map(({ type, outcome }) => [type, outcome])).toEqual([
      ['encryption-key.revoke', 'revoked'],
      ['encryption-key.revoke', 'unchanged'],
    ]);
    const foreign = await newKey({ caller: stranger });
    await expectUnchanged(() => revoke(foreign.keyId), 'KEY_UNKNOWN');
    await expectUnchanged(() => revoke('f'.repeat(64), { owner: null }), 'KEY_UNKNOWN');
    const byOperator = await revokeEncryptionKey(node, { keyId: foreign.keyId, owner: null, actor: 'operator' });
    expect(byOperator).toMatchObject({ owner: 'stranger', standing: 'revoked' });
    expect((await lastEntries(1))[0]).toMatchObject({ actor: 'operator', details: { owner: 'stranger' } });
  });

  test('the database refuses to give a key back', async () => {
    const key = await newKey();
    await revoke(key.keyId);
    const client = await connect(url);
    const set = (what: string) => client.query(`UPDATE encryption_keys SET ${what} WHERE key_id = $1`, [key.keyId]);
    try {
      await expect(set('revoked_at = NULL')).rejects.toThrow('only ends');
      await expect(set("expires_at = expires_at + interval '1 day'")).rejects.toThrow('only ends');
      await expect(set("owner = 'thief'")).rejects.toThrow('only ends');
    } finally {
      await client.end();
    }
  });
});

test('a list shows the own keys only, newest first; the operator sees all', async () => {
  const names = ['list-a', 'list-b'];
  const made: string[] = [];
  for (const [i, owner] of ['list-a', 'list-b', 'list-a'].entries()) {
    const { keyId } = await later(i * 1_000, () => newKey({ caller: { keyPrefix: 'dddddddd', owner } }));
    made.push(keyId);
  }
  expect((await listOf('list-a')).map(({ keyId }) => keyId)).toEqual([made[2], made[0]]);
  expect((await listOf('list-b')).map(({ keyId }) => keyId)).toEqual([made[1]]);
  expect(await listOf('nobody')).toEqual([]);
  const all = (await listOf(null)).filter(({ owner }) => names.includes(owner));
  expect(all.map(({ keyId, owner }) => [keyId, owner])).toEqual([
    [made[2], 'list-a'],
    [made[1], 'list-b'],
    [made[0], 'list-a'],
  ]);
  expect(all[0]).not.toHaveProperty('publicKey');
});

describe('several processes on one database', () => {
  const stores: NodeStore[] = [];
  let open: () => Promise<NodeContext>;

  beforeAll(async () => {
    const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
    const logSigner = await createLogSigner('test.example/audit', keys);
    const shared = await postgres.freshDatabase();
    open = async () => {
      const store = await openNodeStore({ url: shared, logSigner });
      stores.push(store);
      return { ...node, store };
    };
  });

  afterAll(async () => {
    for (const store of stores) await store.close();
  });

  test('registered, replaced and revoked keys are the same after a restart', async () => {
    const on = await open();
    const [first, gone] = [await newKey({ on, days: 7 }), await newKey({ on })];
    await revoke(gone.keyId, { on });
    const next = await createKeys('standard');
    await rotate(first.keyId, next.publicKey, { on });
    const before = await listEncryptionKeys(on, 'caller');
    expect(before).toHaveLength(3);
    await stores.pop()?.close();
    const reopened = await open();
    expect(await listEncryptionKeys(reopened, 'caller')).toEqual(before);
    expect(Buffer.from(await usableKey(reopened, caller, next.keyId)).equals(next.publicKey)).toBe(true);
    await expect(usableKey(reopened, caller, gone.keyId)).rejects.toMatchObject({ code: 'KEY_REVOKED' });
    await expect(rotate(first.keyId, next.publicKey, { on: reopened })).resolves.toMatchObject({ created: false });
  });

  test('a revocation by one is seen by the other at once', async () => {
    const [here, there] = [await open(), await open()];
    const { keyId } = await newKey({ on: here });
    await expect(usableKey(here, caller, keyId)).resolves.toBeInstanceOf(Uint8Array);
    await revoke(keyId, { on: there });
    await expect(usableKey(here, caller, keyId)).rejects.toMatchObject({ code: 'KEY_REVOKED' });
  });

  test('registrations and rotations at once do not pass the limit of usable keys', async () => {
    const [here, there] = [await open(), await open()];
    const full = { caller: { keyPrefix: 'eeeeeeee', owner: 'full' } };
    const [base] = [await newKey({ on: here, ...full })];
    const createdAt = here.clock();
    await here.store.transaction(async (tx) => {
      for (let i = 1; i < MOST_USABLE_KEYS - 3; i++) {
        const keyId = i.toString(16).padStart(64, '0');
        const publicKey = Uint8Array.of(i);
        const expiresAt = new Date(createdAt.getTime() + DAY);
        await tx.encryptionKeys.insert({ keyId, preset: 'standard', owner: 'full', publicKey, createdAt, expiresAt });
      }
    });
    const keys = await Promise.all(Array.from({ length: 8 }, () => createKeys('standard')));
    const results = await Promise.allSettled(
      keys.map(({ publicKey }, i) => register(publicKey, { on: i % 2 === 0 ? here : there, ...full })),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    for (const result of results) if (result.status === 'rejected') expect(result.reason.code).toBe('KEY_LIMIT');
    const usable = async () => (await listEncryptionKeys(here, 'full')).filter(({ standing }) => standing === 'usable');
    expect(await usable()).toHaveLength(MOST_USABLE_KEYS);

    const next = await createKeys('standard');
    const withGrace = rotate(base.keyId, next.publicKey, { on: here, ...full, graceHours: 1 });
    await expect(withGrace).rejects.toMatchObject({ code: 'KEY_LIMIT' });
    await rotate(base.keyId, next.publicKey, { on: there, ...full, graceHours: 0 });
    await revoke(next.keyId, { on: here, owner: 'full' });
    const room = await createKeys('standard');
    await expect(register(room.publicKey, { on: here, ...full })).resolves.toMatchObject({ created: true });
    expect(await usable()).toHaveLength(MOST_USABLE_KEYS);
    await expect(newKey({ on: there })).resolves.toMatchObject({ created: true });
  });
});
