/**
 * A lying aggregator that has one round summed twice, over different sets of banks: the difference is one bank's message
 * with that bank's own share of the noise. It works on banks that forget which sum they opened, and not on a node.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { SumAggregator } from '../../federated/secagg/aggregator.ts';
import type { EpochContext } from '../../federated/secagg/epoch.ts';
import { EpochParticipant } from '../../federated/secagg/participant.ts';
import type { SumContext } from '../../federated/secagg/sum.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { connect } from '../../src/database/connection.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import type { ParticipantPort, ReleaseTask, SumRelease } from '../../src/participant/port.ts';
import { systemRandom } from '../../src/random.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';
import { auditEntries } from './audit.ts';
import { contract, openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const SITES = ['bank-a', 'bank-b', 'bank-c', 'bank-d', 'bank-e', 'bank-f'];
const VICTIM = 'bank-f';
const ROSTER = { sites: SITES.length, minimumQuorum: 2 };
const { sizes, total } = layoutOf(contract);
let folder: string;
let node: TestNode;
let url: string;
let plans = 0;
let plan: TrainingPlan;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-sums-'));
  url = await postgres.freshDatabase();
  node = await openTestNode(url);
  const path = join(folder, 'bank.csv');
  await writeFile(path, [...simulateTransactions({ seed: 7, bank: 'a', rows: 200, fraudRate: 0.05 })].join('\n'));
  await importRecords(node, { contractFile: await readContract('demo-transactions'), path });
});

beforeEach(async () => {
  plan = defaultPlan({
    ...{ contract, epsilon: 2, delta: 1e-6, sites: 6, quorum: 5, expectedRows: 1200, mode: 'sum', colluders: 1 },
    id: `summed-${plans++}`,
  });
  expect(await openPort().answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
});

afterAll(async () => {
  await node.close();
  await rm(folder, { recursive: true, force: true });
});

/** A port of a process that was just started. */
const openPort = () => openParticipantPort(node, ROSTER, () => {});

const task = (attempt: number): ReleaseTask => ({
  ...{ plan, planHash: planHash(plan), contract, round: 1, attempt, stateHash: '1'.repeat(64) },
  weights: { intercept: -1, flat: new Float64Array(total) },
  model: { intercept: -1, weights: sizes.map((size) => new Array<number>(size).fill(0)) },
});

const sumOf = (attempt: number, agreement: Uint8Array): SumRelease => ({
  planId: plan.id,
  round: 1,
  attempt,
  agreement,
});

/** One attempt in an epoch of its own, as after a restart of every bank; the banks but the first are forgetful. */
async function attempt(
  number: number,
  survivors: string[],
  values: ReadonlyMap<string, Float64Array>,
  revealing: ParticipantPort['revealing'],
): Promise<Float64Array> {
  const { threshold, quorum: minimum, ringBits: bits } = plan;
  const context: EpochContext = {
    ...{ rosterHash: new Uint8Array(32), planHash: planHash(plan), epoch: number, threshold, minimum, slots: 1 },
    roster: SITES,
  };
  const banks = SITES.map((site) => ({ site, bank: new EpochParticipant(context, site, systemRandom()) }));
  const keys = banks.map(({ bank }) => bank.advertise());
  const sealed = await Promise.all(banks.map(async ({ site, bank }) => ({ from: site, ...(await bank.seal(keys)) })));
  for (const { site, bank } of banks) {
    const others = sealed.filter(({ from }) => from !== site);
    bank.accept(
      others.map(({ from, shares }) => ({ site: from, sealed: shares.find((share) => share.site === site)!.sealed })),
    );
  }
  const dimension = values.get('bank-a')!.length;
  const sum: SumContext = {
    ...{ round: 1, attempt: number, slot: 0, members: SITES, dimension, bits },
    ...{ stateHash: new Uint8Array(32), logHead: new Uint8Array(32) },
  };
  const aggregator = new SumAggregator(context, keys, sum);
  const present = banks.filter(({ site }) => survivors.includes(site));
  for (const { site, bank } of present) aggregator.input(site, bank.mask(sum, values.get(site)!));
  aggregator.closeInputs(minimum);
  const agreements = present.map(({ site, bank }) => ({ site, agreement: bank.agree(sum, survivors, minimum) }));
  for (const { site, agreement } of agreements) aggregator.agreement(site, agreement);
  for (const { site, bank } of present) {
    const reveal = bank.reveal(sum, agreements);
    if (site === 'bank-a') await revealing(sumOf(number, agreements[0].agreement));
    aggregator.reveal(site, reveal);
  }
  return aggregator.unmask();
}

