/** A bank over the wire: plans that a person decides on, plans that are ended, and an aggregator that is not there. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Aggregator } from '../../federated/aggregator/server.ts';
import { abortPlan, planStatus, proposePlan } from '../../federated/protocol/client.ts';
import type { PlanAnswer } from '../../src/participant/port.ts';
import {
  contract,
  MemoryBank,
  makeConsortium,
  makePlan,
  type Running,
  runBank,
  startTestAggregator,
  until,
} from '../federated/consortium.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const consortium = makeConsortium(3, 2);
const { roster, operator } = consortium;
let aggregator: Aggregator;
let banks: Running[];
/** The third bank's; nobody has decided while it is null. */
let decision: PlanAnswer;
let asked: number;

beforeEach(async () => {
  aggregator = await startTestAggregator(consortium, await postgres.freshDatabase());
  decision = { accepted: null };
  asked = 0;
  const slow = new MemoryBank(3);
  slow.answer = async () => {
    asked++;
    return decision;
  };
  banks = [0, 1].map((index) => runBank(consortium, index, aggregator.url));
  banks.push(runBank(consortium, 2, aggregator.url, slow));
});

afterEach(async () => {
  await Promise.all(banks.map((bank) => bank.stop()));
  await aggregator.stop();
});

const plan = makePlan(consortium, { rounds: 2 });
const propose = (acceptanceDeadlineMs: number) =>
  proposePlan({ roster, operatorKey: operator, plan, contract, url: aggregator.url, acceptanceDeadlineMs });
const report = () => planStatus({ roster, key: operator, planId: plan.id, url: aggregator.url });
const state = async () => (await report()).state;

test('a plan waits for a person, and begins when he has decided', async () => {
  await propose(30_000);
  await until(() => asked >= 2);
  expect(await report()).toMatchObject({ state: 'proposed', answers: [{ accepted: true }, { accepted: true }] });
  decision = { accepted: true };
  await until(async () => (await state()) === 'completed');
  await until(() => banks[2].bank.ended.length === 1);
  expect(banks[2].bank.adopted.has(plan.id)).toBe(true);
});

test('a plan on which nobody decides goes on without the bank, and a late decision is told to nobody', async () => {
  await propose(1_500);
  await until(async () => (await state()) === 'completed');
  decision = { accepted: true };
  await until(() => banks[2].bank.ended.length === 1);
  expect(banks[2].bank.ended[0]).toContain('aborted');
  expect((await report()).answers.map(({ site }) => site)).toEqual(['bank-1', 'bank-2']);
  expect(banks[2].bank.released).toEqual([]);
});

test('a plan that the operator ends while a person thinks is over for all banks', async () => {
  await propose(30_000);
  // An answer that comes after the end is refused, and its bank then tells that reason.
  await until(async () => asked >= 1 && (await report()).answers.length === 2);
  const ended = () =>
    abortPlan({ roster, key: operator, planId: plan.id, url: aggregator.url, reason: 'A wrong contract.' });
  expect(await ended()).toEqual({ state: 'aborted' });
  expect(await ended()).toEqual({ state: 'aborted' });
  await until(() => banks.slice(0, 2).every(({ bank }) => bank.ended.length === 1));
  expect(banks[0].bank.ended[0]).toContain('A wrong contract.');
  expect(await report()).toMatchObject({ state: 'aborted', reason: expect.stringContaining('A wrong contract.') });
});

test('an aggregator that is not there is named', async () => {
  const url = 'https://127.0.0.1:1';
  await expect(planStatus({ roster, key: operator, planId: plan.id, url })).rejects.toMatchObject({
    ...{ code: 'AGGREGATOR_UNREACHABLE', where: url },
  });
});
