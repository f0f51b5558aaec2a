/** What a node says to a plan: the answer it gives, what it records of a refusal, and `veilrisk plan`, which records nothing. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { registerPlan } from '../../src/commands/plan.ts';
import { type Contract, contractHash } from '../../src/contract/contract.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { nodeOpinion, reviewPlan } from '../../src/operations/planReview.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import { epsilonOf, openBudget } from '../../src/privacy/budget.ts';
import { sumUp } from '../../src/privacy/gdp.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';
import { auditEntries } from './audit.ts';
import { contract, openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const ROSTER = { sites: 3, minimumQuorum: 2 };
let folder: string;
let node: TestNode;
let elsewhere: Contract;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-review-'));
  const opened = await openTestNode(await postgres.freshDatabase());
  node = {
    ...opened,
    budget: openBudget(2, 1e-6),
    participation: { ...opened.participation, minimumParticipants: 2, maximumEpsilonPerPlan: 3 },
  };
  const path = join(folder, 'bank.csv');
  await writeFile(path, [...simulateTransactions({ seed: 7, bank: 'a', rows: 200, fraudRate: 0.05 })].join('\n'));
  await importRecords(node, { contractFile: await readContract('demo-transactions'), path });
  elsewhere = (await readContract('telco')).contract;
  // A data set that never got a budget, as after a restore in part.
  const { contract: bare } = await readContract('taiwan');
  await node.store.transaction((tx) =>
    tx.datasets.create({ name: 'bare', contractHash: contractHash(bare), contract: bare }),
  );
});

afterEach(() => {
  jest.restoreAllMocks();
  process.exitCode = 0;
});
afterAll(async () => {
  await node.close();
  await rm(folder, { recursive: true, force: true });
});

let plans = 0;
function planWith(changes: Partial<TrainingPlan> = {}, of: Contract = contract): TrainingPlan {
  const base = defaultPlan({ contract: of, epsilon: 1, delta: 1e-6, sites: 3, quorum: 2, expectedRows: 600 });
  return { ...base, id: `plan-${plans++}`, ...changes };
}

/** Fits three banks and the default floors. */
const SUM: Partial<TrainingPlan> = {
  ...{ mode: 'sum', quorum: 3, dropouts: 0, colluders: 1, threshold: 3, ringBits: 32, ringShift: 8 },
};

const REFUSALS: [string, () => Promise<{ plan: TrainingPlan; of: Contract }>][] = [
  ['POLICY_THRESHOLD', async () => ({ plan: planWith({ ...SUM, threshold: 2 }), of: contract })],
  ['POLICY_COLLUDERS', async () => ({ plan: planWith({ ...SUM, colluders: 0 }), of: contract })],
  ['POLICY_ROSTER', async () => ({ plan: planWith({ sites: 4 }), of: contract })],
  ['POLICY_PARTICIPANTS', async () => ({ plan: planWith({ quorum: 1 }), of: contract })],
  ['POLICY_EPSILON', async () => ({ plan: planWith({ epsilon: 3.5 }), of: contract })],
  ['POLICY_DELTA', async () => ({ plan: planWith({ delta: 1e-3 }), of: contract })],
  ['PLAN_MISMATCH', async () => ({ plan: planWith({ maxRecordsPerSubject: 2 }), of: contract })],
  ['PLAN_MISMATCH', async () => ({ plan: planWith({ fields: 3 }), of: contract })],
  ['PLAN_MISMATCH', async () => ({ plan: planWith({ contractHash: 'a'.repeat(64) }), of: contract })],
  ['NO_DATA', async () => ({ plan: planWith({}, elsewhere), of: elsewhere })],
  [
    'NO_BUDGET',
    async () => {
      const { contract: bare } = await readContract('taiwan');
      return { plan: planWith({}, bare), of: bare };
    },
  ],
  ['BUDGET_EXHAUSTED', async () => ({ plan: planWith({ epsilon: 2.5 }), of: contract })],
];

