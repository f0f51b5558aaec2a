import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from '@jest/globals';
import { connect } from '../../src/database/connection.ts';
import { asStoreError } from '../../src/database/failures.ts';
import { usePostgres } from '../support/postgres.ts';
import { entry, type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
const opened: OpenedStore[] = [];
afterEach(async () => {
  for (const { store } of opened.splice(0)) await store.close();
});

async function open(url?: string, signer?: OpenedStore['signer']): Promise<OpenedStore> {
  const one = await openStore(url ?? (await postgres.freshDatabase()), signer);
  opened.push(one);
  return one;
}

async function run(url: string, sql: string) {
  const client = await connect(url);
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

const apiKey = { prefix: 'p', secretHash: 'h', name: 'n', scopes: [], createdAt: new Date(), expiresAt: null };
const EXPIRED = { code: 'DATABASE_UNAVAILABLE', message: expect.stringContaining('longer than its limit') };

/** Nothing of the transaction is there, and the log goes on. */
async function expectNothingWritten({ url, store }: OpenedStore, size: number): Promise<void> {
  expect(await run(url, 'SELECT count(*)::int AS n FROM audit_entries')).toEqual([{ n: size }]);
  expect(await store.apiKeys.find('p')).toBeNull();
  expect(await store.decisions.append(entry(size))).toMatchObject({ index: size });
  expect(await store.audit.fsck()).toMatchObject({ size: size + 1 });
}

describe('a transaction that takes longer than its limit', () => {
  test('writes nothing when its work goes on, neither over Prisma nor over the raw connection', async () => {
    const node = await open();
    await node.store.decisions.append(entry(0));
    const tried: unknown[] = [];
    const late = node.store.transaction(
      async (tx) => {
        await tx.apiKeys.insert(apiKey);
        await tx.append(entry(1));
        await sleep(600);
        tried.push(await tx.append(entry(2)).catch((error) => error.code));
        tried.push(await tx.append(entry(3)).catch((error) => error.code));
        tried.push(await tx.ledger.lockBudget(1).catch((error) => error.code));
        tried.push(await tx.apiKeys.insert({ ...apiKey, prefix: 'q' }).catch((error) => error.code));
      },
      { timeoutMs: 200 },
    );
    await expect(late).rejects.toMatchObject(EXPIRED);
    expect(tried).toEqual(Array(4).fill('DATABASE_UNAVAILABLE'));
    expect(await node.store.apiKeys.find('q')).toBeNull();
    await expectNothingWritten(node, 1);
  });

  test('writes nothing when its queries wait for a lock until then', async () => {
    const node = await open();
    await node.store.decisions.append(entry(0));
    const holder = await connect(node.url);
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM audit_head FOR UPDATE');
    const late = node.store.transaction(
      async (tx) => {
        await tx.apiKeys.insert(apiKey);
        await expect(tx.append(entry(1))).rejects.toThrow();
        await expect(tx.datasets.lock(1)).rejects.toThrow();
        await expect(tx.append(entry(2))).rejects.toThrow();
      },
      { timeoutMs: 300 },
    );
    await expect(late).rejects.toMatchObject(EXPIRED);
    await holder.query('ROLLBACK');
    await holder.end();
    await expectNothingWritten(node, 1);
  });

  test('holds its locks no longer than that, even when its process hangs', async () => {
    const node = await open();
    const hung = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    const hanging = node.store.transaction(
      async (tx) => {
        await tx.append(entry(0));
        locked.resolve();
        await hung.promise;
      },
      { timeoutMs: 500 },
    );
    const failed = expect(hanging).rejects.toMatchObject(EXPIRED);
    await locked.promise;
    // The transaction above hangs for as long as this takes.
    expect(await node.store.decisions.append(entry(0))).toMatchObject({ index: 0 });
    hung.resolve();
    await failed;
  });
});

describe('errors of the database', () => {
  test('a deadlock asks to be tried again', async () => {
    const node = await open();
    const id = await node.store.transaction(async (tx) => {
      const { id } = await tx.datasets.create({ name: 'c', contractHash: 'c'.repeat(64), contract: {} });
      await tx.ledger.setBudget(id, { epsilon: 1, delta: 1e-6, muSquared: 1 });
      return id;
    });
    const ended = await Promise.allSettled([
      node.store.transaction(async (tx) => {
        await tx.append(entry(0));
        await sleep(200);
        await tx.ledger.lockBudget(id);
      }),
      node.store.transaction(async (tx) => {
        await tx.ledger.lockBudget(id);
        await sleep(200);
        await tx.append(entry(1));
      }),
    ]);
    const reasons = ended.flatMap((each) => (each.status === 'rejected' ? [each.reason] : []));
    expect(reasons).toEqual([
      expect.objectContaining({
        code: 'DATABASE_UNAVAILABLE',
        message: expect.stringContaining('in the way'),
        fix: expect.stringContaining('Try again'),
      }),
    ]);
    expect(await node.store.audit.fsck()).toMatchObject({ size: 1 });
  });

  test.each(['40001', '40P01', 'P2034'])('%s is retryable, also inside an error of Prisma', (code) => {
    const retry = { code: 'DATABASE_UNAVAILABLE', fix: expect.stringContaining('Try again') };
    expect(asStoreError({ code })).toMatchObject(retry);
    const wrapped = { code: 'P2010', meta: { driverAdapterError: { cause: { originalCode: code } } } };
    expect(asStoreError(wrapped)).toMatchObject(retry);
  });

  test('errors of callers pass as they are', () => {
    for (const error of [new RangeError('x'), { code: 'ENOENT' }, null, 'text', undefined]) {
      expect(asStoreError(error)).toBe(error);
    }
  });

  test('a connection that breaks during COMMIT: it may or may not have been written', async () => {
    const node = await open();
    await run(
      node.url,
      `CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
       CREATE CONSTRAINT TRIGGER die AFTER INSERT ON audit_entries DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION die()`,
    );
    const unknown = { code: 'DATABASE_UNAVAILABLE', fix: expect.stringContaining('may or may not have been written') };
    await expect(node.store.decisions.append(entry(0))).rejects.toMatchObject(unknown);
    await expect(node.store.transaction((tx) => tx.append(entry(0)))).rejects.toMatchObject(unknown);
    await run(node.url, 'DROP TRIGGER die ON audit_entries');
    // Before COMMIT it is known that nothing was.
    const early = node.store.transaction(async (tx) => {
      await tx.append(entry(0));
      const others = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE state = 'idle in transaction' AND datname = current_database()`;
      await run(node.url, others);
      await tx.append(entry(1));
    });
    await expect(early).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
      message: 'The database server does not answer.',
      fix: expect.stringContaining('nothing of this request was written'),
    });
    expect(await node.store.decisions.append(entry(0))).toMatchObject({ index: 0 });
  });
});

describe('entries that do not fit the head', () => {
  const INSERT = `INSERT INTO audit_entries VALUES (2, '\\x00', '\\x00')`;

  test('one beyond it is named when the store opens, and by the append it is in the way of', async () => {
    const node = await open();
    await node.store.decisions.append(entry(0));
    await node.store.decisions.append(entry(1));
    await run(node.url, INSERT);
    const stray = { code: 'AUDIT_LOG_TAMPERED', where: 'index 2' };
    await expect(node.store.decisions.append(entry(2))).rejects.toMatchObject(stray);
    await expect(open(node.url, node.signer)).rejects.toMatchObject(stray);
  });

  test('the last one missing is named when the store opens', async () => {
    const node = await open();
    await node.store.decisions.append(entry(0));
    await run(node.url, 'ALTER TABLE audit_entries DISABLE TRIGGER USER; DELETE FROM audit_entries');
    await expect(open(node.url, node.signer)).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED', where: 'index 0' });
  });
});
