/**
 * `kill -9` of a bank and of the aggregator in each step of a masked round: keys, shares, inputs, agreement, reveal. Every
 * plan has to end with a model that all banks adopt, no ledger may be overspent, no bank may be asked to open two sums of a
 * round, and every log has to verify. Real processes, databases and mutual TLS; nothing is seeded.
 *
 * Four cases run always; `VEILRISK_LONG=1` runs all ten.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Contract } from '../../src/contract/contract.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { type Bank, type Consortium, startConsortium } from '../../src/operations/demo/consortium.ts';
import { prepareData } from '../../src/operations/demo/data.ts';
import { DEMO_CONTRACT } from '../../src/operations/demo/run.ts';
import { openSupervisor, type Supervisor } from '../../src/operations/demo/supervisor.ts';
import type { Ledger } from '../../src/operations/ledger.ts';
import {
  type Operator,
  openOperator,
  planProgress,
  propose,
  publishedModel,
  writePlan,
} from '../../src/operations/trainingPlans.ts';

type Phase = 'keys' | 'shares' | 'inputs' | 'agreement' | 'reveal';
interface Case {
  victim: 'bank' | 'aggregator';
  phase: Phase;
  /** A killed bank's place is taken by its next process in an epoch of its own, as long as there are rounds left. */
  rounds: number;
}

const PHASES: readonly Phase[] = ['keys', 'shares', 'inputs', 'agreement', 'reveal'];
const ALWAYS = new Set(['bank inputs', 'bank reveal', 'aggregator shares', 'aggregator reveal']);
const isFull = process.env.VEILRISK_LONG === '1';
const CASES = (['bank', 'aggregator'] as const)
  .flatMap((victim) => PHASES.map((phase): Case => ({ victim, phase, rounds: victim === 'bank' ? 12 : 3 })))
  .filter(({ victim, phase }) => isFull || ALWAYS.has(`${victim} ${phase}`));
const EPSILON = 0.5;

let workspace: string;
let supervisor: Supervisor;
let consortium: Consortium;
let operator: Operator;
let contract: Contract;
const unexpected: unknown[] = [];
const models: string[] = [];

beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'veilrisk-secagg-crash-'));
  supervisor = openSupervisor(workspace, (error) => unexpected.push(error));
  ({ contract } = await readContract(DEMO_CONTRACT));
  const data = await prepareData({ contract, workspace, banks: 4, rows: 2000, seed: 7 });
  consortium = await startConsortium({
    ...{ supervisor, workspace, contractFile: DEMO_CONTRACT, minimumQuorum: 3 },
    banks: data.banks.map(({ name, file }) => ({ name, trainingFile: file })),
    budget: { epsilon: 4, delta: 1e-6 },
  });
  operator = await openOperator({
    ...{ roster: consortium.rosterFile, key: consortium.operatorKeyFile, url: consortium.aggregatorUrl },
  });
}, 120_000);

afterAll(async () => {
  await supervisor?.stopAll();
  await rm(workspace, { recursive: true, force: true });
}, 60_000);

test.each(CASES)(
  'a $victim that is killed while $phase are awaited: the plan ends with a model',
  async (each) => {
    const { victim, phase, rounds } = each;
    const plan = writePlan(operator.roster, {
      ...{ contract, epsilon: EPSILON, delta: 1e-6, expectedRows: 800, rounds, roundDeadlineMs: 4_000 },
    });
    expect(plan).toMatchObject({ mode: 'sum', sites: 4, quorum: 3, threshold: 3, colluders: 1, dropouts: 1 });
    const { aggregator } = consortium;
    const [bank] = consortium.banks;
    const killed = victim === 'bank' ? bank.part : aggregator;
    // In the very turn of the event loop that tells of the step.
    const struck = new Promise<void>((done) => {
      aggregator.onEvent((event) => {
        if (event.event !== 'phase' || event.plan !== plan.id || event.phase !== phase) return;
        killed.kill('SIGKILL');
        done();
      });
    });
    // Survivors are agreed on where somebody is missing.
    const missing = phase === 'agreement' ? consortium.banks[3] : null;
    if (missing !== null) {
      const { part } = missing;
      aggregator.onEvent((event) => {
        if (event.plan === plan.id && event.phase === 'inputs' && part === missing.part) part.kill('SIGKILL');
      });
    }
    await propose(operator, plan, contract);
    await within(60_000, `the step ${phase}`, struck);
    await killed.ended;
    await (victim === 'bank' ? consortium.restartBank(bank) : consortium.restartAggregator());
    if (missing !== null) await consortium.restartBank(missing);

    expect(await endState(plan.id)).toEqual({ state: 'completed', code: '' });
    const { modelHash } = (await publishedModel(operator, plan.id)).evidence;
    models.push(modelHash);
    await Promise.all(
      consortium.banks.map(({ part }) =>
        part.waitFor(({ event, hash }) => event === 'model' && hash === modelHash, 30_000),
      ),
    );
  },
  180_000,
);

test('afterwards no budget is overspent, no second sum was asked for, and every log verifies', async () => {
  expect(models).toHaveLength(CASES.length);
  expect(new Set(models).size).toBe(CASES.length);
  expect(unexpected).toEqual([]);
  const logs = await Promise.all(
    consortium.banks.map(async (bank) => ({ bank, ledger: await ledgerOf(bank), log: await verifiedLog(bank) })),
  );
  for (const { bank, ledger, log } of logs) {
    expect(ledger.plans).toHaveLength(CASES.length);
    for (const { epsilon, mode } of ledger.plans) {
      expect(mode).toBe('sum');
      // A release that was reserved when the bank was killed is paid for twice.
      const wasKilled = bank === consortium.banks[0] || (isFull && bank === consortium.banks[3]);
      if (!wasKilled) expect(epsilon).toBeLessThanOrEqual(EPSILON);
    }
    expect(ledger.spentMuSquared).toBeLessThanOrEqual(ledger.budget.muSquared);
    const opened = [...log.matchAll(/"type":"sum\.reveal"/g)].length;
    expect(opened).toBeGreaterThan(CASES.length);
    expect(log).not.toMatch(/RELEASE_REPLAYED/);
  }
  const file = join(workspace, 'aggregator.log.export');
  await supervisor.run('aggregator-export', [
    ...['aggregator', 'log', 'export', '--data-dir', join(workspace, 'aggregator'), '--out', file],
  ]);
  await supervisor.run('aggregator-verify', ['audit', 'verify', file]);
}, 120_000);

async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new TypeError(`${what} did not come in time`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function endState(planId: string): Promise<{ state: string; code: string }> {
  const deadline = performance.now() + 120_000;
  for (;;) {
    const report = await planProgress(operator, planId).catch(() => null);
    const { state, code } = report ?? { state: 'unreachable', code: '' };
    if (state === 'completed' || state === 'aborted' || performance.now() > deadline) return { state, code };
    await new Promise((done) => setTimeout(done, 200));
  }
}

async function ledgerOf({ name, dataDir }: Bank): Promise<Ledger> {
  const output = await supervisor.run(`${name}-ledger`, ['privacy', 'ledger', '--data-dir', dataDir, '--json']);
  return (JSON.parse(output) as Ledger[])[0];
}

/** The text of the exported log, after it was verified offline. */
async function verifiedLog({ name, dataDir }: Bank): Promise<string> {
  const file = join(workspace, `${name}.log.export`);
  await supervisor.run(`${name}-export`, ['audit', 'export', '--data-dir', dataDir, '--out', file]);
  await supervisor.run(`${name}-verify`, ['audit', 'verify', file]);
  return readFile(file, 'utf8');
}
