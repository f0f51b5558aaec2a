/** Plans that wait for a person: decided once, in any process, and only while policy and budget still bear them. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { registerTrain } from '../../src/commands/train.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { decidePlan, listOffers } from '../../src/operations/planAnswers.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import { openBudget } from '../../src/privacy/budget.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';
import { auditEntries } from './audit.ts';
import { contract, openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const ROSTER = { sites: 3, minimumQuorum: 2 };
let folder: string;
let node: TestNode;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-answers-'));
  const opened = await openTestNode(await postgres.freshDatabase());
  node = {
    ...opened,
    budget: openBudget(2, 1e-6),
    participation: { ...opened.participation, answers: 'manual' },
  };
  const path = join(folder, 'bank.csv');
  await writeFile(path, [...simulateTransactions({ seed: 7, bank: 'a', rows: 200, fraudRate: 0.05 })].join('\n'));
  await importRecords(node, { contractFile: await readContract('demo-transactions'), path });
});

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await node.close();
  await rm(folder, { recursive: true, force: true });
});

let plans = 0;
const planWith = (changes: Partial<TrainingPlan> = {}): TrainingPlan => ({
  ...defaultPlan({
    ...{ contract, epsilon: 1, delta: 1e-6, sites: 3, quorum: 3, expectedRows: 600, mode: 'sum', colluders: 1 },
    id: `offered-${plans++}`,
  }),
  ...changes,
});

/** What a node that was just started answers. */
const ask = (plan: TrainingPlan) =>
  openParticipantPort(node, ROSTER, () => {}).answerPlan(plan, planHash(plan), contract);

async function entriesOf(work: () => Promise<unknown>) {
  const before = (await node.store.audit.head()).size;
  await work();
  return (await auditEntries(node, before, 100)).map(({ body: { type, actor, outcome, reasonCodes } }) => ({
    ...{ type, actor, outcome, reasonCodes },
  }));
}

/** `veilrisk train ...` on the node, in this process; what it printed. */
async function run(...args: string[]): Promise<string> {
  let out = '';
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text;
    return true;
  });
  const program = new Command('veilrisk').exitOverride();
  registerTrain(program, {}, async () => ({ ...node, close: async () => {} }));
  await program.parseAsync(['train', ...args, '--data-dir', 'the node'], { from: 'user' });
  jest.restoreAllMocks();
  return out;
}

test('a plan within the policy waits, is listed with what it costs, and is accepted by a person', async () => {
  const plan = planWith();
  const entries = await entriesOf(async () => {
    for (let again = 0; again < 3; again++) expect(await ask(plan)).toEqual({ accepted: null });
  });
  expect(entries).toEqual([{ type: 'plan.offered', actor: 'operator', outcome: 'waiting', reasonCodes: [] }]);
  const [offer] = await listOffers(node);
  expect(offer).toMatchObject({ planId: plan.id, planHash: planHash(plan), dataset: 'demo-transactions' });
  const listed = (await run('offers')).replace(/\s+/g, ' ');
  expect(listed).toContain(plan.id);
  expect(listed).toContain('against the aggregator together with 1 colluding bank');
  expect(listed).toContain('trust mode sum, 3 banks');
  expect(JSON.parse(await run('offers', '--json'))).toHaveLength(1);
  // Nothing is released while it waits.
  const waiting = await node.store.plans.find(plan.id);
  expect(waiting?.state).toBe('offered');

  const decided = await entriesOf(async () => expect(await run('accept', plan.id)).toBe(`plan ${plan.id} accepted\n`));
  expect(decided).toEqual([{ type: 'plan.answered', actor: 'administrator', outcome: 'accepted', reasonCodes: [] }]);
  expect(await ask(plan)).toEqual({ accepted: true });
  expect(await run('offers')).toBe('no plan waits\n');
  await expect(decidePlan(node, plan.id, { accept: true })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a plan is refused by a person with a reason the operator reads', async () => {
  const plan = planWith();
  await ask(plan);
  const entries = await entriesOf(() => run('accept', plan.id, '--refuse', '--reason', 'Not before the audit.'));
  expect(entries).toMatchObject([{ type: 'plan.answered', outcome: 'refused', reasonCodes: ['PLAN_DECLINED'] }]);
  expect(await ask(plan)).toEqual({ accepted: false, code: 'PLAN_DECLINED', reason: 'Not before the audit.' });
});

test('a plan that ends while it waits is never accepted', async () => {
  const plan = planWith();
  const port = openParticipantPort(node, ROSTER, () => {});
  await port.answerPlan(plan, planHash(plan), contract);
  await port.planEnded(plan.id, 'aborted', 'The operator ended the plan.');
  await expect(decidePlan(node, plan.id, { accept: true })).rejects.toThrow('is aborted and waits for nobody');
  expect(await ask(plan)).toMatchObject({ accepted: false, code: 'PLAN_STATE' });
  await expect(decidePlan(node, 'never-seen', { accept: true })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a plan outside the policy is refused without asking anybody', async () => {
  expect(await ask(planWith({ epsilon: 50 }))).toMatchObject({ accepted: false, code: 'POLICY_EPSILON' });
  expect(await listOffers(node)).toEqual([]);
});

test('a plan that the policy would refuse by now goes on waiting', async () => {
  const plan = planWith();
  await ask(plan);
  const stricter = { ...node, participation: { ...node.participation, maximumEpsilonPerPlan: 0.5 } };
  await expect(decidePlan(stricter, plan.id, { accept: true })).rejects.toMatchObject({
    ...{ code: 'PLAN_REFUSED', message: expect.stringContaining('POLICY_EPSILON') },
  });
  expect(await ask(plan)).toEqual({ accepted: null });
  await decidePlan(stricter, plan.id, { accept: false, reason: 'Too dear.' });
});

test('of two decisions at once one counts', async () => {
  const plan = planWith();
  await ask(plan);
  const decisions = [{ accept: true as const }, { accept: false as const, reason: 'No.' }];
  const outcomes = await Promise.allSettled(decisions.map((decision) => decidePlan(node, plan.id, decision)));
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
});
