/** Dense plans at a node: reviewed, released, charged as their statement says, and kept at the end. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { contractHash } from '../../src/contract/contract.ts';
import { courseFor } from '../../src/learning/course.ts';
import { statementOf } from '../../src/learning/federatedPlan.ts';
import { evaluateModel } from '../../src/learning/modelEvaluation.ts';
import { planHash } from '../../src/learning/plan.ts';
import { type DenseModel, denseHash } from '../../src/learning/sgd/model.ts';
import { type DensePlan, type DensePlanFacts, defaultDensePlan } from '../../src/learning/sgd/plan.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { listKept } from '../../src/operations/keptModels.ts';
import { readLedger } from '../../src/operations/ledger.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import type { ParticipantPort } from '../../src/participant/port.ts';
import { epsilonOf } from '../../src/privacy/budget.ts';
import { openTrainingPool } from '../../src/workers/trainingPool.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';
import { contract, openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const ROWS = 2_000;
const ROSTER = { sites: 1, minimumQuorum: 1 };
let folder: string;
let node: TestNode;
let port: ParticipantPort;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-dense-'));
  node = await openTestNode(await postgres.freshDatabase());
  const path = join(folder, 'bank.csv');
  await writeFile(path, [...simulateTransactions({ seed: 7, bank: 'a', rows: ROWS, fraudRate: 0.05 })].join('\n'));
  await importRecords(node, { contractFile: await readContract('demo-transactions'), path });
  port = openParticipantPort(node, ROSTER, () => {});
});

afterAll(async () => {
  await node.close();
  await rm(folder, { recursive: true });
});

async function accepted(id: string, wishes: Partial<DensePlanFacts>): Promise<DensePlan> {
  const facts = { contract, epsilon: 0.5, delta: 1e-6, sites: 1, quorum: 1, expectedRows: ROWS, rounds: 2 } as const;
  const plan = defaultDensePlan({ ...facts, family: 'logistic', ...wishes, id });
  expect(await port.answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
  return plan;
}

const EVALUATION = { holdout: 0.25, share: 0.2, bins: 64 } as const;

const task = (plan: DensePlan, round: number, state: string) => ({
  ...{ plan, planHash: planHash(plan), contract, round, attempt: 1, model: null },
  weights: courseFor(plan, contract).weights(round, state),
  stateHash: String(round).padStart(64, '0'),
});

async function released(plan: DensePlan) {
  const dataset = await node.store.datasets.forContract(contractHash(contract));
  const rows = await node.store.ledger.releases(dataset!.id);
  return rows
    .filter(({ planId }) => planId === plan.id)
    .map(({ round, state, muSquared }) => ({ round, state, muSquared }));
}

test.each<[string, Partial<DensePlanFacts>]>([
  ['one step a round', {}],
  ['several steps a round', { strategy: 'fedprox', localSteps: 3 }],
])('%s: each round is paid for once, repeated byte for byte, and the model is kept', async (name, wishes) => {
  const plan = await accepted(name.replaceAll(' ', '-'), wishes);
  const course = courseFor(plan, contract);
  let state = course.firstState();
  for (const round of [1, 2]) {
    const first = await port.release(task(plan, round, state));
    expect(first.histogram).toHaveLength(plan.dimension);
    expect(await port.release(task(plan, round, state))).toEqual(first);
    state = course.nextState(state, round, first.histogram, null, 1);
  }
  const cost = statementOf(plan).releases[0].muSquared;
  expect(await released(plan)).toEqual(
    [1, 2].map((round) => ({ round, state: 'committed', muSquared: expect.closeTo(cost, 12) })),
  );
  const [ledger] = await readLedger(node);
  const line = ledger.plans.find(({ planId }) => planId === plan.id);
  const epsilon = epsilonOf(statementOf(plan).muSquaredTotal, ledger.budget.delta);
  expect(line).toMatchObject({ committed: 2, epsilon: expect.closeTo(epsilon, 6) });

  // Safe: the model document of a dense plan.
  const model = course.finish(state).document as DenseModel;
  const evidence = { planId: plan.id, planHash: planHash(plan), modelHash: denseHash(model), evaluation: null };
  await port.adopt(model, { ...evidence, signature: '' } as never);
  expect((await listKept(node)).map(({ hash }) => hash)).toContain(denseHash(model));
});

test('an evaluation is of customers who trained nothing, paid for by itself, and listed with the model', async () => {
  const plan = await accepted('evaluated', { evaluation: EVALUATION, epsilon: 2 });
  const course = courseFor(plan, contract);
  let state = course.firstState();
  for (const round of [1, 2]) {
    state = course.nextState(state, round, (await port.release(task(plan, round, state))).histogram, null, 1);
  }
  const evaluation = await port.release(task(plan, 3, state));
  expect(evaluation.histogram).toHaveLength(128);
  expect(await port.release(task(plan, 3, state))).toEqual(evaluation);
  // At another model it is another release, which the plan does not pay for.
  const other = { ...task(plan, 3, state), stateHash: 'f'.repeat(64) };
  await expect(port.release(other)).rejects.toMatchObject({ code: 'RELEASE_REPLAYED' });
  const { releases } = statementOf(plan);
  expect(await released(plan)).toEqual(
    releases.map(({ muSquared }, at) => ({
      ...{ round: at + 1, state: 'committed', muSquared: expect.closeTo(muSquared, 12) },
    })),
  );
  const [ledger] = await readLedger(node);
  const line = ledger.releases.find(({ planId, round }) => planId === plan.id && round === 3);
  expect(line).toMatchObject({ release: 'evaluation', sensitivitySquared: contract.maxRecordsPerSubject ** 2 });

  const { document, intercept } = course.finish(state);
  // Safe: the model document of a dense plan.
  const model = document as DenseModel;
  const subject = { plan, planHash: planHash(plan), modelHash: denseHash(model), intercept };
  const signed = evaluateModel(subject, evaluation.histogram, ['a']);
  // A quarter of the customers, by a key that is drawn anew; 8 standard deviations of noise and split (1e-15).
  const { noiseVariance, measures } = signed.result!;
  const spread = Math.sqrt(128 * noiseVariance + ROWS * 0.25 * 0.75);
  expect(Math.abs(measures.records!.estimate - ROWS * 0.25)).toBeLessThan(8 * spread);
  expect(8 * spread).toBeLessThan(ROWS * 0.5);
  const evidence = { planId: plan.id, planHash: planHash(plan), modelHash: denseHash(model), signature: '' };
  for (const wrong of [null, { ...signed, holdout: 0.5 }, { ...signed, planHash: 'b'.repeat(64) }]) {
    await expect(port.adopt(model, { ...evidence, evaluation: wrong } as never)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
    });
  }
  await port.adopt(model, { ...evidence, evaluation: signed } as never);
  const kept = (await listKept(node)).find(({ planHash: of }) => of === planHash(plan));
  expect(kept?.evaluation).toEqual({ ...measures, holdout: 0.25, sites: 1 });
});

test('a round that the plan does not have, and a thread that fails, cost nothing', async () => {
  const plan = await accepted('no-cost', {});
  const state = courseFor(plan, contract).firstState();
  for (const round of [0, 3]) {
    await expect(port.release(task(plan, round, state))).rejects.toMatchObject({ code: 'TRAINING_INPUT' });
  }
  const closed = openTrainingPool({ log: node.log });
  await closed.close();
  const without = openParticipantPort({ ...node, training: closed }, ROSTER, () => {});
  await expect(without.release(task(plan, 1, state))).rejects.toMatchObject({ code: 'WORKER_FAILED' });
  expect(await released(plan)).toEqual([]);
});

test('a plan of another dimension than its contract gives is refused', async () => {
  const facts = { contract, epsilon: 0.5, delta: 1e-6, sites: 1, quorum: 1, expectedRows: ROWS } as const;
  const plan = { ...defaultDensePlan({ ...facts, family: 'logistic', id: 'other' }), dimension: 7 };
  expect(await port.answerPlan(plan, planHash(plan), contract)).toMatchObject({
    accepted: false,
    code: 'PLAN_MISMATCH',
  });
});
