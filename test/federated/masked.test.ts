/** Plans whose sums are made under masks, over real gRPC, real TLS and a real PostgreSQL. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { AggregatorEvent } from '../../federated/aggregator/desk.ts';
import { fetchModel, planStatus, proposePlan } from '../../federated/protocol/client.ts';
import { PrivacyError } from '../../src/errors.ts';
import type { TrainingPlan } from '../../src/learning/plan.ts';
import { usePostgres } from '../support/postgres.ts';
import {
  type Consortium,
  contract,
  makeConsortium,
  type Running,
  runBank,
  startTestAggregator,
  until,
} from './consortium.ts';
import { plainModelHash, sumPlan } from './maskedPlan.ts';

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

const propose = (c: Consortium, url: string, plan: TrainingPlan) =>
  proposePlan({ roster: c.roster, operatorKey: c.operator, plan, contract, url, acceptanceDeadlineMs: 10_000 });
const status = (c: Consortium, url: string, planId: string) =>
  planStatus({ roster: c.roster, key: c.operator, url, planId });
const model = (c: Consortium, url: string, planId: string) =>
  fetchModel({ roster: c.roster, key: c.operator, url, planId });
const contributionsOf = (events: AggregatorEvent[]) =>
  events.flatMap((event) => (event.event === 'round' ? [event.contributions] : []));
const epochsOf = (events: AggregatorEvent[]) =>
  events.filter((event) => event.event === 'phase' && event.phase === 'keys').length;
const reached = (events: AggregatorEvent[], round: number) => () =>
  events.some((event) => event.event === 'round' && event.round >= round);
const evaluation: TrainingPlan['evaluation'] = { holdout: 0.2, share: 0.2, bins: 64 };
const ALL = [1, 2, 3, 4];

describe('a plan under masks', () => {
  test.each([0, 1])('with %d drop-outs allowed gives, bit for bit, the model of the plain sums', async (dropouts) => {
    const c = makeConsortium(4, 3);
    const plan = sumPlan(c, dropouts, { evaluation });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    await propose(c, url, plan);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    expect(await status(c, url, plan.id)).toMatchObject({ state: 'completed', contributions: 4 });
    const { evidence, model: document } = await model(c, url, plan.id);
    expect(evidence.modelHash).toBe(await plainModelHash(plan, () => ALL));
    expect(evidence.evaluation).toMatchObject({ result: { sites: c.sites.map(({ id }) => id) }, code: '' });
    for (const { bank } of running) expect(bank.adopted.get(plan.id)).toEqual(document);
    expect(contributionsOf(events)).toEqual(Array.from({ length: plan.rounds + 2 }, () => 4));
    expect(epochsOf(events)).toBe(1);
  });

  test('goes on without a bank that falls silent in the middle of a round, and needs no new keys', async () => {
    const c = makeConsortium(4, 3);
    const plan = sumPlan(c, 1, { roundDeadlineMs: 1_500 });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    const gone = Promise.withResolvers<void>();
    cleanUp.push(async () => gone.resolve());
    running[3].bank.beforeRelease = ({ round }) => (round === 2 ? gone.promise : Promise.resolve());
    await propose(c, url, plan);
    await until(reached(events, 1));
    await until(() => running[3].bank.released.length === 2);
    void running[3].stop();
    await until(() => running.slice(0, 3).every(({ bank }) => bank.ended.length === 1));
    expect(contributionsOf(events)).toEqual([4, 4, 3, 3, 3]);
    const { evidence } = await model(c, url, plan.id);
    expect(evidence.modelHash).toBe(await plainModelHash(plan, (round) => (round < 2 ? ALL : [1, 2, 3])));
    expect(epochsOf(events)).toBe(1);
  });

  test('takes a bank that restarts back in, with a new epoch', async () => {
    const c = makeConsortium(4, 3);
    const plan = sumPlan(c, 1, { rounds: 8, roundDeadlineMs: 3_000 });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    // Waits until the fourth bank is back, so that there is a round left for it.
    const back = Promise.withResolvers<void>();
    cleanUp.push(async () => back.resolve());
    running[0].bank.beforeRelease = ({ round }) => (round === 3 ? back.promise : Promise.resolve());
    await propose(c, url, plan);
    await until(reached(events, 2));
    await running[3].stop();
    const again = runBank(c, 3, url, running[3].bank);
    cleanUp.push(again.stop);
    await new Promise((done) => setTimeout(done, 500));
    back.resolve();
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    const contributions = contributionsOf(events);
    expect(contributions.slice(0, 3)).toEqual([4, 4, 4]);
    expect(contributions.at(-1)).toBe(4);
    expect(epochsOf(events)).toBe(2);
  });

  test('counts a refusal as an absence', async () => {
    const c = makeConsortium(4, 3);
    const plan = sumPlan(c, 1);
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    running[1].bank.beforeRelease = async ({ round }) => {
      if (round >= 3) throw new PrivacyError('BUDGET_EXHAUSTED', 'nothing left');
    };
    await propose(c, url, plan);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    expect(contributionsOf(events)).toEqual([4, 4, 4, 3, 3]);
    const { evidence } = await model(c, url, plan.id);
    expect(evidence.modelHash).toBe(await plainModelHash(plan, (round) => (round < 3 ? ALL : [1, 3, 4])));
  });

  test('tries a round again with fresh masks, and is aborted when the quorum stays away', async () => {
    const c = makeConsortium(4, 3);
    const plan = sumPlan(c, 1, { roundDeadlineMs: 400 });
    const { url, events } = await aggregatorFor(c);
    const running = banks(c, url);
    const never = Promise.withResolvers<void>();
    cleanUp.push(async () => never.resolve());
    for (const { bank } of running.slice(0, 2)) {
      bank.beforeRelease = ({ round }) => (round === 2 ? never.promise : Promise.resolve());
    }
    await propose(c, url, plan);
    await until(async () => (await status(c, url, plan.id)).state === 'aborted');
    never.resolve();
    expect(await status(c, url, plan.id)).toMatchObject({ code: 'QUORUM_LOST', round: 2, modelHash: null });
    const attempts = events.flatMap((event) => (event.event === 'reopened' ? [event.attempt] : []));
    expect(attempts.slice(-3)).toEqual([1, 2, 3]);
    // Nothing of the round was opened.
    for (const { bank } of running) expect([...bank.revealed.keys()]).toEqual([`${plan.id} 1`]);
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
  });
});
