import { afterEach, describe, expect, test } from '@jest/globals';
import { entryBytes } from '../../src/audit/entry.ts';
import { CompactRange, leafHash } from '../../src/audit/tree.ts';
import { verifyLog } from '../../src/audit/verifyLog.ts';
import { connect } from '../../src/database/connection.ts';
import { usePostgres } from '../support/postgres.ts';
import { entry, newSigner, type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
const opened: OpenedStore[] = [];

async function open(url?: string, signer?: OpenedStore['signer']): Promise<OpenedStore> {
  const one = await openStore(url ?? (await postgres.freshDatabase()), signer);
  opened.push(one);
  return one;
}

afterEach(async () => {
  for (const { store } of opened.splice(0)) await store.close();
});

async function fill({ store }: OpenedStore, count: number): Promise<void> {
  await store.transaction(async (tx) => {
    for (let i = 0; i < count; i++) await tx.append(entry(i));
  });
}

async function lines({ store }: OpenedStore): Promise<string[]> {
  const all: string[] = [];
  for await (const line of store.audit.exportLines()) all.push(line);
  return all;
}

describe('appending', () => {
  test('entries of a transaction are numbered, committed with it, and verify', async () => {
    const node = await open();
    const positions = await node.store.transaction(async (tx) => [
      await tx.append(entry(0)),
      await tx.append(entry(1)),
    ]);
    expect(positions.map(({ index }) => index)).toEqual([0, 1]);
    expect(positions[0].leafHash).toMatch(/^[0-9a-f]{64}$/);
    expect(await node.store.audit.fsck()).toMatchObject({ size: 2 });
    expect(await verifyLog(await lines(node), { key: node.signer.verifierKey })).toMatchObject({ entries: 2 });
  });

  test('a transaction that fails leaves no entry, and its numbers are given again', async () => {
    const node = await open();
    await expect(
      node.store.transaction(async (tx) => {
        await tx.apiKeys.insert({
          prefix: 'p',
          secretHash: 'h',
          name: 'n',
          scopes: [],
          createdAt: new Date(),
          expiresAt: null,
        });
        await tx.append(entry(0));
        throw new RangeError('stop');
      }),
    ).rejects.toThrow('stop');
    expect(await node.store.apiKeys.find('p')).toBeNull();
    await fill(node, 1);
    expect(await node.store.audit.fsck()).toMatchObject({ size: 1 });
  });

  test('an entry that does not fit is refused and the others of the group are not', async () => {
    const node = await open();
    const big = { ...entry(0), details: { text: 'x'.repeat(70_000) } };
    const results = await Promise.allSettled([
      node.store.decisions.append(entry(1)),
      node.store.decisions.append(big),
      node.store.decisions.append(entry(2)),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(await node.store.audit.fsck()).toMatchObject({ size: 2 });
  });

  test('two stores on one database number all entries without gap or repetition', async () => {
    const a = await open();
    const b = await open(a.url, a.signer);
    const work = [a, b].flatMap(({ store }) => [
      ...Array.from({ length: 150 }, (_, i) => store.decisions.append(entry(i))),
      ...Array.from({ length: 5 }, (_, i) => store.transaction((tx) => tx.append(entry(1000 + i)))),
    ]);
    const indices = (await Promise.all(work)).map(({ index }) => index).sort((x, y) => x - y);
    expect(indices).toEqual(Array.from({ length: 310 }, (_, i) => i));
    await expect(a.store.audit.fsck()).resolves.toMatchObject({ size: 310 });
    expect(await verifyLog(await lines(b))).toMatchObject({ entries: 310 });
  });

  test('an export made while entries arrive verifies', async () => {
    const node = await open();
    await fill(node, 50);
    const writing = Array.from({ length: 500 }, (_, i) => node.store.decisions.append(entry(i)));
    expect((await verifyLog(await lines(node))).entries).toBeGreaterThanOrEqual(50);
    await Promise.all(writing);
  });
});

describe('opening', () => {
  test('the log is continued by the same key and refused by another', async () => {
    const first = await open();
    await fill(first, 3);
    const again = await open(first.url, first.signer);
    expect((await again.store.audit.head()).size).toBe(3);
    await expect(openStore(first.url, await newSigner())).rejects.toMatchObject({ code: 'AUDIT_SIGNATURE_INVALID' });
  });

  test('a deleted head is found, not replaced', async () => {
    const node = await open();
    await fill(node, 3);
    await tamper(node.url, 'DELETE FROM audit_head');
    await expect(openStore(node.url, node.signer)).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED' });
    await expect(fill(node, 1)).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED' });
  });
});

const hex = (bytes: Uint8Array) => `\\x${Buffer.from(bytes).toString('hex')}`;

/** What the administrator of the database can do: switch the triggers off. */
async function tamper(url: string, sql: string): Promise<void> {
  const client = await connect(url);
  for (const table of ['audit_entries', 'audit_head']) await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
  await client.query(sql);
  for (const table of ['audit_entries', 'audit_head']) await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
  await client.end();
}

describe('tampering', () => {
  test('is refused by the database', async () => {
    const node = await open();
    await fill(node, 3);
    const client = await connect(node.url);
    for (const sql of [
      'UPDATE audit_entries SET bytes = bytes WHERE index = 1',
      'DELETE FROM audit_entries WHERE index = 1',
      'TRUNCATE audit_entries',
      'DELETE FROM audit_head',
      'TRUNCATE audit_head',
      'UPDATE audit_head SET size = 1',
    ]) {
      await expect(client.query(sql)).rejects.toMatchObject({ code: '42501' });
    }
    await client.end();
    await expect(node.store.audit.fsck()).resolves.toMatchObject({ size: 3 });
  });

  const EDIT = `bytes = convert_to(replace(convert_from(bytes, 'UTF8'), '"number":4', '"number":5'), 'UTF8')`;
  const SWAP = (columns: string) =>
    `UPDATE audit_entries a SET ${columns
      .split(' ')
      .map((column) => `${column} = b.${column}`)
      .join(', ')} FROM audit_entries b WHERE a.index IN (4, 6) AND b.index = 10 - a.index`;

  test.each([
    ['one entry edited', `UPDATE audit_entries SET ${EDIT} WHERE index = 4`, 'index 4'],
    [
      'one entry edited together with its own hash',
      `UPDATE audit_entries SET ${EDIT}, node = sha256('\\x00'::bytea || ${EDIT.slice('bytes = '.length)}) WHERE index = 4`,
      'index 5',
    ],
    ['one entry deleted', 'DELETE FROM audit_entries WHERE index = 4', 'index 5'],
    ['the last entry deleted', 'DELETE FROM audit_entries WHERE index = 9', 'index 9'],
    ['two entries swapped', SWAP('bytes'), 'index 4'],
    ['two entries swapped with their hashes', SWAP('bytes node'), 'index 5'],
    [
      'an entry added',
      'INSERT INTO audit_entries SELECT 10, node, bytes FROM audit_entries WHERE index = 4',
      'index 10',
    ],
    ['the head set back', 'UPDATE audit_head SET size = 9', 'head'],
    ['the root replaced', "UPDATE audit_head SET root = sha256('x'::bytea)", 'head'],
  ])('is located by fsck: %s', async (_, sql, where) => {
    const node = await open();
    await fill(node, 10);
    await tamper(node.url, sql);
    await expect(node.store.audit.fsck()).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED', where });
    const exported = await lines(node);
    const verified = await verifyLog(exported, { key: node.signer.verifierKey }).catch((error) => error.code);
    // A stranger and a root beside the signed one do not reach the export, which holds what was signed.
    const inExport = where !== 'index 10' && !sql.includes('SET root');
    expect(verified === 'AUDIT_LOG_TAMPERED').toBe(inExport);
  });

  test('a history rewritten together with its tree state while the node runs is not signed by the next append', async () => {
    const node = await open();
    await fill(node, 3);
    const range = CompactRange.empty();
    const changes: string[] = [];
    for (let i = 0; i < 3; i++) {
      const bytes = entryBytes(entry(i === 0 ? 99 : i), new Date());
      const hash = hex(range.append(leafHash(bytes)));
      changes.push(`UPDATE audit_entries SET bytes = '${hex(bytes)}', node = '${hash}' WHERE index = ${i}`);
    }
    for (const root of ['', `, root = '${hex(range.root())}'`]) {
      await tamper(node.url, [...changes, `UPDATE audit_head SET range = '${hex(range.pack())}'${root}`].join(';'));
      await expect(node.store.decisions.append(entry(3))).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED' });
      await expect(fill(node, 1)).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED' });
    }
    const { checkpoint } = await node.store.audit.head();
    expect(checkpoint.split('\n')[1]).toBe('3');
  });

  test('an older head of our own put back while the node runs is not continued', async () => {
    const node = await open();
    await fill(node, 3);
    const client = await connect(node.url);
    await client.query('CREATE TABLE kept AS SELECT * FROM audit_head');
    await client.end();
    await node.store.decisions.append(entry(3));
    const back = ['size', 'range', 'root', 'checkpoint'].map((column) => `${column} = kept.${column}`).join(', ');
    await tamper(node.url, `DELETE FROM audit_entries WHERE index > 2; UPDATE audit_head SET ${back} FROM kept`);
    await expect(fill(node, 1)).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED', where: 'head' });
  });

  test("yesterday's backup restored is found with today's checkpoint", async () => {
    const node = await open();
    await fill(node, 5);
    const yesterday = await lines(node);
    await fill(node, 5);
    const { checkpoint } = await node.store.audit.head();
    await expect(verifyLog(yesterday)).resolves.toMatchObject({ entries: 5 });
    await expect(verifyLog(yesterday, { olderCheckpoint: checkpoint })).rejects.toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
    });
  });

  test('a log forked to show two auditors two stories is found when they compare checkpoints', async () => {
    const node = await open();
    await fill(node, 6);
    const { checkpoint } = await node.store.audit.head();
    const other = await open(undefined, node.signer);
    await other.store.transaction(async (tx) => {
      for (let i = 0; i < 8; i++) await tx.append(entry(i === 2 ? 99 : i));
    });
    const story = await lines(other);
    await expect(verifyLog(story)).resolves.toMatchObject({ entries: 8 });
    await expect(verifyLog(story, { olderCheckpoint: checkpoint })).rejects.toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
      where: 'older checkpoint',
    });
  });
});
