/**
 * A bank and the aggregator are killed with SIGKILL in the middle of the rounds and started again. Training has to end,
 * no ledger may be overspent, and every audit log has to verify. Real processes, databases and TLS; nothing is seeded.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { readEvaluation } from '../../src/learning/modelEvaluation.ts';
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

const BUDGET = { epsilon: 1.5, delta: 1e-6 };
const ROUNDS = 12;

let workspace: string;
let supervisor: Supervisor;

afterEach(async () => {
  await supervisor.stopAll();
  await rm(workspace, { recursive: true, force: true });
});

// The short version is secaggCrash.test.ts.
const long = process.env.VEILRISK_LONG === '1' ? test : test.skip;
long(
  'training survives SIGKILL of a bank and of the aggregator (npm run test:long)',
  async () => {
    workspace = await mkdtemp(join(tmpdir(), 'veilrisk-crash-'));
    const unexpected: unknown[] = [];
    supervisor = openSupervisor(workspace, (error) => unexpected.push(error));
    const { contract } = await readContract(DEMO_CONTRACT);
    const data = await prepareData({ contract, workspace, banks: 3, rows: 3000, seed: 7 });
    const consortium = await startConsortium({
      supervisor,
      workspace,
      contractFile: DEMO_CONTRACT,
      banks: data.banks.map(({ name, file }) => ({ name, trainingFile: file })),
      budget: BUDGET,
      minimumQuorum: 2,
    });
    const operator = await openOperator({
      roster: consortium.rosterFile,
      key: consortium.operatorKeyFile,
      url: consortium.aggregatorUrl,
    });
    const plan = writePlan(operator.roster, {
      ...{ contract, epsilon: 1, delta: 1e-6, expectedRows: 800, quorum: 2, rounds: ROUNDS, roundDeadlineMs: 4000 },
      evaluation: { holdout: 0.2, share: 0.2 },
    });
    const { planId } = await propose(operator, plan, contract);

    await roundReached(consortium, planId, 2);
    const [victim] = consortium.banks;
    victim.part.kill('SIGKILL');
    await victim.part.ended;
    await roundReached(consortium, planId, 4);
    consortium.aggregator.kill('SIGKILL');
    await consortium.aggregator.ended;
    await Promise.all([consortium.restartBank(victim), consortium.restartAggregator()]);

    expect(await endState(operator, planId)).toBe('completed');
    const signed = await publishedModel(operator, planId);
    await Promise.all(
      consortium.banks.map(({ part }) =>
        part.waitFor(({ event, hash }) => event === 'model' && hash === signed.evidence.modelHash, 30_000),
      ),
    );
    for (const bank of consortium.banks) {
      const ledger = await ledgerOf(bank);
      expect(ledger.spentMuSquared).toBeGreaterThan(0);
      expect(ledger.spentMuSquared).toBeLessThanOrEqual(ledger.budget.muSquared);
      await verifies(bank);
    }
    const evaluation = readEvaluation(signed.evidence.evaluation);
    expect(evaluation.result?.sites.length).toBeGreaterThanOrEqual(2);
    // The bank that stayed up was in every round; the killed one came back for the last ones and the evaluation.
    const [killed, stayed] = [await ledgerOf(victim), await ledgerOf(consortium.banks[1])];
    expect(committedRounds(stayed)).toBeGreaterThanOrEqual(ROUNDS);
    expect(Math.max(...killed.releases.filter(({ state }) => state === 'committed').map(({ round }) => round))).toBe(
      ROUNDS + 1,
    );
    expect(unexpected).toEqual([]);
  },
  300_000,
);

async function roundReached(consortium: Consortium, plan: string, round: number): Promise<void> {
  await consortium.aggregator.waitFor(
    (e) => e.event === 'round' && e.plan === plan && Number(e.round) >= round,
    60_000,
  );
}

async function endState(operator: Operator, planId: string): Promise<string> {
  const deadline = performance.now() + 90_000;
  for (;;) {
    const report = await planProgress(operator, planId).catch(() => null);
    if (report?.state === 'completed' || report?.state === 'aborted') return report.state;
    if (performance.now() > deadline) return report?.state ?? 'unreachable';
    await new Promise((done) => setTimeout(done, 200));
  }
}

async function ledgerOf(bank: Bank): Promise<Ledger> {
  const output = await supervisor.run(`${bank.name}-ledger`, [
    'privacy',
    'ledger',
    '--data-dir',
    bank.dataDir,
    '--json',
  ]);
  return (JSON.parse(output) as Ledger[])[0];
}

function committedRounds(ledger: Ledger): number {
  return ledger.releases.filter(({ state }) => state === 'committed').length;
}

async function verifies(bank: Bank): Promise<void> {
  const file = join(workspace, `${bank.name}.log.export`);
  await supervisor.run(`${bank.name}-export`, ['audit', 'export', '--data-dir', bank.dataDir, '--out', file]);
  await supervisor.run(`${bank.name}-verify`, ['audit', 'verify', file]);
}