describe('a plan that is refused', () => {
  test.each(REFUSALS)('with %s: the node and veilrisk plan agree, and one entry is recorded', async (code, make) => {
    const { plan, of } = await make();
    const roster = code === 'POLICY_PARTICIPANTS' ? { sites: 3, minimumQuorum: 1 } : ROSTER;
    const before = (await node.store.audit.head()).size;
    const opinion = await nodeOpinion(node, roster, plan, of);
    expect(opinion).toMatchObject({ accepted: false, code, node: 'bank-a' });
    expect(await node.store.plans.find(plan.id)).toBeNull();
    expect((await node.store.audit.head()).size).toBe(before);

    const port = openParticipantPort(node, roster, () => {});
    for (let ask = 0; ask < 3; ask++) {
      expect(await port.answerPlan(plan, planHash(plan), of)).toMatchObject({ accepted: false, code });
    }
    // A restart answers from the database.
    const again = openParticipantPort(node, roster, () => {});
    expect(await again.answerPlan(plan, planHash(plan), of)).toMatchObject({ accepted: false, code });
    expect((await auditEntries(node, before, 100)).map(({ body }) => body)).toEqual([
      expect.objectContaining({
        ...{ type: 'plan.answered', outcome: 'refused', reasonCodes: [code] },
        details: expect.objectContaining({ planId: plan.id, planHash: planHash(plan), epsilon: plan.epsilon }),
      }),
    ]);
  });

  test('tells the aggregator nothing about what was spent before, and its own bank all', async () => {
    const plan = planWith({ epsilon: 2.5 });
    const { verdict, internal } = await reviewPlan(node, ROSTER, plan, contract);
    expect(verdict).toMatchObject({ reason: 'The bank cannot pay epsilon 2.5 at delta 0.000001 for this plan.' });
    expect(internal).toContain('of 2 is already spent');
  });

  test('of a bank that wants no sums is refused for its mode', async () => {
    const careful = { ...node, participation: { ...node.participation, modes: ['site' as const] } };
    expect(await nodeOpinion(careful, ROSTER, planWith(SUM), contract)).toMatchObject({ code: 'POLICY_MODE' });
    expect(await nodeOpinion(node, ROSTER, planWith(SUM), contract)).toMatchObject({ accepted: true });
  });

  test('another plan under the id of an answered one is refused, with one entry', async () => {
    const plan = planWith();
    const port = openParticipantPort(node, ROSTER, () => {});
    expect(await port.answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
    const before = (await node.store.audit.head()).size;
    for (const rounds of [7, 8, 9]) {
      const other = { ...plan, rounds };
      expect(await port.answerPlan(other, planHash(other), contract)).toMatchObject({ code: 'PLAN_STATE' });
    }
    expect((await auditEntries(node, before, 100)).map(({ body }) => body)).toEqual([
      expect.objectContaining({ type: 'plan.refuse', reasonCodes: ['PLAN_STATE'] }),
    ]);
    expect((await node.store.plans.find(plan.id))?.hash).toBe(planHash(plan));
  });
});

/** Runs `veilrisk plan` on the node; gives what it printed and its exit code. */
async function run(...args: string[]): Promise<{ out: string; err: string; code: unknown }> {
  const printed = { out: '', err: '' };
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed.out += text;
    return true;
  });
  jest.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed.err += text;
    return true;
  });
  const program = new Command('veilrisk').exitOverride();
  registerPlan(program, async () => ({ ...node, close: async () => {} }));
  for (const command of program.commands) command.exitOverride();
  process.exitCode = 0;
  await program.parseAsync(['plan', ...args], { from: 'user' });
  const code = process.exitCode;
  process.exitCode = 0;
  jest.restoreAllMocks();
  return { ...printed, code };
}