/** Sums a round over all banks, then over all but the victim; gives what the two sums tell about the victim. */
async function isolate(revealing: ParticipantPort['revealing'], values: ReadonlyMap<string, Float64Array>) {
  const all = await attempt(1, SITES, values, revealing);
  const others = await attempt(
    2,
    SITES.filter((site) => site !== VICTIM),
    values,
    revealing,
  );
  return all.map((sum, at) => sum - others[at]);
}

/** The node's own noised numbers for bank-a, others for the rest. */
async function noisedNumbers(): Promise<Map<string, Float64Array>> {
  const { histogram } = await openPort().release(task(1));
  return new Map(SITES.map((site, at) => [site, histogram.map((value, i) => (at === 0 ? value : i * at - 7))]));
}

test('two sums of one round show the victim to an aggregator of banks that forget, and not to one with one that does not', async () => {
  const values = await noisedNumbers();
  expect(await isolate(async () => {}, values)).toEqual(values.get(VICTIM));

  const before = (await node.store.audit.head()).size;
  // Every call is to a port of a process that was just started.
  await expect(isolate((sum) => openPort().revealing(sum), values)).rejects.toMatchObject({
    code: 'RELEASE_REPLAYED',
    where: 'round 1, attempt 2',
  });
  // The noised numbers are not given to another attempt either, nor paid for again.
  await expect(openPort().release(task(2))).rejects.toMatchObject({ code: 'RELEASE_REPLAYED' });
  expect((await openPort().release(task(1))).histogram).toEqual(values.get('bank-a'));
  const told = (await auditEntries(node, before, 100)).map(({ body }) => body);
  expect(told).toEqual([
    expect.objectContaining({ type: 'sum.reveal', outcome: 'opened' }),
    expect.objectContaining({ type: 'sum.reveal', outcome: 'refused', reasonCodes: ['RELEASE_REPLAYED'] }),
    // The port of another process, which has not seen the first refusal.
    expect.objectContaining({ type: 'sum.reveal', outcome: 'refused' }),
  ]);
  expect(told[0].details).toEqual({
    ...{ planId: plan.id, round: 1, attempt: 1, agreement: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
});

test('the same sum is noted once however often it is opened, and another agreement of its attempt is refused', async () => {
  const agreement = new Uint8Array(32).fill(5);
  const port = openPort();
  const before = (await node.store.audit.head()).size;
  for (let ask = 0; ask < 3; ask++) await port.revealing(sumOf(3, agreement));
  for (let ask = 0; ask < 3; ask++) {
    const other = port.revealing(sumOf(3, new Uint8Array(32).fill(6)));
    await expect(other).rejects.toMatchObject({ code: 'RELEASE_REPLAYED' });
  }
  expect((await auditEntries(node, before, 100)).map(({ body }) => body.outcome)).toEqual(['opened', 'refused']);
});

test('of two processes that open two sums at once one is refused', async () => {
  const asked = [1, 2].map((number) => openPort().revealing(sumOf(number, new Uint8Array(32).fill(number))));
  const outcomes = await Promise.allSettled(asked);
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
});

test('nothing is opened for a plan that was not accepted or has ended', async () => {
  const sum = sumOf(1, new Uint8Array(32));
  await expect(openPort().revealing({ ...sum, planId: 'never-seen' })).rejects.toThrow('not accepted');
  await openPort().planEnded(plan.id, 'aborted', '');
  await expect(openPort().revealing(sum)).rejects.toThrow('not accepted');
});

test('a row cannot be changed or deleted', async () => {
  await openPort().revealing(sumOf(1, new Uint8Array(32)));
  const client = await connect(url);
  try {
    for (const change of [
      'UPDATE revealed_sums SET attempt = 2',
      'DELETE FROM revealed_sums',
      'TRUNCATE revealed_sums',
    ]) {
      await expect(client.query(change)).rejects.toThrow('not allowed');
    }
  } finally {
    await client.end();
  }
});
