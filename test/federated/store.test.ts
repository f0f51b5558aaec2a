/** Leases with fencing, connections over processes, and messages that are stored once, on a real PostgreSQL. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Leases } from '../../federated/aggregator/lease.ts';
import { Presence } from '../../federated/aggregator/presence.ts';
import {
  type Database,
  openDatabase,
  takePhase,
  takeStep,
  transaction,
} from '../../federated/aggregator/store/database.ts';
import { type MessageRow, MessageStore } from '../../federated/aggregator/store/messages.ts';
import { noticeOf } from '../../federated/aggregator/store/notifications.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
let database: Database;

beforeAll(async () => {
  database = await openDatabase(await postgres.freshDatabase(), IdentityKey.create().publicKey);
});

beforeEach(async () => {
  await database.pool.query('TRUNCATE plans, presences CASCADE');
  await database.pool.query(
    `INSERT INTO plans (id, plan_hash, plan_json, contract_json, proposal, proposal_digest, roster_hash,
       acceptance_deadline_ms, state, round) VALUES ('p', 'h', '', '', '', 'd', 'r', 1000, 'training', 1)`,
  );
  await database.pool.query(
    `INSERT INTO rounds (plan_id, number, state, trainer_state, state_hash) VALUES ('p', 1, 'open', '{}', 's')`,
  );
});

afterAll(() => database.close());

const expire = () => database.pool.query(`UPDATE plans SET lease_expires_at = clock_timestamp() - interval '1 s'`);
const step = (token: number, revision: number) =>
  transaction(database.pool, (tx) => takeStep(tx, { planId: 'p', token, revision }, { state: 'evaluating' }));
const phase = (token: number, revision: number) => {
  const to = { round: 1, phase: 'agreement', survivors: ['a'], notice: noticeOf('me', 'p') };
  return takePhase(database.pool, { planId: 'p', token, revision }, to);
};

describe('a lease', () => {
  test('is of one process, until it runs out by the clock of the database', async () => {
    const [one, two] = [new Leases(database, 'one'), new Leases(database, 'two')];
    await Promise.all([one.renew(), two.renew()]);
    // Rows in use by the other are passed over, so both may have to look again.
    await one.renew();
    await two.renew();
    const holders = [one, two].filter((leases) => leases.tokenOf('p') !== undefined);
    expect(holders).toHaveLength(1);
    const [holder] = holders;
    const other = holder === one ? two : one;
    await other.renew('p');
    expect(other.tokenOf('p')).toBeUndefined();
    await expire();
    await other.renew();
    expect(other.tokenOf('p')).toBeGreaterThan(holder.tokenOf('p') ?? 0);
  });

  test('that another process has taken over takes no step any more, whatever its old holder believes', async () => {
    const [one, two] = [new Leases(database, 'one'), new Leases(database, 'two')];
    await one.renew();
    await expire();
    await two.renew();
    const [old, current] = [one.tokenOf('p') ?? 0, two.tokenOf('p') ?? 0];
    expect([await step(old, 0), await phase(old, 0)]).toEqual([false, false]);
    expect(await phase(current, 0)).toBe(true);
    // Once: a repetition, or a decision made on an older view, is refused.
    expect([await phase(current, 0), await step(current, 0)]).toEqual([false, false]);
    const both = await Promise.all([step(current, 1), step(current, 1)]);
    expect(both.filter((taken) => taken)).toHaveLength(1);
    const { rows } = await database.pool.query('SELECT state, revision FROM plans');
    expect(rows).toEqual([{ state: 'evaluating', revision: 2 }]);
  });

  test('given back is free at once', async () => {
    const [one, two] = [new Leases(database, 'one'), new Leases(database, 'two')];
    await one.renew();
    await one.release();
    await two.renew();
    expect([one.tokenOf('p'), two.tokenOf('p')]).toEqual([undefined, expect.any(Number)]);
  });
});

describe('a connection', () => {
  test('is known to every process, with the newest incarnation, until it ends or its process is gone', async () => {
    const [one, two] = [new Presence(database, 'one'), new Presence(database, 'two')];
    const leave = await one.enter('bank-1', 'first');
    await two.read();
    expect([two.connected('bank-1'), two.incarnation('bank-1')]).toEqual([true, 'first']);
    // The bank restarts and comes back through the other process; its old stream lingers.
    await two.enter('bank-1', 'second');
    await one.read();
    expect([one.incarnation('bank-1'), two.incarnation('bank-1')]).toEqual(['second', 'second']);
    await leave();
    await one.read();
    expect([one.connected('bank-1'), two.connected('bank-1')]).toEqual([true, true]);
    await database.pool.query(`UPDATE presences SET seen_at = clock_timestamp() - interval '1 min'`);
    await one.read();
    expect([one.connected('bank-1'), one.incarnation('bank-1')]).toEqual([false, 'second']);
  });
});

describe('messages', () => {
  const message = (site: string, changes: Partial<MessageRow> = {}): MessageRow => ({
    ...{ planId: 'p', kind: 'update' as const, round: 1, attempt: 0, site, messageId: `m-${site}`, bodyDigest: 'same' },
    ...{ envelope: Uint8Array.of(1, 2, 3), refused: false },
    ...changes,
  });

  test('many at once are stored with few commits, copies of one count once', async () => {
    const stores = [new MessageStore(database.pool, 'one'), new MessageStore(database.pool, 'two')];
    const sites = Array.from({ length: 60 }, (_, index) => `bank-${index}`);
    const commits = async () => {
      const { rows } = await database.pool.query('SELECT count(DISTINCT xmin::text)::int AS commits FROM messages');
      return rows[0].commits;
    };
    await Promise.all(
      stores.flatMap((store) => sites.flatMap((site) => [store.store(message(site)), store.store(message(site))])),
    );
    const { rows } = await database.pool.query('SELECT count(*)::int AS stored FROM messages');
    expect(rows).toEqual([{ stored: 60 }]);
    expect(await commits()).toBeLessThanOrEqual(10);
  });

  test('another body in a place, or an id that was used, is a replay; each attempt is a place of its own', async () => {
    const store = new MessageStore(database.pool, 'one');
    await store.store(message('bank-1'));
    const replayed = { code: 'MESSAGE_REPLAYED' };
    await expect(store.store(message('bank-1', { bodyDigest: 'other' }))).rejects.toMatchObject(replayed);
    await expect(store.store(message('bank-1', { messageId: 'new' }))).rejects.toMatchObject(replayed);
    await expect(store.store(message('bank-1', { attempt: 1 }))).rejects.toMatchObject(replayed);
    await store.store(message('bank-1', { attempt: 1, messageId: 'next' }));
    // A failure of one is not the others'.
    const results = await Promise.allSettled([
      store.store(message('bank-2')),
      store.store(message('bank-1', { bodyDigest: 'other' })),
      store.store(message('bank-3')),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });
});