describe('veilrisk plan', () => {
  test('states every release, with the sums the ledger will book', async () => {
    const { out, code } = await run('--contract', 'demo-transactions', '--sites', '3', '--rounds', '4', '--json');
    const { plan, planHash: hash, statement } = JSON.parse(out);
    expect(code).toBe(0);
    expect(hash).toBe(planHash(plan));
    const { releases, losses } = privacyStatement(plan);
    expect(statement.releases.map(({ name }: { name: string }) => name)).toEqual(releases.map(({ name }) => name));
    expect(statement.releases.map(({ muSquared }: { muSquared: number }) => muSquared)).toEqual(
      releases.map(({ muSquared }) => muSquared),
    );
    expect(statement.losses).toEqual(losses);
    // Cumulative epsilon never falls, ends at the loss of the plan, and that is within what was asked.
    const soFar = statement.releases.map(({ epsilon }: { epsilon: number }) => epsilon);
    expect(soFar).toEqual([...soFar].sort((a, b) => a - b));
    expect(soFar.at(-1)).toBe(losses.aggregator.epsilon);
    expect(statement.releases.at(-1).readersEpsilon).toBe(losses.readers.epsilon);
    expect(losses.aggregator.epsilon).toBeLessThanOrEqual(1);
    expect(soFar[1]).toBe(epsilonOf(sumUp(releases.slice(0, 2).map(({ muSquared }) => muSquared)), plan.delta));
  });

  test('states both losses of mode sum, and what is not promised', async () => {
    const { out } = await run(
      ...['--contract', 'taiwan', '--mode', 'sum', '--sites', '5', '--colluders', '1', '--dropouts', '1'],
      ...['--rounds', '3', '--no-evaluation'],
    );
    expect(out.replace(/\s+/g, ' ')).toContain('against the aggregator together with 1 colluding bank');
    expect(out).toMatch(/epsilon 0\.8\d+ .* against readers of the model/);
    expect(out).toContain('one customer of one bank with all records, at most 1 of which counts');
    expect(out).toContain('not promised:\n  - anything against who reads the message of a single bank');
    expect(out).toMatch(/│ round-2 \.\. 3 +│.* 1\.0000 /);
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
  });

  test('every release has a line when asked, in integers and in records', async () => {
    const { out } = await run('--contract', 'taiwan', '--rounds', '3', '--releases');
    for (const name of ['counts', 'round-1', 'round-2', 'round-3', 'evaluation']) expect(out).toContain(`│ ${name} `);
    // 23 fields, residuals up to 0.6, a grid of 2^-14 and knots in eighths.
    expect(out).toMatch(/│ counts +│ +38\.3667 │ +\S+ │ +4\.79583 │/);
    expect(out).toMatch(/│ evaluation +│ +1 │ +(\S+) │ +1 │ +\1 │/);
  });

  test.each([
    ['logistic', 'every record is in each of the '],
    ['adassp', '│ crosses '],
  ])('states a training of %s', async (family, line) => {
    const { out } = await run('--contract', 'adult', '--family', family, '--rows', '26048', '--sites', '1');
    expect(out).toContain(line);
    expect(out).toContain('epsilon 1.0000 at delta 1e-6');
    expect(out).toContain('one record: the contract names no customer key');
  });

  test.each(['logistic', 'adassp'])('states whom mode sum of %s is not promised against', async (family) => {
    const { out } = await run(
      ...['--contract', 'adult', '--family', family, '--rows', '26048', '--mode', 'sum', '--sites', '5'],
      ...['--colluders', '2', '--dropouts', '1', '--json'],
    );
    const { losses, notPromised } = JSON.parse(out).statement;
    expect(losses.aggregator.against).toBe('the aggregator together with 2 colluding banks');
    expect(losses.readers.epsilon).toBeLessThan(losses.aggregator.epsilon);
    expect(losses.readers.against).toContain('4 banks');
    expect(notPromised[0]).toMatch(/no more than 2 colluding banks$/);
  });

  test('with a node: accepted within the budget, refused beyond it or against its policy, and nothing is recorded', async () => {
    const before = (await node.store.audit.head()).size;
    const common = ['--contract', 'demo-transactions', '--sites', '3', '--data-dir', 'the node'];
    const accepted = await run(...common, '--epsilon', '1.9');
    expect(accepted).toMatchObject({ code: 0, err: '' });
    expect(accepted.out).toContain('node bank-a: would take part');
    const dense = await run(...common, '--epsilon', '1.9', '--family', 'logistic', '--strategy', 'fedavg');
    expect(dense).toMatchObject({ code: 0, err: '' });
    expect(dense.out).toMatch(/logistic, trust mode sum[\s\S]*round-1 \.\. 50[\s\S]*node bank-a: would take part/);
    const exhausted = await run(...common, '--epsilon', '2.1');
    expect(exhausted.code).toBe(1);
    expect(exhausted.err).toMatch(/^error BUDGET_EXHAUSTED: the release costs epsilon 2\.0\d+ at delta/);
    const policy = await run(...common, '--epsilon', '4', '--json');
    expect(policy).toMatchObject({ code: 1, err: expect.stringMatching(/^error POLICY_EPSILON: /) });
    expect(JSON.parse(policy.out).node).toMatchObject({
      ...{ accepted: false, code: 'POLICY_EPSILON', dataset: 'demo-transactions' },
      budget: { epsilon: 2, delta: 1e-6, spentEpsilon: 0 },
    });
    // A plan file needs no contract where the node has the data.
    const file = join(folder, 'plan.json');
    await writeFile(file, JSON.stringify(planWith()));
    expect(await run('--plan', file, '--data-dir', 'the node')).toMatchObject({ code: 0, err: '' });
    expect((await node.store.audit.head()).size).toBe(before);
    expect((await node.store.plans.list()).filter(({ state }) => state === 'accepted')).toHaveLength(1);
  });

  test.each([
    [['--epsilon', '1'], 'a contract is needed'],
    [['--contract', 'adult', '--family', 'adassp', '--data-dir', 'x'], 'scorecard, logistic and mlp plans only'],
    [['--contract', 'adult', '--family', 'mlp', '--mode', 'site', '--colluders', '1'], 'are for mode sum only'],
    [['--contract', 'adult', '--family', 'adassp', '--sites', '2', '--dropouts', '1'], 'are for mode sum only'],
    [['--contract', 'adult', '--mode', 'site', '--colluders', '1'], 'are for mode sum only'],
  ])('refuses %j', async (args, message) => {
    await expect(run(...args)).rejects.toThrow(message);
    jest.restoreAllMocks();
  });
});
