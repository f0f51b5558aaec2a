/** A plan under masks whose banks watch the aggregator's log: over real gRPC and TLS, each log on a real PostgreSQL. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { AggregatorEvent } from '../../federated/aggregator/desk.ts';
import { openDatabase } from '../../federated/aggregator/store/database.ts';
import { planStatus, proposePlan } from '../../federated/protocol/client.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { aggregatorLogName, aggregatorWitnessName, siteWitnessName } from '../../federated/protocol/logNames.ts';
import { signCheckpoint } from '../../src/audit/checkpoint.ts';
import { compareCheckpoints } from '../../src/audit/compare.ts';
import { encodeWitnessKey } from '../../src/audit/cosignature.ts';
import type { Entry } from '../../src/audit/entry.ts';
import { encodeVerifierKey, type LogSigner } from '../../src/audit/note.ts';
import { consistencyProof } from '../../src/audit/proof.ts';
import { leafHash, rootOf } from '../../src/audit/tree.ts';
import { verifyLog } from '../../src/audit/verifyLog.ts';
import { readJournal } from '../../src/journal/reader.ts';
import { planHash as hashOfPlan } from '../../src/learning/plan.ts';
import type { Head, LogWitness } from '../../src/participant/port.ts';
import { usePostgres } from '../support/postgres.ts';
import {
  type Consortium,
  contract,
  MemoryBank,
  makeConsortium,
  makePlan,
  type Running,
  runBank,
  startTestAggregator,
  until,
} from './consortium.ts';
import { type Bank, type Members, openBank } from './logs.ts';

const postgres = usePostgres();
const cleanUp: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

interface Watching {
  c: Consortium;
  databaseUrl: string;
  url: string;
  stop(): Promise<void>;
  events: AggregatorEvent[];
  banks: Bank[];
  /** Heads a bank accepted, in their order. */
  accepted: Head[][];
  running: Running[];
}

/** @param lieTo the head a bank is shown in the place of the true one. */
async function consortium(lieTo: (c: Consortium, bank: number, head: Head) => Promise<Head>): Promise<Watching> {
  const c = makeConsortium(3, 3);
  const members: Members = {
    ...{ roster: c.roster, aggregator: c.aggregator },
    banks: c.sites.map(({ id, key }) => ({ id, key, logKey: IdentityKey.create() })),
  };
  const databaseUrl = await postgres.freshDatabase();
  const events: AggregatorEvent[] = [];
  const { url, stop } = await startTestAggregator(c, databaseUrl, 0, (event) => events.push(event));
  cleanUp.push(stop);
  const banks: Bank[] = [];
  const accepted: Head[][] = [];
  const running: Running[] = [];
  for (const index of c.sites.keys()) {
    const one = await openBank(await postgres.freshDatabase(), members, index);
    await one.store.transaction((tx) => tx.append({ type: 'test', actor: 'node', outcome: 'ok', details: {} }));
    cleanUp.push(() => one.store.close());
    const seen: Head[] = [];
    const logs: LogWitness = {
      ...one.logs,
      async witness(head) {
        const shown = await lieTo(c, index, head);
        const result = await one.logs.witness(shown);
        seen.push(shown);
        return result;
      },
    };
    banks.push(one);
    accepted.push(seen);
    running.push(runBank(c, index, url, Object.assign(new MemoryBank(index + 1), { logs })));
    cleanUp.push(running[index].stop);
  }
  return { c, databaseUrl, url, stop, events, banks, accepted, running };
}

const truth = async (_c: Consortium, _bank: number, head: Head) => head;

async function train({ c, url }: Watching, roundDeadlineMs: number) {
  const masked = { mode: 'sum' as const, dropouts: 0, quorum: 3, threshold: 3, ringBits: 32, ringShift: 4 };
  const plan = makePlan(c, { ...masked, rounds: 2, roundDeadlineMs });
  const { roster, operator: operatorKey } = c;
  await proposePlan({ roster, operatorKey, plan, contract, url, acceptanceDeadlineMs: 10_000 });
  return plan;
}

const signerOf = ({ roster, aggregator }: Consortium): LogSigner => {
  const origin = aggregatorLogName(roster);
  const verifierKey = encodeVerifierKey(origin, Buffer.from(aggregator.publicKey, 'base64'));
  return { origin, verifierKey, sign: async (bytes) => aggregator.sign(bytes) };
};

