/** What a release costs: nothing while the sums are computed, once when it is made, never again when it is repeated. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { ModelEvidence } from '../../federated/protocol/client.ts';
import { contractHash, layoutOf } from '../../src/contract/contract.ts';
import { shapeOf } from '../../src/learning/binned.ts';
import { evaluateModel, missingEvaluation } from '../../src/learning/modelEvaluation.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { resolutionOf } from '../../src/learning/resolution.ts';
import { modelHash, type Scorecard } from '../../src/learning/scorecard.ts';
import { SCORE_CELLS } from '../../src/learning/scoreHistogram.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { listModels } from '../../src/operations/models.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import { openTrainingData } from '../../src/operations/trainingData.ts';
import type { ParticipantPort, ReleaseTask } from '../../src/participant/port.ts';
import { reservationEntry } from '../../src/store/ledger.ts';
import { openTrainingPool, type TrainingPool } from '../../src/workers/trainingPool.ts';
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
  ...{ plan, planHash: planHash(plan), contract, round, attempt: 1, stateHash: String(round).padStart(64, '0') },
  weights: { intercept: round === 0 ? 0 : -1, flat: new Float64Array(round === 0 ? 0 : total).fill(0.01) },
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
    expect(first.histogram).toHaveLength(resolutionOf(shapeOf(contract), plan.knots).total);
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

/** The pool, and what its passes over the records gave. */
function watch(pool: TrainingPool, exact: Float64Array[]): TrainingPool {
  const kept = async (histogram: Promise<Float64Array>) => {
    exact.push(await histogram);
    return histogram;
  };
  return {
    ...pool,
    counts: (data) => kept(pool.counts(data)),
    gradient: (data, model, grid) => kept(pool.gradient(data, model, grid)),
    scores: (data, model) => kept(pool.scores(data, model)),
  };
}

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

describe('an evaluation', () => {
  const evaluation: TrainingPlan['evaluation'] = { holdout: 0.4, share: 0.2, bins: 64 };

  beforeEach(async () => {
    plan = { ...plan, id: `plan-${plans++}`, evaluation };
    expect(await port.answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
  });

  const last = () => task(plan.rounds + 1);

  test('counts the held-out customers by score and label, is paid for once and repeated byte for byte', async () => {
    await expect(port.release(task(plan.rounds + 2))).rejects.toMatchObject({ code: 'TRAINING_INPUT' });
    await expect(port.release({ ...last(), model: null })).rejects.toMatchObject({ code: 'TRAINING_INPUT' });
    const first = await port.release(last());
    expect(first.histogram).toHaveLength(SCORE_CELLS);
    expect(await port.release(last())).toEqual(first);
    const cost = privacyStatement(plan).releases.at(-1)!;
    expect(await releases()).toMatchObject([
      {
        ...{ round: plan.rounds + 1, state: 'committed', muSquared: expect.closeTo(cost.muSquared, 12) },
        statement: { release: 'evaluation', sensitivitySquared: plan.maxRecordsPerSubject ** 2 },
      },
    ]);
    await expect(port.release(task(plan.rounds + 1, { stateHash: 'f'.repeat(64) }))).rejects.toMatchObject({
      code: 'RELEASE_REPLAYED',
    });
  });

  test('and training have no customer in common, and together all of them', async () => {
    const dataset = (await node.store.datasets.forContract(contractHash(contract)))!;
    const load = (share: number) => openTrainingData(node).load(dataset.id, contract, share);
    const [all, split, again] = [await load(0), await load(0.4), await load(0.4)];
    expect(all.holdout.rows).toBe(0);
    expect(split.training.rows + split.holdout.rows).toBe(all.training.rows);
    expect(split.holdout.rows).toBeGreaterThan(0);
    expect(split).toEqual(again);
    // What the rounds release comes from the one side, the evaluation from the other, but for noise.
    const exact: Float64Array[] = [];
    const watched = { ...node, training: watch(node.training, exact) };
    const watching = openParticipantPort(watched, ROSTER, () => {});
    for (const each of [task(0), last()]) await watching.release(each);
    const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);
    expect(sum(exact[0])).toBe(split.training.rows * sizes.length);
    expect(sum(exact[1])).toBe(split.holdout.rows);
  });

  test('whose node dies between reservation and commit is paid for again, and what was drawn never leaves', async () => {
    const dying = { ...node, random: { ...node.random, nextUint32: () => fail(), fill: () => fail() } };
    const fail = (): never => {
      throw new TypeError('the power is off');
    };
    await expect(openParticipantPort(dying, ROSTER, () => {}).release(last())).rejects.toThrow('the power is off');
    expect((await releases()).map(({ state }) => state)).toEqual(['reserved']);

    const restarted = openParticipantPort(node, ROSTER, () => {});
    const released = await restarted.release(last());
    const { muSquared } = privacyStatement(plan).releases.at(-1)!;
    expect((await releases()).map((each) => [each.attempt, each.state, each.muSquared])).toEqual([
      [1, 'lost', expect.closeTo(muSquared, 12)],
      [2, 'committed', expect.closeTo(muSquared, 12)],
    ]);
    expect(await openParticipantPort(node, ROSTER, () => {}).release(last())).toEqual(released);
  });

  test('is adopted with its model, and only that of this plan and model', async () => {
    const { model, evidence } = publishedModel();
    const { intercept } = model;
    const subject = { plan, planHash: planHash(plan), modelHash: evidence.modelHash, intercept };
    const { histogram } = await port.release(last());
    const own = evaluateModel(subject, histogram, ['bank-a']);
    const wrong = [
      null,
      {},
      { ...own, modelHash: 'f'.repeat(64) },
      { ...own, planHash: 'f'.repeat(64) },
      { ...own, sigma: '1/1024' },
      { ...own, result: null },
      evaluateModel(subject, histogram, ['bank-a', 'bank-b']),
    ];
    for (const evaluation of wrong) {
      await expect(port.adopt(model, { ...evidence, evaluation })).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    }
    await port.adopt(model, { ...evidence, evaluation: own });
    const { measures } = own.result!;
    expect((await listModels(node))[0]).toMatchObject({
      hash: evidence.modelHash,
      evaluation: { ...measures, sites: 1 },
    });
  });

  test('that failed leaves a model that is adopted, without figures', async () => {
    const { model, evidence } = publishedModel();
    const subject = { plan, planHash: planHash(plan), modelHash: evidence.modelHash, intercept: model.intercept };
    const evaluation = missingEvaluation(subject, 'QUORUM_LOST', 'Too few sites.');
    await port.adopt(model, { ...evidence, evaluation });
    expect((await listModels(node))[0]).toMatchObject({ hash: evidence.modelHash, evaluation: null });
  });
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
