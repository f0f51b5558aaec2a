/** Whole plans over real gRPC, real TLS and a real PostgreSQL. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { AggregatorEvent } from '../../federated/aggregator/desk.ts';
import { fetchModel, planStatus, proposePlan } from '../../federated/protocol/client.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { PrivacyError } from '../../src/errors.ts';
import { shapeOf } from '../../src/learning/binned.ts';
import { NO_WEIGHTS } from '../../src/learning/course.ts';
import { parseEvaluation } from '../../src/learning/modelEvaluation.ts';
import { planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { modelHash, type Scorecard, toModel } from '../../src/learning/scorecard.ts';
import { estimate } from '../../src/learning/scoreEstimate.ts';
import { type AdditiveModel, flatWeights } from '../../src/learning/site.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { absorbCounts, absorbRound, createTrainer } from '../../src/learning/trainer.ts';
import { approximately } from '../../src/privacy/rational.ts';
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

const postgres = usePostgres();
const cleanUp: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

async function aggregatorFor(c: Consortium, databaseUrl?: string, port = 0) {
  const events: AggregatorEvent[] = [];
  const url = databaseUrl ?? (await postgres.freshDatabase());
  const aggregator = await startTestAggregator(c, url, port, (event) => events.push(event));
  cleanUp.push(() => aggregator.stop());
  return { url: aggregator.url, stop: aggregator.stop, events, databaseUrl: url };
}

function banks(c: Consortium, url: string, indices = c.sites.map((_, index) => index)): Running[] {
  const running = indices.map((index) => runBank(c, index, url));
  for (const bank of running) cleanUp.push(bank.stop);
  return running;
}

const propose = (c: Consortium, url: string, plan: ReturnType<typeof makePlan>, acceptanceDeadlineMs = 10_000) =>
  proposePlan({ roster: c.roster, operatorKey: c.operator, plan, contract, url, acceptanceDeadlineMs });
const status = (c: Consortium, url: string, planId: string) =>
  planStatus({ roster: c.roster, key: c.operator, url, planId });
const model = (c: Consortium, url: string, planId: string) =>
  fetchModel({ roster: c.roster, key: c.operator, url, planId });
const ended = async (c: Consortium, url: string, planId: string) => {
  const { state } = await status(c, url, planId);
  return state === 'completed' || state === 'aborted';
};

const evaluation: TrainingPlan['evaluation'] = { holdout: 0.2, share: 0.2, bins: 64 };

describe('a plan', () => {
  test('is trained by all sites, signed and adopted', async () => {
    const c = makeConsortium(4);
    const plan = makePlan(c);
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    const { planHash } = await propose(c, url, plan);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));

    const report = await status(c, url, plan.id);
    const published = await model(c, url, plan.id);
    expect(report).toMatchObject({ state: 'completed', planHash, round: plan.rounds, contributions: 4 });
    expect(report.modelHash).toBe(published.evidence.modelHash);
    for (const { bank } of running) {
      expect(bank.adopted.get(plan.id)).toEqual(published.model);
      expect(bank.released).toEqual([0, 1, 2, 3, 4]);
    }
    expect(events.filter((event) => event.event === 'round')).toHaveLength(plan.rounds + 1);
    // Proposing it again is the same plan, and asking a site again is not needed: it acknowledged.
    expect(await propose(c, url, plan)).toEqual({ planId: plan.id, planHash });
  });

  test('gives the bit-identical model when the aggregator dies in the middle', async () => {
    const c = makeConsortium(3);
    const plan = makePlan(c, { rounds: 6, evaluation });
    const calm = await aggregatorFor(c);
    const first = banks(c, calm.url);
    await propose(c, calm.url, plan);
    await until(() => first.every(({ bank }) => bank.ended.length === 1));
    const expected = await model(c, calm.url, plan.id);

    let running = await aggregatorFor(c);
    const port = Number(new URL(running.url).port);
    const second = banks(c, running.url);
    await propose(c, running.url, plan);
    // The last death falls into the evaluation.
    for (const dieAfterRound of [0, 2, 6]) {
      await until(() => running.events.some((event) => event.event === 'round' && event.round >= dieAfterRound));
      await running.stop();
      running = await aggregatorFor(c, running.databaseUrl, port);
    }
    await until(() => second.every(({ bank }) => bank.ended.length === 1));
    const actual = await model(c, running.url, plan.id);
    expect(actual.evidence.modelHash).toBe(expected.evidence.modelHash);
    expect(actual.model).toEqual(expected.model);
    // The envelope, signature included, is a function of the plan and the messages.
    expect(actual.evidence).toEqual(expected.evidence);
  });

  test('goes on without a site that is away for a round, and takes it back', async () => {
    const c = makeConsortium(3);
    const plan = makePlan(c, { rounds: 5, roundDeadlineMs: 600 });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    const late = Promise.withResolvers<void>();
    running[2].bank.beforeRelease = ({ round }) => (round === 2 ? late.promise : Promise.resolve());
    await propose(c, url, plan);
    await until(() => events.some((event) => event.event === 'round' && event.round === 2));
    late.resolve();
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    const contributions = events.flatMap((event) => (event.event === 'round' ? [event.contributions] : []));
    expect(contributions[2]).toBe(2);
    // On a busy machine it may miss the next deadline too.
    expect(Math.max(...contributions.slice(3))).toBe(3);
  });

  test('takes in a site whose counts come late', async () => {
    const c = makeConsortium(3);
    const plan = makePlan(c, { rounds: 5, roundDeadlineMs: 600 });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    const late = Promise.withResolvers<void>();
    running[2].bank.beforeRelease = ({ round }) => (round === 0 ? late.promise : Promise.resolve());
    await propose(c, url, plan);
    await until(() => events.some((event) => event.event === 'round' && event.round === 0));
    late.resolve();
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    const contributions = events.flatMap((event) => (event.event === 'round' ? [event.contributions] : []));
    expect(contributions[0]).toBe(2);
    expect(Math.max(...contributions.slice(1))).toBe(3);
  });

  test('continues without a site whose budget is exhausted', async () => {
    const c = makeConsortium(3);
    const plan = makePlan(c);
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    running[1].bank.beforeRelease = async ({ round }) => {
      if (round >= 2) throw new PrivacyError('BUDGET_EXHAUSTED', 'nothing left');
    };
    await propose(c, url, plan);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    const contributions = events.flatMap((event) => (event.event === 'round' ? [event.contributions] : []));
    expect(contributions).toEqual([3, 3, 2, 2, 2]);
  });

  test('is aborted with QUORUM_LOST when too few sites send', async () => {
    const c = makeConsortium(3, 3);
    const plan = makePlan(c, { roundDeadlineMs: 150 });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    const never = Promise.withResolvers<void>();
    cleanUp.push(async () => never.resolve());
    running[0].bank.beforeRelease = ({ round }) => (round === 1 ? never.promise : Promise.resolve());
    await propose(c, url, plan);
    await until(() => ended(c, url, plan.id));
    never.resolve();
    expect(await status(c, url, plan.id)).toMatchObject({ state: 'aborted', code: 'QUORUM_LOST', modelHash: null });
    expect(events.filter((event) => event.event === 'reopened' && event.round === 1)).toHaveLength(3);
    await expect(model(c, url, plan.id)).rejects.toMatchObject({ code: 'PLAN_STATE' });
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    for (const { bank } of running) expect(bank.adopted.size).toBe(0);
  });

  test('is aborted when the sites refuse it, with their reasons', async () => {
    const c = makeConsortium(3, 2);
    const plan = makePlan(c);
    const { url } = await aggregatorFor(c);
    const running = banks(c, url);
    for (const { bank } of running.slice(0, 2)) {
      bank.answer = async () => ({ accepted: false, code: 'POLICY_EPSILON', reason: 'Epsilon is too high.' });
    }
    await propose(c, url, plan);
    await until(() => ended(c, url, plan.id));
    const report = await status(c, url, plan.id);
    expect(report).toMatchObject({ state: 'aborted', code: 'QUORUM_LOST' });
    expect(report.answers.filter((answer) => answer.code === 'POLICY_EPSILON')).toHaveLength(2);
    expect(running.every(({ bank }) => bank.released.length === 0)).toBe(true);
  });

  test('starts at the acceptance deadline with a quorum, and a second plan runs beside it', async () => {
    const c = makeConsortium(3);
    const { url } = await aggregatorFor(c);
    const running = banks(c, url, [0, 1]);
    const one = makePlan(c, { id: 'plan-one' });
    const two = makePlan(c, { id: 'plan-two', rounds: 2 });
    await Promise.all([propose(c, url, one, 500), propose(c, url, two, 500)]);
    await until(() => running.every(({ bank }) => bank.ended.length === 2));
    for (const plan of [one, two]) {
      expect(await status(c, url, plan.id)).toMatchObject({ state: 'completed', contributions: 2 });
    }
  });
});

test('the federated model is the one the learning code gives from the same releases', async () => {
  const c = makeConsortium(2);
  const plan = makePlan(c, { rounds: 3 });
  const { url } = await aggregatorFor(c);
  const running = banks(c, url);
  await propose(c, url, plan);
  await until(() => running.every(({ bank }) => bank.ended.length === 1));
  const published = await model(c, url, plan.id);

  const fresh = [new MemoryBank(1), new MemoryBank(2)];
  const sum = async (round: number, at: AdditiveModel | null) => {
    const { sizes } = layoutOf(contract);
    const weights = at === null ? NO_WEIGHTS : { intercept: at.intercept, flat: flatWeights(at, sizes) };
    const task = { plan, planHash: planHash(plan), contract, round, attempt: 0, weights, model: at, stateHash: '' };
    const parts = await Promise.all(fresh.map((bank) => bank.release(task)));
    return parts[0].histogram.map((value, index) => value + parts[1].histogram[index]);
  };
  const counts = await sum(0, null);
  let state = absorbCounts(createTrainer(plan, shapeOf(contract)), counts);
  for (let round = 1; round <= plan.rounds; round++) {
    state = absorbRound(state, await sum(round, state.model), counts, 2);
  }
  const expected = toModel(state, contract);
  expect(published.model).toEqual(expected);
  expect(published.evidence.modelHash).toBe(modelHash(expected));
});

describe('an evaluation', () => {
  test('is measured at the finished model, signed with it, and follows from the histograms the sites sent', async () => {
    const c = makeConsortium(3);
    const plan = makePlan(c, { rounds: 2, evaluation });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    await propose(c, url, plan);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    const published = await model(c, url, plan.id);
    expect(await status(c, url, plan.id)).toMatchObject({ state: 'completed', round: 3, of: 2, contributions: 3 });
    expect(events.flatMap((event) => (event.event === 'round' ? [event.round] : []))).toEqual([0, 1, 2, 3]);

    // Safe: the aggregator under test made it.
    const finished = published.model as Scorecard;
    const subject = { plan, planHash: planHash(plan), modelHash: modelHash(finished) };
    const signed = parseEvaluation(published.evidence.evaluation, subject);
    const weights = { intercept: finished.intercept, flat: flatWeights(finished, layoutOf(contract).sizes) };
    const { planHash: of } = subject;
    const task = { plan, planHash: of, contract, round: 3, attempt: 0, weights, model: finished, stateHash: '' };
    const parts = await Promise.all([1, 2, 3].map((seed) => new MemoryBank(seed).release(task)));
    const sum = parts[0].histogram.map((_, cell) => parts.reduce((total, part) => total + part.histogram[cell], 0));
    const noiseVariance = 3 * approximately(privacyStatement(plan).sigmaEvaluationSquared!);
    expect(signed?.result).toEqual({
      ...{ sites: ['bank-1', 'bank-2', 'bank-3'], noiseVariance, histogram: Array.from(sum) },
      measures: estimate(sum, {
        ...{ noiseVariance, intercept: finished.intercept },
        ...{ residualBound: plan.residualBound, maxRecordsPerSubject: 1 },
      }),
    });
    // The simulated label follows the first field, and 3,000 records at epsilon 4 show it.
    const { auc, records } = signed!.result!.measures;
    expect(auc!.low).toBeGreaterThan(0.5);
    expect(auc!.high).toBeLessThan(0.85);
    expect(records!.low).toBeLessThan(3000);
    expect(records!.high).toBeGreaterThan(3000);
    for (const { bank } of running) {
      expect(bank.released).toEqual([0, 1, 2, 3]);
      expect(bank.evidence.get(plan.id)).toEqual(published.evidence);
    }
  });

  test('of one without a site is made by the others', async () => {
    const c = makeConsortium(3);
    const plan = makePlan(c, { rounds: 1, evaluation });
    const { url } = await aggregatorFor(c);
    const running = banks(c, url);
    running[1].bank.beforeRelease = async ({ round }) => {
      if (round === 2) throw new PrivacyError('BUDGET_EXHAUSTED', 'nothing left');
    };
    await propose(c, url, plan);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    const { evidence } = await model(c, url, plan.id);
    expect(evidence.evaluation).toMatchObject({ result: { sites: ['bank-1', 'bank-3'] }, code: '' });
  });

  test.each<[string, number, () => Promise<void>]>([
    [
      'refuse',
      5_000,
      async () => {
        throw new PrivacyError('BUDGET_EXHAUSTED', 'nothing left');
      },
    ],
    ['stay silent', 300, () => new Promise(() => {})],
  ])('that loses its quorum because sites %s leaves the model without figures', async (_how, deadline, fail) => {
    const c = makeConsortium(2);
    const plan = makePlan(c, { rounds: 1, roundDeadlineMs: deadline, evaluation });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    const ending = Promise.withResolvers<void>();
    cleanUp.push(async () => ending.resolve());
    running[0].bank.beforeRelease = ({ round }) =>
      round === 2 ? Promise.race([fail(), ending.promise]) : Promise.resolve();
    await propose(c, url, plan);
    await until(() => ended(c, url, plan.id));
    const { evidence } = await model(c, url, plan.id);
    expect(await status(c, url, plan.id)).toMatchObject({ state: 'completed', modelHash: evidence.modelHash });
    expect(evidence.evaluation).toMatchObject({ result: null, code: 'QUORUM_LOST', modelHash: evidence.modelHash });
    expect(events.some((event) => event.event === 'model')).toBe(true);
    await until(() => running[1].bank.ended.length === 1);
    expect(running[1].bank.adopted.size).toBe(1);
  });
});
