import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { LogHeadInit } from '../../federated/aggregator/log.ts';
import { transaction } from '../../federated/aggregator/store/database.ts';
import { LogHeadSchema } from '../../federated/protocol/generated/veilrisk_pb.js';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { siteLogName, siteWitnessName } from '../../federated/protocol/logNames.ts';
import { parseCheckpoint, signCheckpoint } from '../../src/audit/checkpoint.ts';
import { encodeWitnessKey } from '../../src/audit/cosignature.ts';
import { encodeVerifierKey } from '../../src/audit/note.ts';
import { verifyLog } from '../../src/audit/verifyLog.ts';
import { connect } from '../../src/database/connection.ts';
import { readJournal } from '../../src/journal/reader.ts';
import { compareFiles } from '../../src/operations/compareCheckpoints.ts';
import type { Head } from '../../src/participant/port.ts';
import { usePostgres } from '../support/postgres.ts';
import { type Bank, happened, makeMembers, type OpenAggregatorLog, openAggregator, openBank, opening } from './logs.ts';

const postgres = usePostgres();
const members = makeMembers(3);
const closing: (() => Promise<void>)[] = [];
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veilrisk-log-'));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function aggregator(url?: string): Promise<OpenAggregatorLog & { url: string }> {
  const address = url ?? (await postgres.freshDatabase());
  const opened = await openAggregator(address, members);
  closing.push(() => opened.close());
  return { ...opened, url: address };
}

async function bank(index: number, url?: string, dataDir?: string): Promise<Bank & { url: string }> {
  const address = url ?? (await postgres.freshDatabase());
  const opened = await openBank(address, members, index, dataDir);
  closing.push(() => opened.store.close());
  return { ...opened, url: address };
}

const onWire = (head: LogHeadInit): Head => create(LogHeadSchema, head);
const failing = (code: string) => expect.objectContaining({ code });
const round = (number: number, attempt = 0) => ({ planId: 'plan-1', round: number, attempt });

/** The aggregator shows a bank a head, and the cosignature goes back. */
async function show({ log }: OpenAggregatorLog, { id, logs }: Bank, at?: ReturnType<typeof round>) {
  const head = onWire(await log.headFor(id, at));
  const seen = await logs.witness(head);
  await log.cosigned(id, seen.cosignature, at);
  return { ...seen, head };
}

async function lines({ database, log }: OpenAggregatorLog): Promise<string[]> {
  const all: string[] = [];
  for await (const line of readJournal(database.pool, log).exportLines()) all.push(line);
  return all;
}

const witnessKeys = members.banks.map(({ id, key }) =>
  encodeWitnessKey(siteWitnessName(id), Buffer.from(key.publicKey, 'base64')),
);

describe("the aggregator's log", () => {
  test('starts with the roster, once, and enters another one', async () => {
    const one = await aggregator();
    await aggregator(one.url);
    expect(parseCheckpoint((await one.log.headFor('bank-1')).checkpoint ?? '').size).toBe(1);
    const changed = { ...members, roster: { ...members.roster, version: 2 } };
    const other = await openAggregator(one.url, changed);
    closing.push(() => other.close());
    expect(
      (await lines(other)).slice(1).map((line) => JSON.parse(line.split(' ').slice(2).join(' ')).details.version),
    ).toEqual([1, 2]);
  });

  test('an entry is there with the transaction it belongs to, and not without it', async () => {
    const { database, log, enter } = await aggregator();
    await expect(
      transaction(database.pool, async (client) => {
        await log.append(client, [happened(1)]);
        throw new RangeError('stop');
      }),
    ).rejects.toThrow('stop');
    await enter(happened(2));
    expect(await readJournal(database.pool, log).fsck()).toMatchObject({ size: 2 });
  });

  test('two processes append in turn, and either shows the round that the other opened', async () => {
    const one = await aggregator();
    const two = await aggregator(one.url);
    await Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? one : two).enter(happened(i))));
    await one.enter(opening(round(1)));
    await two.enter(happened(99));
    const site = await bank(0);
    const seen = await show(two, site, round(1));
    expect(parseCheckpoint(seen.head.checkpoint).size).toBe(42);
    expect(await readJournal(one.database.pool, one.log).fsck()).toMatchObject({ size: 43 });
  });

  test.each([
    [
      'altered',
      "UPDATE audit_entries SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), '\"number\":2', '\"number\":3'), 'UTF8')",
      'index 2',
    ],
    ['erased', 'DELETE FROM audit_entries WHERE index = 3', 'index 4'],
  ])('a row that was %s is found and located', async (_, sql, where) => {
    const one = await aggregator();
    for (let i = 1; i <= 5; i++) await one.enter(happened(i));
    const client = await connect(one.url);
    await expect(client.query(sql)).rejects.toMatchObject({ code: '42501' });
    await client.query('ALTER TABLE audit_entries DISABLE TRIGGER USER');
    await client.query(sql);
    await client.end();
    await expect(readJournal(one.database.pool, one.log).fsck()).rejects.toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
      where,
    });
    await expect(verifyLog(await lines(one))).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED' });
  });
});

