/** Logistic regression and networks over the same rounds as a scorecard: real gRPC, TLS, PostgreSQL, and masks. */
import { afterEach, expect, test } from '@jest/globals';
import type { AggregatorEvent } from '../../federated/aggregator/desk.ts';
import { fetchModel, planStatus, proposePlan } from '../../federated/protocol/client.ts';
import { courseFor } from '../../src/learning/course.ts';
import { evaluateModel, parseEvaluation } from '../../src/learning/modelEvaluation.ts';
import { planHash } from '../../src/learning/plan.ts';
import { type DenseModel, denseHash } from '../../src/learning/sgd/model.ts';
import { type DensePlan, type DensePlanFacts, defaultDensePlan } from '../../src/learning/sgd/plan.ts';
import { ringSum } from '../learning/federatedTraining.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, MemoryBank, makeConsortium, runBank, startTestAggregator, until } from './consortium.ts';

const postgres = usePostgres();
const cleanUp: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

const EVALUATION = { holdout: 0.2, share: 0.2, bins: 64 } as const;

function planFor(wishes: Partial<DensePlanFacts>): DensePlan {
  const facts = { contract, family: 'logistic', epsilon: 4, delta: 1e-6, expectedRows: 4000, rounds: 4 } as const;
  return defaultDensePlan({ ...facts, sites: 4, quorum: 4, id: 'dense', roundDeadlineMs: 5_000, ...wishes });
}

/** The model, and the sum of its evaluation, that the same banks' releases give when they are simply added up. */
async function plainly(
  plan: DensePlan,
): Promise<{ modelHash: string; evaluation: number[] | null; intercept: number }> {
  const course = courseFor(plan, contract);
  const banks = [1, 2, 3, 4].map((seed) => new MemoryBank(seed));
  const task = { plan, planHash: planHash(plan), contract, attempt: 1, model: null, stateHash: '' };
  let state = course.firstState();
  let evaluation: number[] | null = null;
  for (let round = course.firstRound; round <= course.lastRound; round++) {
    const weights = course.weights(round, state);
    const sent = await Promise.all(banks.map((bank) => bank.release({ ...task, round, weights })));
    // Sums of plain rounds are below 2^32 here: the ring changes nothing.
    const sum = ringSum(
      sent.map(({ histogram }) => histogram),
      course.ringBits(round) || 32,
    );
    if (round === course.evaluation) evaluation = Array.from(sum);
    else state = course.nextState(state, round, sum, null, banks.length);
  }
  const { document, intercept } = course.finish(state);
  // Safe: the model document of a dense plan.
  return { modelHash: denseHash(document as DenseModel), evaluation, intercept };
}

test.each<[string, Partial<DensePlanFacts>]>([
  ['FedAdam in mode sum, logistic regression', { mode: 'sum' }],
  [
    'FedAvg in mode sum, a network, one bank may be absent',
    { mode: 'sum', family: 'mlp', strategy: 'fedavg', quorum: 3 },
  ],
  ['FedProx in mode site', { strategy: 'fedprox', localSteps: 2 }],
  ['an evaluation in mode sum, one bank may be absent', { mode: 'sum', quorum: 3, evaluation: EVALUATION }],
  ['an evaluation of a network in mode site', { family: 'mlp', evaluation: EVALUATION }],
])('%s: signed, adopted, and bit for bit the model of the plain sums', async (_, wishes) => {
  const c = makeConsortium(4, 3);
  const plan = planFor(wishes);
  const events: AggregatorEvent[] = [];
  const aggregator = await startTestAggregator(c, await postgres.freshDatabase(), 0, (event) => events.push(event));
  cleanUp.push(() => aggregator.stop());
  const { url } = aggregator;
  const running = c.sites.map((__, index) => runBank(c, index, url));
  for (const bank of running) cleanUp.push(bank.stop);
  const operator = { roster: c.roster, url };
  await proposePlan({ ...operator, operatorKey: c.operator, plan, contract, acceptanceDeadlineMs: 10_000 });
  await until(() => running.every(({ bank }) => bank.ended.length === 1));
  const report = await planStatus({ ...operator, key: c.operator, planId: plan.id });
  expect(report).toMatchObject({ state: 'completed', planHash: planHash(plan), contributions: 4 });
  const { evidence, model } = await fetchModel({ ...operator, key: c.operator, planId: plan.id });
  const { modelHash, evaluation, intercept } = await plainly(plan);
  expect(evidence.modelHash).toBe(modelHash);
  const subject = { plan, planHash: planHash(plan), modelHash, intercept };
  const everyone = c.sites.map(({ id }) => id);
  expect(evidence.evaluation).toEqual(evaluation && evaluateModel(subject, Float64Array.from(evaluation), everyone));
  // What a bank checks before it adopts the model.
  expect(parseEvaluation(evidence.evaluation, subject)).toEqual(evidence.evaluation);
  for (const { bank } of running) {
    expect(bank.adopted.get(plan.id)).toEqual(model);
    // No counts: the first round is a gradient.
    expect(bank.released).toEqual([1, 2, 3, 4, ...(plan.evaluation ? [5] : [])]);
  }
  expect(events.filter(({ event }) => event === 'round')).toHaveLength(plan.rounds + (plan.evaluation ? 1 : 0));
});
