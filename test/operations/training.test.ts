/** What a release costs: nothing while the sums are computed, once when it is made, never again when it is repeated. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { contractHash, layoutOf } from '../../src/contract/contract.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import type { ParticipantPort, ReleaseTask } from '../../src/participant/port.ts';
import { simulateTransactions } from '../../src/simulator/csv.ts';
import { openTrainingPool } from '../../src/workers/trainingPool.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const { sizes, total } = layoutOf(contract);
const ROWS = 300;
let folder: string;
let node: TestNode;
let port: ParticipantPort;
let plan: TrainingPlan;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-training-'));
  node = await openTestNode(await postgres.freshDatabase());
  const path = join(folder, 'bank.csv');
  const lines = simulateTransactions({ seed: 7, bank: 'a', rows: ROWS, fraudRate: 0.05 });
  await writeFile(path, [...lines].join('\n'));
  const report = await importRecords(node, { contractFile: await readContract('demo-transactions'), path });
  expect(report).toMatchObject({ accepted: ROWS, rejected: 0 });
});

afterAll(async () => {
  await node.close();
  await rm(folder, { recursive: true });
});

let plans = 0;

beforeEach(async () => {
  port = openParticipantPort(node, () => {});
  const base = defaultPlan({ contract, epsilon: 1, delta: 1e-6, sites: 1, quorum: 1, expectedRows: ROWS });
  plan = { ...base, id: `plan-${plans++}` };
  expect(await port.answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
});

const task = (round: number, changes: Partial<ReleaseTask> = {}): ReleaseTask => ({
  ...{ plan, planHash: planHash(plan), contract, round, stateHash: String(round).padStart(64, '0') },
  model: round === 0 ? null : { intercept: -1, weights: sizes.map((size) => new Array<number>(size).fill(0.01)) },
  ...changes,
});

async function releases() {
  const dataset = await node.store.datasets.forContract(contractHash(contract));
  return (await node.store.ledger.releases(dataset!.id)).filter(({ planId }) => planId === plan.id);
}

test('counts and gradients come from the thread, are noised, paid for once and repeated byte for byte', async () => {
  const { releases: costs } = privacyStatement(plan);
  for (const round of [0, 1]) {
    const first = await port.release(task(round));
    expect(first.histogram).toHaveLength(total);
    expect(first.histogram.every(Number.isSafeInteger)).toBe(true);
    expect(await port.release(task(round))).toEqual(first);
  }
  expect((await releases()).map(({ round, state, muSquared }) => ({ round, state, muSquared }))).toEqual([
    { round: 0, state: 'committed', muSquared: expect.closeTo(costs[0].muSquared, 12) },
    { round: 1, state: 'committed', muSquared: expect.closeTo(costs[1].muSquared, 12) },
  ]);
  await expect(port.release(task(1, { stateHash: 'f'.repeat(64) }))).rejects.toMatchObject({
    code: 'RELEASE_REPLAYED',
  });
});

test('a thread that fails costs no budget, and the round is done when it is asked for again', async () => {
  const closed = openTrainingPool({ log: node.log });
  await closed.close();
  const without = openParticipantPort({ ...node, training: closed }, () => {});
  await expect(without.release(task(0))).rejects.toMatchObject({ name: 'WorkerError', code: 'WORKER_FAILED' });
  expect(await releases()).toEqual([]);
  await port.release(task(0));
  expect((await releases()).map(({ state, attempt }) => ({ state, attempt }))).toEqual([
    { state: 'committed', attempt: 1 },
  ]);
});

test('a plan whose m or number of fields is not its contract is refused', async () => {
  for (const changes of [{ maxRecordsPerSubject: plan.maxRecordsPerSubject + 1 }, { fields: plan.fields + 1 }]) {
    const other = { ...plan, id: `plan-${plans++}`, ...changes };
    expect(await port.answerPlan(other, planHash(other), contract)).toMatchObject({
      accepted: false,
      code: 'PLAN_MISMATCH',
    });
  }
});