describe('what the banks see of it', () => {
  test('all banks agree on the head of a round, however late they are asked and however far the log has grown', async () => {
    const one = await aggregator();
    const sites = [await bank(0), await bank(1), await bank(2)];
    await one.enter(opening(round(1)));
    const first = await show(one, sites[0], round(1));
    await one.enter(happened(1));
    const second = await show(one, sites[1], round(1));
    await show(one, sites[2]);
    await one.enter(happened(2), opening(round(1, 1)), happened(3));
    // This bank knows more of the log than the round's head has: the proof goes the other way.
    const third = await show(one, sites[2], round(1));
    expect(third.cosignature).toBe('');
    for (const { logHead } of [second, third]) expect(logHead).toEqual(first.logHead);
    const next = await show(one, sites[0], round(1, 1));
    expect(next.logHead).not.toEqual(first.logHead);
    expect(next.head.proof.length).toBeGreaterThan(0);
  });

  test('an export carries the cosignatures, and a quorum of witnesses is verified offline', async () => {
    const one = await aggregator();
    const sites = [await bank(0), await bank(1)];
    await one.enter(opening(round(1)));
    for (const site of sites) await show(one, site, round(1));
    await one.enter(happened(1));
    await show(one, sites[1]);
    await one.enter(happened(2));
    await one.log.close();
    const exported = await lines(one);
    const verified = (keys: readonly string[], quorum: number) =>
      verifyLog(exported, { key: one.log.verifierKey, witnesses: { keys, quorum } });
    expect((await verified(witnessKeys, 2)).witnessed).toMatchObject({ entries: 2, quorum: 2 });
    expect((await verified(witnessKeys, 1)).witnessed).toMatchObject({ entries: 3, quorum: 1 });
    await expect(verified(witnessKeys, 3)).rejects.toEqual(failing('AUDIT_SIGNATURE_INVALID'));
    await expect(verified(witnessKeys.slice(2), 1)).rejects.toEqual(failing('AUDIT_SIGNATURE_INVALID'));
  });

  test('a bank that missed a reply is stale, and goes on with the size it names', async () => {
    const one = await aggregator();
    const site = await bank(0);
    await show(one, site);
    await one.enter(happened(1));
    await one.log.headFor(site.id); // lost on the way
    await one.enter(happened(2));
    await expect(show(one, site)).rejects.toEqual(failing('LOG_STALE'));
    one.log.listening(site.id, await site.logs.size());
    await show(one, site);
    expect(await site.logs.size()).toBe(3);
  });

  test('a bank whose old connection lingers is not put off by what goes out over that', async () => {
    const one = await aggregator();
    const site = await bank(0);
    await show(one, site);
    const [lingering, current] = [{}, {}];
    one.log.listening(site.id, await site.logs.size(), lingering);
    one.log.listening(site.id, await site.logs.size(), current);
    for (let number = 1; number <= 3; number++) {
      await one.enter(happened(number));
      await one.log.headFor(site.id, undefined, lingering);
      await site.logs.witness(onWire(await one.log.headFor(site.id, undefined, current)));
    }
    expect(await site.logs.size()).toBe(4);
  });

  test('a bank that lost its memory starts again', async () => {
    const one = await aggregator();
    await show(one, await bank(0));
    const again = await bank(0);
    await expect(show(one, again)).rejects.toEqual(failing('LOG_STALE'));
    one.log.listening(again.id, 0);
    await show(one, again);
  });

  test('the head of a stranger, of another log, or malformed is refused', async () => {
    const one = await aggregator();
    const site = await bank(0);
    const { checkpoint = '' } = await one.log.headFor(site.id);
    const forged = async (origin: string, key = IdentityKey.create()) => {
      const verifierKey = encodeVerifierKey(origin, Buffer.from(key.publicKey, 'base64'));
      return signCheckpoint(3, new Uint8Array(32), { origin, verifierKey, sign: async (bytes) => key.sign(bytes) });
    };
    const witness = (note: string, proof: Uint8Array<ArrayBuffer>[] = []) =>
      site.logs.witness(onWire({ checkpoint: note, oldSize: 0n, proof }));
    await expect(witness(await forged(one.log.origin))).rejects.toEqual(failing('MESSAGE_SIGNATURE'));
    await expect(witness(await forged('other/log', members.aggregator))).rejects.toEqual(failing('LOG_UNKNOWN'));
    await expect(witness('no note')).rejects.toEqual(failing('MESSAGE_MALFORMED'));
    await expect(witness(checkpoint, [new Uint8Array(31)])).rejects.toEqual(failing('MESSAGE_MALFORMED'));
    await expect(witness('x'.repeat(20_000))).rejects.toEqual(failing('MESSAGE_MALFORMED'));
    expect(await site.logs.size()).toBe(0);
  });
});

