import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { connect } from '../../src/database/connection.ts';
import type { NewRecord } from '../../src/store/records.ts';
import { usePostgres } from '../support/postgres.ts';
import { entry, type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
let node: OpenedStore;
beforeAll(async () => {
  node = await openStore(await postgres.freshDatabase());
});
afterAll(() => node.store.close());

const FIELDS = 3;
const subjectOf = (i: number) => new Uint8Array(createHash('sha256').update(String(i)).digest());

function* records(count: number, label: (i: number) => 0 | 1 | null): Generator<NewRecord> {
  for (let i = 0; i < count; i++) {
    yield {
      subject: subjectOf(i),
      label: label(i),
      time: i % 2 ? new Date(i) : null,
      bins: Uint16Array.of(i, 65_535 - i, 7),
    };
  }
}

async function importInto(name: string, file: string, rows: Iterable<NewRecord>): Promise<number> {
  return node.store.transaction(async (tx) => {
    const found = await tx.datasets.find(name);
    const { id } = found ?? (await tx.datasets.create({ name, contractHash: 'c'.repeat(64), contract: { name } }));
    await tx.datasets.lock(id);
    const started = await tx.datasets.startImport(id, file);
    const kept = await tx.copyRecords({ datasetId: id, importId: started.id }, rows);
    await tx.datasets.finishImport(started.id, { rowsRead: kept, rowsKept: kept, rowsBad: 0, clamped: 0 });
    await tx.append(entry(kept));
    return id;
  });
}

describe('records', () => {
  test('what was copied comes back: labelled rows only, in order, over several imports and chunks', async () => {
    const id = await importInto(
      'a',
      'f1',
      records(12_345, (i) => (i % 5 === 0 ? null : ((i % 2) as 0 | 1))),
    );
    await importInto(
      'a',
      'f2',
      records(3, () => 1),
    );
    const loaded = await node.store.trainingData(id, FIELDS);
    const expected = [
      ...records(12_345, (i) => (i % 5 === 0 ? null : ((i % 2) as 0 | 1))),
      ...records(3, () => 1),
    ].filter(({ label }) => label !== null);
    expect(loaded.rows).toBe(expected.length);
    expect(Buffer.from(loaded.subjects).equals(Buffer.concat(expected.map(({ subject }) => subject)))).toBe(true);
    expect([...loaded.labels]).toEqual(expected.map(({ label }) => label));
    expect([...loaded.bins]).toEqual(expected.flatMap(({ bins }) => [...bins]));
    expect(await node.store.datasets.find('a')).toMatchObject({ records: 12_348, contract: { name: 'a' } });
    const client = await connect(node.url);
    const { rows } = await client.query(
      'SELECT time FROM records WHERE dataset_id = $1 AND seq IN (0, 1) ORDER BY seq',
      [id],
    );
    expect(rows.map(({ time }) => time)).toEqual([null, new Date(1)]);
    await client.end();
  });

  test('the same file again, a source that fails and a record that does not fit leave nothing behind', async () => {
    const id = await importInto(
      'b',
      'f1',
      records(10, () => 0),
    );
    const before = await node.store.audit.head();
    await expect(
      importInto(
        'b',
        'f1',
        records(10, () => 0),
      ),
    ).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    function* failing(): Generator<NewRecord> {
      yield* records(20_000, () => 0);
      throw new RangeError('the disk is gone');
    }
    await expect(importInto('b', 'f2', failing())).rejects.toThrow('the disk is gone');
    const short = { subject: new Uint8Array(31), label: 0 as const, time: null, bins: Uint16Array.of(1, 2, 3) };
    await expect(importInto('b', 'f3', [short])).rejects.toMatchObject({ code: 'RECORD_INVALID' });
    expect((await node.store.trainingData(id, FIELDS)).rows).toBe(10);
    expect(await node.store.datasets.imports(id)).toHaveLength(1);
    expect((await node.store.audit.head()).size).toBe(before.size);
    // The connection that carried a failed COPY is still good.
    await expect(
      importInto(
        'b',
        'f2',
        records(5, () => 0),
      ),
    ).resolves.toBe(id);
  });

  test('records that do not fit their contract any more are refused', async () => {
    const id = await importInto(
      'c',
      'f1',
      records(4, () => 1),
    );
    await expect(node.store.trainingData(id, FIELDS + 1)).rejects.toMatchObject({ code: 'RECORD_INVALID' });
    await expect(node.store.trainingData(999_999, FIELDS)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('an empty data set is empty', async () => {
    const id = await importInto('d', 'f1', []);
    expect(await node.store.trainingData(id, FIELDS)).toMatchObject({ rows: 0 });
  });
});

describe('rows', () => {
  const adopt = (hash: string) =>
    node.store.transaction((tx) =>
      tx.models.makeChampion({
        ...{
          hash,
          contractHash: 'c',
          contract: { a: 1 },
          model: { b: [1.5] },
          planId: null,
          evidence: new Uint8Array([1]),
        },
        adoptedAt: new Date(),
      }),
    );

  test('there is one champion, also when two are adopted at once', async () => {
    expect(await node.store.models.champion()).toBeNull();
    expect(await adopt('m1')).toEqual({ previous: null });
    expect(await adopt('m1')).toEqual({ previous: 'm1' });
    await Promise.all([adopt('m2'), adopt('m3')]);
    const list = await node.store.models.list();
    expect(list.map(({ status }) => status)).toEqual(['champion', 'retired', 'retired']);
    expect(await adopt('m1')).toEqual({ previous: list[0].hash });
    expect(await node.store.models.champion()).toMatchObject({
      hash: 'm1',
      retiredAt: null,
      contract: { a: 1 },
      model: { b: [1.5] },
    });
  });

  test('keys are inserted once and revoked once', async () => {
    const now = new Date();
    const key = {
      keyId: 'k',
      preset: 'standard',
      owner: 'o',
      publicKey: new Uint8Array([1, 2]),
      createdAt: now,
      expiresAt: null,
    };
    const result = await node.store.transaction(async (tx) => [
      await tx.encryptionKeys.insert(key),
      await tx.encryptionKeys.insert({ ...key, owner: 'thief' }),
      await tx.encryptionKeys.revoke('k', now),
      await tx.encryptionKeys.revoke('k', now),
    ]);
    expect(result).toEqual([true, false, true, false]);
    expect(await node.store.encryptionKeys.find('k')).toMatchObject({ owner: 'o', publicKey: new Uint8Array([1, 2]) });
    const apiKey = { prefix: 'p', secretHash: 'h', name: 'n', scopes: ['score'], createdAt: now, expiresAt: null };
    await node.store.transaction((tx) => tx.apiKeys.insert(apiKey));
    const again = node.store.transaction((tx) => tx.apiKeys.insert(apiKey));
    await expect(again).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    expect(await node.store.apiKeys.find('p')).toEqual({ ...apiKey, revokedAt: null });
  });

  test('a plan is answered once and ended once', async () => {
    const plan = { id: 'plan', hash: 'h', plan: { rounds: 5 }, datasetId: null, state: 'accepted' as const };
    await node.store.transaction((tx) => tx.plans.insert(plan));
    await expect(node.store.transaction((tx) => tx.plans.insert(plan))).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    });
    const ends = await node.store.transaction(async (tx) => [
      await tx.plans.end('plan', 'completed'),
      await tx.plans.end('plan', 'aborted', 'late'),
    ]);
    expect(ends).toEqual([true, false]);
    expect(await node.store.plans.find('plan')).toMatchObject({
      state: 'completed',
      reason: null,
      plan: { rounds: 5 },
    });
  });

  test('the database belongs to one node', async () => {
    const identity = { name: 'bank-a', publicKey: 'k', logVerifierKey: 'v' };
    const claim = (change = {}) => node.store.transaction((tx) => tx.identity.claim({ ...identity, ...change }));
    expect([await claim(), await claim()]).toEqual([true, false]);
    await expect(claim({ publicKey: 'other' })).rejects.toMatchObject({ code: 'DATABASE_IN_USE' });
  });

  test('a server that is gone is DATABASE_UNAVAILABLE, nothing is half-written, and the store recovers', async () => {
    const client = await connect(node.url);
    const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`;
    const killed = node.store.transaction(async (tx) => {
      await tx.append(entry(1));
      await client.query(kill);
      await tx.append(entry(2));
    });
    await expect(killed).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    await client.end();
    await node.store.decisions.append(entry(3));
    await node.store.audit.fsck();
  });
});
