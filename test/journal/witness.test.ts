import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type pg from 'pg';
import { type Checkpoint, signCheckpoint } from '../../src/audit/checkpoint.ts';
import { createLogSigner, type LogSigner, parseVerifierKey, type VerifierKey } from '../../src/audit/note.ts';
import { consistencyProof } from '../../src/audit/proof.ts';
import { leafHash, rootOf } from '../../src/audit/tree.ts';
import { openPool } from '../../src/database/connection.ts';
import { applyMigrations } from '../../src/database/migrations.ts';
import type { Queryable } from '../../src/journal/head.ts';
import { acceptedHead, acceptHead, type ShownHead, type Verdict } from '../../src/journal/witness.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const pools: pg.Pool[] = [];
let signer: LogSigner;
let key: VerifierKey;

beforeAll(async () => {
  // Safe: generateKey for Ed25519 always gives a pair.
  const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  signer = await createLogSigner('demo/log', keys);
  key = parseVerifierKey(signer.verifierKey);
});
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.end();
});

async function witness(): Promise<pg.Pool> {
  const url = await postgres.freshDatabase();
  await applyMigrations(url, join(import.meta.dirname, '../../prisma/migrations/node'));
  const pool = await openPool(url);
  pools.push(pool);
  return pool;
}

/** Leaves of a log that tells story `story` from entry `fork` on. */
const leaves = (size: number, story = '', fork = 0) =>
  Array.from({ length: size }, (_, i) => leafHash(new TextEncoder().encode(`${i} ${i < fork ? '' : story}`)));

async function head(size: number, oldSize: number, story = '', fork = 0): Promise<ShownHead> {
  const all = leaves(size, story, fork);
  const proof = oldSize > 0 && oldSize < size ? consistencyProof(all, oldSize) : [];
  return { checkpoint: await signCheckpoint(size, rootOf(all), signer), oldSize, proof };
}

const sizeOf = (verdict: Verdict): number | null => (verdict.kind === 'accepted' ? verdict.checkpoint.size : null);

describe('a witness', () => {
  test('follows a log from head to head, and takes an older one only with its proof', async () => {
    const db = await witness();
    for (const [size, oldSize] of [
      [3, 0],
      [3, 3],
      [8, 3],
      [9, 8],
    ]) {
      expect(await acceptHead(db, key, await head(size, oldSize))).toMatchObject({ kind: 'accepted', newest: true });
    }
    const back = { ...(await head(5, 0)), oldSize: 9, proof: consistencyProof(leaves(9), 5) };
    expect(await acceptHead(db, key, back)).toMatchObject({ kind: 'accepted', newest: false });
    expect(await acceptHead(db, key, { ...back, proof: [] })).toMatchObject({ kind: 'inconsistent' });
    expect(await acceptHead(db, key, await head(12, 8))).toEqual({ kind: 'stale', size: 9 });
    expect(await acceptHead(db, key, await head(12, 9, 'other', 7))).toMatchObject({ kind: 'inconsistent' });
    expect(await acceptHead(db, key, await head(9, 9, 'other'))).toMatchObject({ kind: 'inconsistent' });
    expect((await acceptedHead(db, 'demo/log'))?.size).toBe(9);
  });

  test('that is shown two stories at once by two processes accepts one', async () => {
    for (const oldSize of [0, 4]) {
      const db = await witness();
      if (oldSize > 0) await acceptHead(db, key, await head(oldSize, 0));
      const stories = await Promise.all(
        Array.from({ length: 8 }, (_, i) => head(6, oldSize, i % 2 === 0 ? 'a' : 'b', oldSize)),
      );
      const verdicts = await Promise.all(stories.map((one) => acceptHead(db, key, one)));
      const accepted = new Set(
        verdicts.flatMap((one) => (one.kind === 'accepted' ? [Buffer.from(one.checkpoint.root).toString('hex')] : [])),
      );
      expect(accepted.size).toBe(1);
      expect(verdicts.filter(({ kind }) => kind === 'inconsistent').length).toBe(4);
    }
  });

  test.each(['before', 'after'])('that dies %s its memory is durable never cosigns two heads', async (when) => {
    const db = await witness();
    await acceptHead(db, key, await head(4, 0));
    // The process ends at the write: either nothing of it is done, or all but the reply.
    const dying: Queryable = {
      // Safe: every overload is passed on as it came.
      query: (async (...args: unknown[]) => {
        const isWrite = JSON.stringify(args[0]).includes('UPDATE');
        if (isWrite && when === 'before') throw new RangeError('killed');
        const result: unknown = await Reflect.apply(db.query, db, args);
        if (isWrite) throw new RangeError('killed');
        return result;
      }) as Queryable['query'],
    };
    await expect(acceptHead(dying, key, await head(6, 4, 'a', 4))).rejects.toThrow('killed');
    // Restarted, it is shown the other story, and then the first again.
    const after = [
      await acceptHead(db, key, await head(6, 4, 'b', 4)),
      await acceptHead(db, key, await head(6, 4, 'a', 4)),
    ];
    expect(after.map(sizeOf).filter((size) => size !== null)).toEqual([6]);
    expect(sizeOf(after[when === 'before' ? 0 : 1])).toBe(6);
  });

  test('whose memory is a plain read and write would have cosigned both', async () => {
    // The broken variant: what the compare-and-swap is for.
    const memory: { known: Checkpoint | null } = { known: null };
    const careless = async (one: Checkpoint) => {
      const { known } = memory;
      await new Promise((done) => setImmediate(done));
      if (known !== null) return false;
      memory.known = one;
      return true;
    };
    const two = ['a', 'b'].map((story) => ({ origin: 'demo/log', size: 6, root: rootOf(leaves(6, story)) }));
    expect(await Promise.all(two.map(careless))).toEqual([true, true]);
  });

  test('keeps its memory from being set back or taken away', async () => {
    const db = await witness();
    await acceptHead(db, key, await head(4, 0));
    for (const sql of [
      'UPDATE witness_heads SET size = 3',
      "UPDATE witness_heads SET size = 9, verifier_key = 'x'",
      'DELETE FROM witness_heads',
      'TRUNCATE witness_heads',
    ]) {
      await expect(db.query(sql)).rejects.toMatchObject({ code: '42501' });
    }
  });

  test('knows a log by the key it had first', async () => {
    const db = await witness();
    await acceptHead(db, key, await head(4, 0));
    // Safe: generateKey for Ed25519 always gives a pair.
    const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
    const other = await createLogSigner('demo/log', keys);
    const note = await signCheckpoint(4, rootOf(leaves(4)), other);
    await expect(
      acceptHead(db, parseVerifierKey(other.verifierKey), { checkpoint: note, oldSize: 4, proof: [] }),
    ).rejects.toMatchObject({ code: 'AUDIT_SIGNATURE_INVALID' });
  });
});