describe('an aggregator that forks its log', () => {
  /** Two databases under one key, equal up to the fork. */
  async function forked() {
    const [honest, other] = [await aggregator(), await aggregator()];
    const client = await connect(other.url);
    const rows = await honest.database.pool.query('SELECT index, node, bytes FROM audit_entries');
    const head = await honest.database.pool.query('SELECT size, range, root, checkpoint FROM audit_head');
    for (const table of ['audit_entries', 'audit_head'])
      await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    await client.query('DELETE FROM audit_entries');
    for (const { index, node, bytes } of rows.rows) {
      await client.query('INSERT INTO audit_entries (index, node, bytes) VALUES ($1, $2, $3)', [index, node, bytes]);
    }
    const { size, range, root, checkpoint } = head.rows[0];
    await client.query('UPDATE audit_head SET size = $1, range = $2, root = $3, checkpoint = $4', [
      size,
      range,
      root,
      checkpoint,
    ]);
    await client.end();
    return { honest, other };
  }

  test('and shows two banks two rounds: they cannot agree, and together they hold the proof', async () => {
    const { honest, other } = await forked();
    const sites = [await bank(0), await bank(1)];
    for (const site of sites) await show(honest, site);
    other.log.listening('bank-2', 1);
    await honest.enter(opening(round(1), 'a'.repeat(64)));
    await other.enter(opening(round(1), 'b'.repeat(64)));
    const [a, b] = [await show(honest, sites[0], round(1)), await show(other, sites[1], round(1))];
    // The head is hashed into what both sign as their agreement (secagg/sum.ts): the two differ.
    expect(a.logHead).not.toEqual(b.logHead);
    const files = [join(directory, randomUUID()), join(directory, randomUUID())];
    await writeFile(files[0], a.head.checkpoint);
    await writeFile(files[1], b.head.checkpoint);
    const key = honest.log.verifierKey;
    expect(await compareFiles({ a: files[0], b: files[1], key })).toMatchObject({
      comparison: 'equivocation',
      verified: true,
    });
  });

  test('and shows one bank both: it refuses for ever, keeps the evidence once, and enters it', async () => {
    const { honest, other } = await forked();
    const { origin, verifierKey } = honest.log;
    const signer = { origin, verifierKey, sign: async (bytes: Uint8Array) => members.aggregator.sign(bytes) };
    const dataDir = await mkdtemp(join(directory, 'bank-'));
    const site = await bank(0, undefined, dataDir);
    await show(honest, site);
    await honest.enter(happened(1));
    await other.enter(happened(2));
    other.log.listening(site.id, 1);
    await show(honest, site);
    for (let i = 0; i < 2; i++) {
      other.log.listening(site.id, 2);
      await expect(show(other, site)).rejects.toEqual(failing('LOG_INCONSISTENT'));
    }
    await other.enter(happened(3));
    other.log.listening(site.id, 2);
    await expect(show(other, site)).rejects.toEqual(failing('LOG_INCONSISTENT'));
    const evidence = (await readdir(dataDir)).filter((name) => name.startsWith('equivocation-'));
    expect(evidence.length).toBe(2);
    const key = honest.log.verifierKey;
    const compared = await Promise.all(evidence.map((name) => compareFiles({ a: join(dataDir, name), key })));
    expect(compared.map(({ comparison }) => comparison).sort()).toEqual(['equivocation', 'undecided']);
    const entries: string[] = [];
    for await (const { bytes } of site.store.audit.entries(0, 10))
      entries.push(JSON.parse(Buffer.from(bytes).toString()).type);
    expect(entries).toEqual(['witness.refuse', 'witness.refuse']);
    // However many stories it makes up, only so much is kept.
    for (let i = 0; i < 105; i++) {
      const note = await signCheckpoint(2, new Uint8Array(32).fill(i), signer);
      const head = onWire({ checkpoint: note, oldSize: 2n, proof: [] });
      await expect(site.logs.witness(head)).rejects.toEqual(failing('LOG_INCONSISTENT'));
    }
    expect((await readdir(dataDir)).length).toBe(100);
    // The honest log is still followed.
    await honest.enter(happened(4));
    honest.log.listening(site.id, await site.logs.size());
    await show(honest, site);
  });

  test('or whose database was set back to a backup is noticed by every bank at its next task', async () => {
    const { honest, other: backup } = await forked();
    const sites = [await bank(0), await bank(1), await bank(2)];
    for (let i = 0; i < 3; i++) await honest.enter(happened(i));
    for (const site of sites) await show(honest, site);
    for (const site of sites) {
      backup.log.listening(site.id, await site.logs.size());
      await expect(show(backup, site)).rejects.toEqual(failing('LOG_INCONSISTENT'));
    }
    // Nor once it has grown beyond what they saw.
    for (let i = 10; i < 20; i++) await backup.enter(happened(i));
    for (const site of sites) {
      backup.log.listening(site.id, await site.logs.size());
      await expect(show(backup, site)).rejects.toEqual(failing('LOG_INCONSISTENT'));
    }
  });
});

