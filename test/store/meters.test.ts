import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { connect } from '../../src/database/connection.ts';
import type { DecisionDraft } from '../../src/store/decisions.ts';
import type { MeterDraft } from '../../src/store/meters.ts';
import { usePostgres } from '../support/postgres.ts';
import { entry, type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
let node: OpenedStore;
/** A second process of the same node: the same database and log key, its own connections. */
let second: OpenedStore;

beforeAll(async () => {
  node = await openStore(await postgres.freshDatabase());
  second = await openStore(node.url, node.signer);
});

afterAll(async () => {
  await second?.store.close();
  await node?.store.close();
});

const MODEL = 'a'.repeat(64);
const OTHER_MODEL = 'b'.repeat(64);

const meter = (change: Partial<MeterDraft> = {}): MeterDraft => ({
  owner: 'someone',
  modelHash: MODEL,
  generalLimit: 1_000,
  tag: randomBytes(16),
  vectors: 1,
  mostAnswers: null,
  ...change,
});
const decision = (change: Partial<DecisionDraft> = {}): DecisionDraft => {
  const id = randomUUID();
  return {
    ...{
      id,
      apiKey: 'abcd',
      idempotencyKey: null,
      bodyHash: 'b'.repeat(64),
      modelHash: MODEL,
      reply: `{"id":"${id}"}`,
    },
    entry: { ...entry(1), type: 'decision' },
    ...change,
  };
};
const sql = async <T extends object>(text: string, values: unknown[] = []): Promise<T[]> => {
  const client = await connect(node.url);
  try {
    return (await client.query<T>(text, values)).rows;
  } finally {
    await client.end();
  }
};
const countedOf = async (owner: string, modelHash = MODEL) =>
  (await node.store.meters.list(owner)).find((row) => row.modelHash === modelHash)?.vectors ?? 0;
const size = async () => (await node.store.audit.head()).size;
const codes = (results: PromiseSettledResult<unknown>[]) =>
  results.map((result) => (result.status === 'fulfilled' ? 'ok' : result.reason.code));

describe('a meter', () => {
  test('counts a vector once, and tells where it stands', async () => {
    const { decisions } = node.store;
    const one = meter({ owner: 'once' });
    expect((await decisions.record(decision(), one)).metered).toEqual({ counted: 1, limit: 1_000, repeated: false });
    expect((await decisions.record(decision(), one)).metered).toEqual({ counted: 1, limit: 1_000, repeated: true });
    const two = meter({ owner: 'once' });
    expect((await decisions.record(decision(), two)).metered).toMatchObject({ counted: 2, repeated: false });
    expect((await decisions.record(decision())).metered).toBeNull();
    expect(await countedOf('once')).toBe(2);
  });

  test('is one of an owner and a model', async () => {
    const tag = randomBytes(16);
    const { decisions } = node.store;
    await decisions.record(decision(), meter({ owner: 'p', tag }));
    await decisions.record(decision(), meter({ owner: 'p', tag, modelHash: OTHER_MODEL }));
    await decisions.record(decision(), meter({ owner: 'q', tag }));
    expect([await countedOf('p'), await countedOf('p', OTHER_MODEL), await countedOf('q')]).toEqual([1, 1, 1]);
  });

  test('a repeated decision counts nothing, in its own group and later', async () => {
    const { decisions } = node.store;
    const idempotencyKey = randomUUID();
    const again = () => decision({ idempotencyKey });
    // Another tag, as after a change of the model's contract: the stored answer is given, nothing new is told.
    const drafts = [again(), again(), again()].map((draft) => decisions.record(draft, meter({ owner: 'replays' })));
    const replies = await Promise.all(drafts);
    expect(replies.map(({ replayed }) => replayed)).toEqual([false, true, true]);
    const later = await decisions.record(again(), meter({ owner: 'replays' }));
    expect(later).toMatchObject({ replayed: true, metered: { counted: 1 } });
    expect(await countedOf('replays')).toBe(1);
  });

  test('a conflict or a taken id counts nothing', async () => {
    const { decisions } = node.store;
    const taken = decision({ idempotencyKey: randomUUID() });
    await decisions.record(taken, meter({ owner: 'conflict' }));
    const results = await Promise.allSettled([
      decisions.record({ ...taken, bodyHash: 'c'.repeat(64) }, meter({ owner: 'conflict' })),
      decisions.record(decision({ id: taken.id }), meter({ owner: 'conflict' })),
    ]);
    expect(codes(results)).toEqual(['IDEMPOTENCY_CONFLICT', 'ALREADY_EXISTS']);
    expect(await countedOf('conflict')).toBe(1);
  });

  test('a failed commit counts nothing', async () => {
    await sql(`CREATE FUNCTION fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'serialization_failure'; END $$`);
    await sql(`CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON metered_vectors DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION fail_at_commit()`);
    const before = await size();
    const failing = node.store.decisions.record(decision(), meter({ owner: 'failing' }));
    await expect(failing).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    await sql('DROP TRIGGER fail ON metered_vectors');
    expect([await countedOf('failing'), await size()]).toEqual([0, before]);
    await node.store.decisions.record(decision(), meter({ owner: 'failing' }));
    expect(await countedOf('failing')).toBe(1);
  });
});

describe('the limit', () => {
  test('refuses single answers of a group and leaves the others', async () => {
    const before = await size();
    const limited = (change: Partial<MeterDraft> = {}) => meter({ owner: 'tight', generalLimit: 3, ...change });
    const first = limited();
    const idempotencyKey = randomUUID();
    const { decisions } = node.store;
    const results = await Promise.allSettled([
      decisions.record(decision(), first),
      decisions.append(entry(1), limited({ vectors: 3, mostAnswers: 8 })),
      decisions.append(entry(2), limited({ vectors: 2, mostAnswers: 8 })),
      decisions.record(decision({ idempotencyKey }), limited()),
      decisions.record(decision({ idempotencyKey }), first),
      decisions.record(decision(), first),
      decisions.append(entry(3)),
      decisions.record(decision(), meter({ owner: 'roomy' })),
    ]);
    expect(codes(results)).toEqual(['ok', 'VECTOR_LIMIT', 'ok', 'VECTOR_LIMIT', 'ok', 'ok', 'ok', 'ok']);
    // The refused call left no answer under its key: the next one with that key was answered for itself.
    expect(results[4]).toMatchObject({ value: { replayed: false } });
    expect(await size()).toBe(before + 6);
    expect([await countedOf('tight'), await countedOf('roomy')]).toEqual([3, 1]);
    await node.store.audit.fsck();
  });

  test('exactly the limit is answered, whatever asks at once on two processes', async () => {
    const limit = 137;
    const stores = [node.store, second.store];
    const calls = Array.from({ length: 600 }, (_, i) =>
      stores[i % 2].decisions.record(decision(), meter({ owner: 'crowd', generalLimit: limit })),
    );
    const results = await Promise.allSettled(calls);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(limit);
    expect(new Set(codes(results))).toEqual(new Set(['ok', 'VECTOR_LIMIT']));
    expect(await countedOf('crowd')).toBe(limit);
    const [{ sum }] = await sql<{ sum: string }>(
      `SELECT sum(v.vectors) FROM metered_vectors v JOIN meters m ON m.id = v.meter_id WHERE m.owner = 'crowd'`,
    );
    expect(Number(sum)).toBe(limit);
  });

  test("the caller's own limit goes before the general one, also lowered below what is counted, and 0", async () => {
    const { decisions, transaction } = node.store;
    const set = (vectors: number | null) => transaction((tx) => tx.vectorLimits.set('own', vectors));
    const known = meter({ owner: 'own', generalLimit: 2 });
    const fresh = () => decisions.record(decision(), meter({ owner: 'own', generalLimit: 2 }));
    await decisions.record(decision(), known);
    await fresh();
    await expect(fresh()).rejects.toMatchObject({ code: 'VECTOR_LIMIT' });
    expect(await set(5)).toEqual({ previous: null });
    expect((await fresh()).metered).toEqual({ counted: 3, limit: 5, repeated: false });
    expect(await set(1)).toEqual({ previous: 5 });
    await expect(fresh()).rejects.toMatchObject({ code: 'VECTOR_LIMIT', message: expect.stringContaining('none is') });
    expect((await decisions.record(decision(), known)).metered).toEqual({ counted: 3, limit: 1, repeated: true });
    await set(0);
    await expect(fresh()).rejects.toMatchObject({ code: 'VECTOR_LIMIT' });
    expect(await set(null)).toEqual({ previous: 0 });
    await expect(fresh()).rejects.toMatchObject({ code: 'VECTOR_LIMIT' });
    expect(await countedOf('own')).toBe(3);
  });

  test('a request with more transactions than are left is refused whole and told how many are', async () => {
    const { decisions, meters } = node.store;
    const ask = (vectors: number) => meter({ owner: 'batch', generalLimit: 10, vectors, mostAnswers: 8 });
    await decisions.append(entry(1), ask(7));
    const refusal = { code: 'VECTOR_LIMIT', message: expect.stringMatching(/4 transactions and 3 are left of the 10/) };
    await expect(meters.check(ask(4))).rejects.toMatchObject(refusal);
    await expect(decisions.append(entry(1), ask(4))).rejects.toMatchObject(refusal);
    expect(await meters.check(ask(3))).toEqual({ counted: 10, limit: 10, repeated: false });
    expect(await countedOf('batch')).toBe(7);
  });
});

describe('an encrypted request', () => {
  test('is counted once, answered so often and no more, also at once, and its entry says whether it was repeated', async () => {
    const { decisions, meters } = node.store;
    const request = meter({ owner: 'frames', vectors: 5, mostAnswers: 4 });
    const before = await size();
    const results = await Promise.allSettled(Array.from({ length: 7 }, () => decisions.append(entry(1), request)));
    expect(codes(results)).toEqual([...Array(4).fill('ok'), ...Array(3).fill('REQUEST_REPLAYED')]);
    await expect(meters.check(request)).rejects.toMatchObject({ code: 'REQUEST_REPLAYED' });
    await expect(decisions.append(entry(1), request)).rejects.toMatchObject({ code: 'REQUEST_REPLAYED' });
    expect(await countedOf('frames')).toBe(5);
    const entries: unknown[] = [];
    for await (const { bytes } of node.store.audit.entries(before, await size())) {
      entries.push(JSON.parse(new TextDecoder().decode(bytes)).details.repeated);
    }
    expect(entries).toEqual([false, true, true, true]);
  });
});

describe('the rows', () => {
  test('a count is never lowered, given to another or deleted, whoever asks', async () => {
    await node.store.decisions.record(decision(), meter({ owner: 'kept' }));
    for (const statement of [
      `UPDATE meters SET vectors = 0 WHERE owner = 'kept'`,
      `UPDATE meters SET owner = 'else' WHERE owner = 'kept'`,
      `DELETE FROM meters WHERE owner = 'kept'`,
    ]) {
      await expect(sql(statement)).rejects.toThrow();
    }
    expect(await countedOf('kept')).toBe(1);
  });

  test('survive a restart, and use up no ids of meters', async () => {
    const url = await postgres.freshDatabase();
    const before = await openStore(url);
    for (let i = 0; i < 30; i++) await before.store.decisions.record(decision(), meter({ owner: 'first' }));
    await before.store.close();
    const after = await openStore(url, before.signer);
    const again = await after.store.decisions.record(decision(), meter({ owner: 'first', generalLimit: 31 }));
    expect(again.metered).toEqual({ counted: 31, limit: 31, repeated: false });
    await after.store.decisions.record(decision(), meter({ owner: 'second' }));
    const client = await connect(url);
    const { rows } = await client.query('SELECT owner, id FROM meters ORDER BY id');
    await client.end();
    await after.store.close();
    expect(rows).toEqual([
      { owner: 'first', id: 1 },
      { owner: 'second', id: 2 },
    ]);
  });
});

describe('any order of groups', () => {
  // The model: a set of counted tags a meter, decided one answer after the other.
  test('counts as one answer after the other would', async () => {
    let run = 0;
    const ask = fc.record({
      owner: fc.constantFrom('x', 'y'),
      tag: fc.nat(6),
      vectors: fc.integer({ min: 1, max: 4 }),
      encrypted: fc.boolean(),
      apart: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(ask, { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 0, max: 12 }),
        async (asks, limit) => {
          const name = `run-${run++}`;
          const counted = new Map<string, number>();
          const answers = new Map<string, number>();
          const expected = asks.map(({ owner, tag, encrypted, vectors }) => {
            const key = `${owner} ${encrypted} ${tag}`;
            const before = counted.get(owner) ?? 0;
            if (answers.has(key)) {
              const times = (answers.get(key) ?? 0) + 1;
              if (encrypted && times > 3) return 'REQUEST_REPLAYED';
              answers.set(key, times);
              return 'ok';
            }
            const more = encrypted ? vectors : 1;
            if (before + more > limit) return 'VECTOR_LIMIT';
            answers.set(key, 1);
            counted.set(owner, before + more);
            return 'ok';
          });
          const calls: Promise<unknown>[] = [];
          for (const { owner, tag, encrypted, vectors, apart } of asks) {
            const draft = meter({
              ...{ owner: `${name}-${owner}`, generalLimit: limit, tag: Buffer.alloc(16, tag + (encrypted ? 100 : 0)) },
              ...(encrypted ? { vectors, mostAnswers: 3 } : { vectors: 1, mostAnswers: null }),
            });
            const call = encrypted
              ? node.store.decisions.append(entry(1), draft)
              : node.store.decisions.record(decision(), draft);
            calls.push(call);
            if (apart) await call.catch(() => {});
          }
          expect(codes(await Promise.allSettled(calls))).toEqual(expected);
          for (const owner of ['x', 'y']) expect(await countedOf(`${name}-${owner}`)).toBe(counted.get(owner) ?? 0);
        },
      ),
      { numRuns: 40 },
    );
  });
});
