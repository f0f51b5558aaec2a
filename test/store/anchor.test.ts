import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { parseCheckpoint } from '../../src/audit/checkpoint.ts';
import { connect } from '../../src/database/connection.ts';
import { fileAnchor } from '../../src/store/anchor.ts';
import { type NodeStore, openNodeStore } from '../../src/store/nodeStore.ts';
import { usePostgres, withDatabase } from '../support/postgres.ts';
import { entry, newSigner } from './node.ts';

const postgres = usePostgres();
const signer = await newSigner();
const opened: NodeStore[] = [];
let directory: string;
let path: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-anchor-'));
});
beforeEach(() => {
  path = join(directory, `${randomBytes(6).toString('hex')}.checkpoint`);
});
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function open(url: string): Promise<NodeStore> {
  const store = await openNodeStore({ url, logSigner: signer, anchor: fileAnchor(path) });
  opened.push(store);
  return store;
}

const close = (store: NodeStore) => opened.splice(opened.indexOf(store), 1)[0].close();
const anchored = async () => parseCheckpoint(await readFile(path, 'utf8')).size;
const fill = (store: NodeStore, count: number) =>
  store.transaction(async (tx) => {
    for (let i = 0; i < count; i++) await tx.append(entry(i));
  });

/** A copy of a database nobody is connected to: its backup. */
async function copyOf(url: string): Promise<string> {
  const name = `${new URL(url).pathname.slice(1)}_${randomBytes(3).toString('hex')}`;
  await run(withDatabase(url, 'postgres'), `CREATE DATABASE ${name} TEMPLATE ${new URL(url).pathname.slice(1)}`);
  return withDatabase(url, name);
}

async function run(url: string, sql: string): Promise<void> {
  const client = await connect(url);
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

const SET_BACK = {
  code: 'AUDIT_LOG_TAMPERED',
  message: expect.stringContaining('older than the last checkpoint this node signed'),
  fix: expect.stringContaining('Restore the newest state'),
};

describe('anchor', () => {
  test('is durable before a transaction resolves, and follows the hot path within its close', async () => {
    const store = await open(await postgres.freshDatabase());
    expect(await anchored()).toBe(0);
    await fill(store, 3);
    expect(await anchored()).toBe(3);
    await store.decisions.append({ ...entry(3), type: 'privacy.lost' });
    expect(await anchored()).toBe(4);
    await store.decisions.append(entry(4));
    await store.transaction((tx) => tx.apiKeys.list());
    expect(await anchored()).toBe(4);
    await close(store);
    expect(await anchored()).toBe(5);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await readdir(directory)).filter((name) => name.startsWith(`${basename(path)}.`))).toEqual([]);
  });

  test('a backup that was restored is refused, whatever it lacks; the current database is not', async () => {
    const url = await postgres.freshDatabase();
    const first = await open(url);
    await fill(first, 5);
    await close(first);
    const backup = await copyOf(url);
    const second = await open(url);
    await second.transaction((tx) => tx.append({ ...entry(5), type: 'privacy.reserve', outcome: 'refused' }));
    await close(second);

    await expect(open(backup)).rejects.toMatchObject(SET_BACK);
    await expect(open(await postgres.freshDatabase())).rejects.toMatchObject(SET_BACK);
    expect(await anchored()).toBe(6);
    await open(url);
  });

  test('a backup that a node without its anchor went on with is another history', async () => {
    const url = await postgres.freshDatabase();
    const first = await open(url);
    await fill(first, 6);
    await close(first);
    const backup = await copyOf(url);
    const second = await open(url);
    await fill(second, 3);
    await close(second);
    const fork = await openNodeStore({ url: backup, logSigner: signer });
    opened.push(fork);
    await fill(fork, 7);
    await expect(open(backup)).rejects.toMatchObject(SET_BACK);
    // Made to look like the anchored history, the stored hashes no longer give the root that was signed.
    await run(backup, 'ALTER TABLE audit_entries DISABLE TRIGGER USER');
    const honest = await connect(url);
    const { rows } = await honest.query('SELECT index, node FROM audit_entries WHERE index IN (7, 8)');
    await honest.end();
    for (const { index, node } of rows) {
      const hash = node.toString('hex');
      await run(backup, `UPDATE audit_entries SET node = '\\x${hash}' WHERE index = ${index}`);
    }
    await expect(open(backup)).rejects.toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
      message: expect.stringContaining('do not give the signed root'),
    });
  });

  test('a node that was killed with its anchor behind opens, and the anchor catches up', async () => {
    const url = await postgres.freshDatabase();
    for (const [before, after] of [
      [0, 1],
      [3, 4],
      [8, 2_500],
    ]) {
      const store = await open(url);
      await fill(store, before);
      const size = await anchored();
      await close(store);
      const dying = await openNodeStore({ url, logSigner: signer });
      await fill(dying, after);
      await dying.close();
      expect(await anchored()).toBe(size);
      await close(await open(url));
      expect(await anchored()).toBe(size + after);
    }
  });

  test('two processes that share a node never set the anchor back', async () => {
    const url = await postgres.freshDatabase();
    const [a, b] = [await open(url), await open(url)];
    let last = 0;
    let looking = true;
    const looks = (async () => {
      while (looking) {
        const size = await anchored();
        expect(size).toBeGreaterThanOrEqual(last);
        last = size;
        await new Promise((next) => setImmediate(next));
      }
    })();
    await Promise.all(Array.from({ length: 40 }, (_, i) => fill(i % 2 === 0 ? a : b, 1)));
    looking = false;
    await looks;
    expect(await anchored()).toBe(40);
  });

  test('a checkpoint that cannot be kept is an error of the transaction; an unreadable one refuses the start', async () => {
    const url = await postgres.freshDatabase();
    path = join(directory, 'gone', 'audit.checkpoint');
    await expect(open(url)).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE', where: path });
    path = directory;
    await expect(open(url)).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE', where: path });
    let full = false;
    const store = await openNodeStore({
      url,
      logSigner: signer,
      anchor: {
        read: async () => null,
        write: (note) =>
          full ? fileAnchor(join(directory, 'gone', 'x')).write(note) : fileAnchor(join(directory, 'y')).write(note),
      },
    });
    opened.push(store);
    await fill(store, 1);
    full = true;
    await expect(fill(store, 1)).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    full = false;
    await fill(store, 1);
    expect((await store.audit.head()).size).toBe(3);
  });
});