describe('the aggregator as a witness of the banks', () => {
  async function checkpoint(site: Bank, oldSize: number) {
    return { head: await site.logs.ownHead(oldSize), key: site.logs.verifierKey };
  }
  const grow = ({ store }: Bank, count: number) =>
    store.transaction(async (tx) => {
      for (let i = 0; i < count; i++) await tx.append({ type: 'test', actor: 'node', outcome: 'ok', details: { i } });
    });

  test('cosigns what continues, and the bank exports it', async () => {
    const one = await aggregator();
    const site = await bank(0);
    await grow(site, 3);
    for (const oldSize of [0, 3]) {
      const { head, key } = await checkpoint(site, oldSize);
      const reply = await one.log.addCheckpoint(site.id, head, key);
      expect(reply).toMatchObject({ size: BigInt(oldSize === 0 ? 3 : 7) });
      await site.logs.ownCosigned(reply.cosignature ?? '', Number(reply.size));
      if (oldSize === 0) await grow(site, 4);
    }
    await grow(site, 1);
    const exported: string[] = [];
    for await (const line of site.store.audit.exportLines()) exported.push(line);
    const { roster } = members;
    const witness = encodeWitnessKey(
      `Test%20%2B%20consortium/aggregator/witness`,
      Buffer.from(roster.aggregator.identityKey, 'base64'),
    );
    const report = await verifyLog(exported, { key: site.logs.verifierKey, witnesses: { keys: [witness], quorum: 1 } });
    expect(report).toMatchObject({ entries: 8, witnessed: { entries: 7 } });
  });

  test('answers by the rules of tlog-witness', async () => {
    const one = await aggregator();
    const site = await bank(0);
    await grow(site, 5);
    const add = (head: LogHeadInit, key = site.logs.verifierKey, id = site.id) => one.log.addCheckpoint(id, head, key);
    const { head } = await checkpoint(site, 0);
    const stranger = encodeVerifierKey(siteLogName(site.id), Buffer.from(IdentityKey.create().publicKey, 'base64'));
    expect(await add(head, stranger)).toMatchObject({ code: 'MESSAGE_SIGNATURE' });
    expect(await add(head, site.logs.verifierKey, 'bank-2')).toMatchObject({ code: 'LOG_UNKNOWN' });
    expect(await add({ checkpoint: 'nothing' })).toMatchObject({ code: 'MESSAGE_MALFORMED' });
    expect(await add(head, 'no key')).toMatchObject({ code: 'MESSAGE_MALFORMED' });
    expect(await add({ ...head, oldSize: 2n })).toMatchObject({ code: 'LOG_STALE', size: 0n });
    expect((await add(head)).cosignature).toMatch(/^— Test%20%2B%20consortium\/aggregator\/witness /);
    await grow(site, 2);
    expect(await add((await checkpoint(site, 4)).head)).toMatchObject({ code: 'LOG_STALE', size: 5n });
    const good = (await checkpoint(site, 5)).head;
    const spoiled = good.proof.map((hash) => Uint8Array.from(hash, (byte) => byte ^ 1));
    expect(await add({ ...good, proof: spoiled })).toMatchObject({ code: 'LOG_INCONSISTENT', size: 5n });
    expect(await add(good)).toMatchObject({ size: 7n });
    // The bank's database, set back and grown another way.
    const forkedBank = await bank(0);
    await grow(forkedBank, 9);
    expect(await add((await checkpoint(forkedBank, 7)).head)).toMatchObject({ code: 'LOG_INCONSISTENT', size: 7n });
    const entered = (await lines(one)).filter((line) => line.includes('"type":"witness.refuse"'));
    expect(entered.length).toBe(2);
  });
});
