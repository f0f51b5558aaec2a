/** What a release costs: nothing while the sums are computed, once when it is made, never again when it is repeated. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { ModelEvidence } from '../../federated/protocol/client.ts';
import { contractHash, layoutOf } from '../../src/contract/contract.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { modelHash, type Scorecard } from '../../src/learning/scorecard.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import type { ParticipantPort, ReleaseTask } from '../../src/participant/port.ts';
import { reservationEntry } from '../../src/store/ledger.ts';
import { openTrainingPool } from '../../src/workers/trainingPool.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';
import { contract, openTestNode, type TestNode, trainedModel } from './node.ts';

const postgres = usePostgres();
const { sizes, total } = layoutOf(contract);
const ROWS = 300;
const ROSTER = { sites: 1, minimumQuorum: 1 };
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
  port = openParticipantPort(node, ROSTER, () => {});
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
  const without = openParticipantPort({ ...node, training: closed }, ROSTER, () => {});
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

/** A model as the aggregator of this plan would publish it, with what vouches for it. */
function publishedModel(changes: Partial<Scorecard['training']> = {}) {
  const { epsilon, delta, mode, sites, rounds } = plan;
  const trained = trainedModel(3);
  const training = {
    ...trained.training,
    ...{ epsilon, delta, mode, sites, rounds },
    planHash: planHash(plan),
    ...changes,
  };
  const model = { ...trained, training };
  const evidence: ModelEvidence = {
    ...{ planId: plan.id, planHash: planHash(plan), modelHash: modelHash(model), rosterHash: '0'.repeat(64) },
    ...{ signer: 'aggregator', messageId: 'model', body: '', signature: '', evaluation: null },
  };
  return { model, evidence };
}

test('a model is adopted only from a plan that was accepted, and only with the promises of that plan', async () => {
  const liar = publishedModel({ epsilon: 0.001 });
  await expect(port.adopt(liar.model, liar.evidence)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  const { model, evidence } = publishedModel();
  await expect(port.adopt(model, { ...evidence, planHash: 'f'.repeat(64) })).rejects.toThrow('not accepted');
  await expect(port.adopt(model, { ...evidence, planId: 'never-seen' })).rejects.toThrow('not accepted');
  expect((await node.store.models.champion())?.hash).not.toBe(evidence.modelHash);

  await port.adopt(model, evidence);
  await port.adopt(model, evidence);
  expect((await node.store.models.champion())?.hash).toBe(evidence.modelHash);
  await port.planEnded(plan.id, 'completed', '');
  await port.adopt(model, evidence);
  await expect(port.release(task(1))).rejects.toThrow('not accepted');
});

test('a refused plan gives neither releases nor a champion', async () => {
  plan = { ...plan, id: `plan-${plans++}`, epsilon: 50 };
  expect(await port.answerPlan(plan, planHash(plan), contract)).toMatchObject({
    accepted: false,
    code: 'POLICY_EPSILON',
  });
  const { model, evidence } = publishedModel();
  await expect(port.adopt(model, evidence)).rejects.toThrow('not accepted');
  await expect(port.release(task(0))).rejects.toThrow('not accepted');
  expect(await releases()).toEqual([]);
});

test('an exhausted budget refuses, once in the ledger however often it is asked', async () => {
  const dataset = await node.store.datasets.forContract(contractHash(contract));
  const totals = await node.store.ledger.totals(dataset!.id);
  const left = totals!.budget.muSquared - totals!.spent;
  // Another release of the same data set takes all but a little of what is left.
  await node.store.transaction(async (tx) => {
    const taken = await tx.ledger.reserve({
      ...{ datasetId: dataset!.id, planId: 'elsewhere', round: 0, muSquared: left * (1 - 1e-6), statement: {} },
    });
    await tx.append(reservationEntry(taken.release, 'node'));
  });
  for (let ask = 0; ask < 3; ask++) {
    await expect(port.release(task(0))).rejects.toMatchObject({ code: 'BUDGET_EXHAUSTED' });
  }
  expect((await releases()).map(({ state }) => state)).toEqual(['refused']);
  const late = { ...plan, id: `plan-${plans++}` };
  const verdict = await port.answerPlan(late, planHash(late), contract);
  expect(verdict).toMatchObject({ accepted: false, code: 'BUDGET_EXHAUSTED' });
});
