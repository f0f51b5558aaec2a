import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { commit } from '../../src/audit/entry.ts';
import type { DecisionDraft } from '../../src/store/decisions.ts';
import { usePostgres } from '../support/postgres.ts';
import { entry, type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
let node: OpenedStore;
beforeAll(async () => {
  node = await openStore(await postgres.freshDatabase());
});
afterAll(() => node.store.close());

const decision = (change: Partial<DecisionDraft> = {}): DecisionDraft => {
  const id = randomUUID();
  return {
    id,
    apiKey: 'abcd',
    idempotencyKey: randomUUID(),
    bodyHash: 'b'.repeat(64),
    modelHash: 'm'.repeat(64),
    reply: JSON.stringify({ id, score: 512 }),
    entry: { ...entry(1), type: 'decision' },
    ...change,
  };
};
const size = async () => (await node.store.audit.head()).size;

describe('decisions', () => {
  test('a repeated request gets the stored reply and position, and adds nothing', async () => {
    const draft = decision();
    const first = await node.store.decisions.record(draft);
    expect(first).toMatchObject({ id: draft.id, reply: draft.reply, replayed: false });
    const before = await size();
    const second = await node.store.decisions.record({ ...decision(), idempotencyKey: draft.idempotencyKey });
    expect(second).toEqual({ ...first, replayed: true });
    expect(await size()).toBe(before);
    const found = await node.store.decisions.findReplay('abcd', draft.idempotencyKey!, draft.bodyHash);
    expect(found).toEqual(second);
    expect(await node.store.decisions.findReplay('other', draft.idempotencyKey!, draft.bodyHash)).toBeNull();
  });

  test('the same key with another body is a conflict; another caller may use the same key', async () => {
    const draft = decision();
    await node.store.decisions.record(draft);
    const other = decision({ idempotencyKey: draft.idempotencyKey, bodyHash: 'c'.repeat(64) });
    const conflict = { code: 'IDEMPOTENCY_CONFLICT' };
    await expect(node.store.decisions.record(other)).rejects.toMatchObject(conflict);
    await expect(node.store.decisions.findReplay('abcd', draft.idempotencyKey!, 'c'.repeat(64))).rejects.toMatchObject(
      conflict,
    );
    await expect(node.store.decisions.record({ ...other, apiKey: 'efgh' })).resolves.toMatchObject({ replayed: false });
  });

  test('one group with repeats, conflicts, a taken id and fresh ones settles each by itself', async () => {
    const taken = decision();
    await node.store.decisions.record(taken);
    const before = await size();
    const twin = decision();
    const results = await Promise.allSettled([
      node.store.decisions.record(decision()),
      node.store.decisions.record(twin),
      node.store.decisions.record({ ...decision(), idempotencyKey: twin.idempotencyKey }),
      node.store.decisions.record(decision({ idempotencyKey: twin.idempotencyKey, bodyHash: 'd'.repeat(64) })),
      node.store.decisions.record(decision({ id: taken.id })),
      node.store.decisions.record(decision({ idempotencyKey: null })),
      node.store.decisions.append(entry(7)),
    ]);
    expect(results.map((result) => (result.status === 'fulfilled' ? 'ok' : result.reason.code))).toEqual([
      ...['ok', 'ok', 'ok', 'IDEMPOTENCY_CONFLICT', 'ALREADY_EXISTS', 'ok', 'ok'],
    ]);
    expect(await size()).toBe(before + 4);
    await node.store.audit.fsck();
  });

  test('several thousand at once are all recorded, each once', async () => {
    const before = await size();
    const drafts = Array.from({ length: 2_500 }, () => decision());
    const done = await Promise.all(drafts.map((draft) => node.store.decisions.record(draft)));
    expect(new Set(done.map(({ index }) => index)).size).toBe(drafts.length);
    expect(await size()).toBe(before + drafts.length);
    await node.store.audit.fsck();
  });

  test('personal values open their commitments until they are erased, and the log still verifies', async () => {
    const subject = new Uint8Array(randomBytes(32));
    const salt = new Uint8Array(randomBytes(32));
    const value = new TextEncoder().encode('{"amount":12}');
    const commitments = { transaction: commit(salt, value) };
    const { index } = await node.store.decisions.record(
      decision({ entry: { ...entry(1), commitments }, personal: [{ name: 'transaction', salt, value, subject }] }),
    );
    const [opened] = await node.store.personal.of(index);
    expect(commit(opened.salt, opened.value)).toBe(commitments.transaction);
    const erased = await node.store.transaction(async (tx) => {
      const indices = await tx.personal.erase(subject);
      await tx.append({ ...entry(0), type: 'personal.erased', details: { indices } });
      return indices;
    });
    expect(erased).toEqual([index]);
    expect(await node.store.personal.of(index)).toEqual([]);
    await node.store.audit.fsck();
  });
});