describe('banks that watch the log', () => {
  test('agree on it in every sum, cosign it, and can prove what was done', async () => {
    const all = await consortium(truth);
    const plan = await train(all, 5_000);
    await until(() => all.running.every(({ bank }) => bank.ended.length === 1));
    const { c, banks } = all;
    const status = await planStatus({ roster: c.roster, key: c.operator, url: all.url, planId: plan.id });
    expect(status.state).toBe('completed');
    for (const { bank } of all.running) expect(bank.revealed.size).toBe(plan.rounds + 1);
    // Every plan ends with a checkpoint of the bank's own log.
    const witness = encodeWitnessKey(aggregatorWitnessName(c.roster), Buffer.from(c.aggregator.publicKey, 'base64'));
    for (const { store } of banks) await until(async () => (await store.witness.cosignedSize(witness)) > 0);
    await until(async () => (await waitingSites(all)) === 0);
    await all.stop();

    const database = await openDatabase(all.databaseUrl, c.aggregator.publicKey);
    cleanUp.push(() => database.close());
    const exported: string[] = [];
    for await (const line of readJournal(database.pool, signerOf(c)).exportLines()) exported.push(line);
    const keys = c.sites.map(({ id, key }) =>
      encodeWitnessKey(siteWitnessName(id), Buffer.from(key.publicKey, 'base64')),
    );
    const report = await verifyLog(exported, { key: signerOf(c).verifierKey, witnesses: { keys, quorum: 3 } });
    // The end of the plan was the last entry, and every bank cosigned it.
    expect(report.witnessed).toMatchObject({ entries: report.entries, quorum: 3 });

    // Safe: the log was verified; its entries are those of the aggregator.
    const entries = exported.slice(1).map((line) => JSON.parse(line.split(' ').slice(2).join(' ')) as Entry);
    const of = (type: string) => entries.filter((entry) => entry.type === type);
    expect(of('roster').length).toBe(1);
    expect(of('plan.proposed')[0].details).toMatchObject({ planId: plan.id, planHash: hashOfPlan(plan) });
    expect(
      of('plan.answered')
        .map(({ actor }) => actor)
        .sort(),
    ).toEqual(c.sites.map(({ id }) => id));
    expect(of('round.opened').length).toBe(plan.rounds + 1);
    expect(new Set(of('round.opened').map(({ details }) => details.stateHash)).size).toBe(plan.rounds + 1);
    expect(of('round.closed').map(({ details }) => details.contributors)).toEqual(
      Array.from({ length: plan.rounds + 1 }, () => c.sites.map(({ id }) => id)),
    );
    expect(of('model').map(({ modelHash }) => modelHash)).toEqual([status.modelHash]);
    expect(entries.at(-1)?.type).toBe('plan.ended');
  });

  test('and that die in the middle of a plan, as the aggregator does, go on where the log was', async () => {
    const all = await consortium(truth);
    const { c, running } = all;
    const plan = makePlan(c, { quorum: 3, rounds: 4 });
    const { roster, operator: operatorKey } = c;
    await proposePlan({ roster, operatorKey, plan, contract, url: all.url, acceptanceDeadlineMs: 10_000 });
    const [first] = running;
    await until(() => first.bank.released.includes(2));
    await first.stop();
    const again = runBank(c, 0, all.url, first.bank);
    cleanUp.push(again.stop);
    await until(() => first.bank.released.includes(3));
    const { port } = new URL(all.url);
    await all.stop();
    const events: AggregatorEvent[] = [];
    const second = await startTestAggregator(c, all.databaseUrl, Number(port), (event) => events.push(event));
    cleanUp.push(second.stop);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    expect(first.bank.ended[0]).toContain('completed');
    const sizes = await Promise.all(all.banks.map(({ logs }) => logs.size()));
    expect(new Set(sizes).size).toBe(1);
    await until(async () => (await waitingSites(all)) === 0);
  });

  test('of which one is shown another log open nothing, and hold the proof of it', async () => {
    const all = await consortium(async (c, bank, head) => {
      if (bank !== 0) return head;
      // The lie is whole: a log of its own, signed, of the same sizes and with good proofs.
      const size = Number(head.checkpoint.split('\n')[1]);
      const oldSize = Number(head.oldSize);
      const leaves = Array.from({ length: size }, (_, i) => leafHash(new TextEncoder().encode(`another story ${i}`)));
      const proof = oldSize > 0 && oldSize < size ? consistencyProof(leaves, oldSize) : [];
      const checkpoint = await signCheckpoint(size, rootOf(leaves), signerOf(c));
      return { checkpoint, oldSize: head.oldSize, proof: proof.map((hash) => new Uint8Array(hash)) };
    });
    await train(all, 1_000);
    await until(() => all.events.some((event) => event.event === 'plan' && event.state === 'aborted'));
    expect(all.events.some((event) => event.event === 'round')).toBe(false);
    for (const { bank } of all.running) expect([...bank.revealed]).toEqual([]);
    const sizeOf = ({ checkpoint }: Head) => checkpoint.split('\n')[1];
    const [lied, shown] = all.accepted;
    const pair = lied.flatMap((a) => shown.filter((b) => sizeOf(a) === sizeOf(b)).map((b) => [a, b]))[0];
    const compared = await compareCheckpoints(pair[0].checkpoint, pair[1].checkpoint, signerOf(all.c).verifierKey);
    expect(compared).toMatchObject({ comparison: 'equivocation', verified: true });
  });
});

/** Sites that have not acknowledged the end of the plan. */
async function waitingSites({ databaseUrl, c }: Watching): Promise<number> {
  const database = await openDatabase(databaseUrl, c.aggregator.publicKey);
  try {
    const { rows } = await database.pool.query<{ open: number }>(
      'SELECT count(*)::int AS open FROM answers WHERE acknowledged_at IS NULL',
    );
    return rows[0].open;
  } finally {
    await database.close();
  }
}
