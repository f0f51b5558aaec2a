/**
 * The main job, end to end, on real parts: data through the contract, federated rounds under differential privacy, the
 * signed model at every bank, scores in the clear and encrypted, refusals, and the audit logs verified offline.
 */
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { contractHash } from '../../contract/contract.ts';
import { RequestError } from '../../errors.ts';
import { parsePlan } from '../../learning/plan.ts';
import { parseScorecard } from '../../learning/scorecard.ts';
import { privacyStatement } from '../../learning/statement.ts';
import { systemRandom } from '../../random.ts';
import { readContract } from '../contracts.ts';
import {
  describeEvaluation,
  describePlan,
  openOperator,
  planProgress,
  propose,
  publishedModel,
  writePlan,
} from '../trainingPlans.ts';
import { aucOn, bounded, computeBaselines, readLabelled } from './baselines.ts';
import { type Consortium, startConsortium } from './consortium.ts';
import { prepareData } from './data.ts';
import { stageOutage } from './outage.ts';
import { type DemoScores, scoreEverything } from './scoring.ts';
import { openSupervisor } from './supervisor.ts';
import { verifyLogs } from './verification.ts';
import { bar, type DemoView } from './view.ts';

export interface DemoOptions {
  data?: string;
  contract?: string;
  banks: number;
  rows: number;
  epsilon: number;
  delta: number;
  seed: number;
  keep?: boolean;
  signal: AbortSignal;
}

/** The shape of `--json`. */
export interface DemoResult {
  seconds: number;
  epsilon: number;
  delta: number;
  rounds: number;
  /** Epsilon at delta of one bank's customer: against who reads its messages, and against readers of the model. */
  losses: { aggregator: number; readers: number };
  banks: { name: string; aucAlone: number }[];
  aucFederated: number;
  aucPooledNonPrivate: number;
  encrypted: DemoScores['encrypted'];
  latencyMs: DemoScores['latencyMs'];
  audit: { entries: number; verified: number };
}

/** Name of the published contract of the simulator's transactions. */
export const DEMO_CONTRACT = 'demo-transactions';
const TRAINING_TIMEOUT_MS = 120_000;
const POLL_MS = 100;
// How long the others wait for the bank that is killed.
const ROUND_DEADLINE_MS = 5_000;
// Little of the model is given for it: the demo shows the evaluation at work. At epsilon 1 its noise hides the AUC of an
// event as rare as fraud, and the evaluation says so.
const EVALUATION = { holdout: 0.1, share: 0.1 };

/** @returns null when `signal` ended the demo. @throws the first failure of any part, with its last log lines. */
export async function runDemo(options: DemoOptions, view: DemoView): Promise<DemoResult | null> {
  const workspace = await mkdtemp(join(tmpdir(), 'veilrisk-demo-'));
  const keepsakes = resolve('.veilrisk/demo');
  await rm(keepsakes, { recursive: true, force: true });
  await mkdir(keepsakes, { recursive: true });

  let fail: (error: unknown) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  const supervisor = openSupervisor(workspace, fail);
  const aborted = new Promise<null>((done) => {
    if (options.signal.aborted) done(null);
    else options.signal.addEventListener('abort', () => done(null), { once: true });
  });
  let finished = false;
  try {
    const work = mainJob();
    // Whichever ends first decides; the losers' rejections are the consequence of stopping and not failures.
    work.catch(() => {});
    failed.catch(() => {});
    const result = await Promise.race([work, failed, aborted]);
    finished = result !== null;
    return result;
  } finally {
    if (!finished)
      view.text(['', options.signal.aborted ? 'Stopping everything.' : `A part failed; all logs are in ${workspace}`]);
    await supervisor.stopAll();
    if (finished || options.signal.aborted) await rm(workspace, { recursive: true, force: true });
  }

  async function mainJob(): Promise<DemoResult> {
    const started = performance.now();
    const { contract, path: contractFile } = await readContract(options.contract ?? DEMO_CONTRACT);
    const m = contract.maxRecordsPerSubject;

    view.step(options.data ? `Split ${options.data} over ${options.banks} banks` : 'Simulate card transactions');
    const data = await prepareData({ ...options, contract, workspace });
    for (const bank of data.banks) view.note(`${bank.name}: ${bank.rows.toLocaleString('en')} rows to train on`);
    view.note(
      `${data.holdoutRows.toLocaleString('en')} rows held out, of other customers${contract.synthetic ? '; all data is synthetic' : ''}`,
    );

    view.step('Start the aggregator and the banks, each with its own keys and database');
    const consortium = await startConsortium({
      supervisor,
      workspace,
      contractFile,
      banks: data.banks.map(({ name, file }) => ({ name, trainingFile: file })),
      budget: { epsilon: options.epsilon, delta: options.delta },
      minimumQuorum: Math.ceil((2 * options.banks) / 3),
      onImported: (bank, { accepted, rejected }) =>
        view.note(`${bank}: ${accepted.toLocaleString('en')} rows imported through the contract, ${rejected} rejected`),
    });

    view.step('Train one scorecard together');
    const operator = await openOperator({
      roster: consortium.rosterFile,
      key: consortium.operatorKeyFile,
      url: consortium.aggregatorUrl,
    });
    const expectedRows = data.banks.reduce((sum, { rows }) => sum + rows, 0);
    const wishes = {
      ...{ contract, epsilon: options.epsilon, delta: options.delta, expectedRows, evaluation: EVALUATION },
      roundDeadlineMs: ROUND_DEADLINE_MS,
    };
    const plan = parsePlan(writePlan(operator.roster, wishes));
    for (const line of describePlan(plan)) view.note(line);
    const { planId } = await propose(operator, plan, contract);
    const last = consortium.banks[consortium.banks.length - 1];
    const mayDrop = plan.mode === 'sum' ? plan.dropouts > 0 : plan.quorum < plan.sites;
    const outage = mayDrop
      ? stageOutage(consortium, last, { planId, round: Math.ceil(plan.rounds / 3), view })
      : { over: Promise.resolve() };
    const signed = await follow(planId, plan.rounds);
    await outage.over;
    const model = parseScorecard(signed.model, contract);
    await writeFile(join(keepsakes, 'model.json'), `${JSON.stringify(signed, null, 2)}\n`);
    await copyFile(consortium.rosterFile, join(keepsakes, 'roster.json'));
    view.note(`model ${signed.evidence.modelHash.slice(0, 16)}… signed by the aggregator`);
    await Promise.all(
      consortium.banks.map(({ part }) =>
        part.waitFor(({ event, hash }) => event === 'model' && hash === signed.evidence.modelHash, TRAINING_TIMEOUT_MS),
      ),
    );
    for (const line of describeEvaluation(signed)) view.note(line);
    view.note(`adopted by ${consortium.banks.length} of ${consortium.banks.length} banks`);

    view.step('Score held-out transactions over REST, in the clear and encrypted');
    const scores = await scoreEverything({
      ...{ consortium, supervisor, contract, model, view },
      holdoutFile: data.holdoutFile,
    });

    view.step('Propose the same training again: the budget is spent');
    const second = await propose(operator, writePlan(operator.roster, wishes), contract);
    const refusal = await ended(second.planId);
    for (const answer of refusal.answers) view.note(`${answer.site}: ${answer.code} ${answer.reason}`);
    if (!refusal.answers.every(({ accepted, code }) => !accepted && code === 'BUDGET_EXHAUSTED')) {
      throw new RequestError('INTERNAL', 'a bank did not refuse the plan its budget cannot pay', { where: 'step 5' });
    }

    view.step('Verify the logs of banks and aggregator offline');
    const audit = await verifyLogs({ consortium, supervisor, keepsakes, quorum: plan.quorum, view });

    view.step('Compare with what was possible alone and without privacy');
    const test = (await readLabelled(contract, data.holdoutFile)).data;
    const training = await Promise.all(
      data.banks.map(async ({ file }) => bounded(await readLabelled(contract, file), m)),
    );
    const baselines = computeBaselines(contract, plan, training, test, systemRandom());

    const { losses } = privacyStatement(plan);
    const result: DemoResult = {
      seconds: (performance.now() - started) / 1000,
      epsilon: options.epsilon,
      delta: options.delta,
      rounds: plan.rounds,
      losses: { aggregator: losses.aggregator.epsilon, readers: losses.readers.epsilon },
      banks: data.banks.map(({ name }, i) => ({ name, aucAlone: baselines.aucAlone[i] })),
      aucFederated: aucOn(model, test),
      aucPooledNonPrivate: baselines.aucPooledNonPrivate,
      encrypted: scores.encrypted,
      latencyMs: scores.latencyMs,
      audit,
    };
    view.table(result);
    view.text(whereToLook(keepsakes, contractHash(contract)));
    if (options.keep) {
      view.text(['', 'Everything is still running; Ctrl-C stops it.', ...addresses(consortium, scores.apiKeys)]);
      await aborted;
    }
    return result;

    async function follow(id: string, of: number) {
      consortium.aggregator.onEvent((event) => {
        if (event.event === 'round' && event.plan === id) {
          // The round after the last gradient is the evaluation.
          const round = Math.min(Number(event.round), of);
          view.progress(`${bar(round, of)} rounds, ${event.contributions} banks, ${event.ms} ms`);
        }
      });
      const report = await ended(id);
      if (report.state !== 'completed') {
        const refusals = report.answers
          .filter(({ accepted }) => !accepted)
          .map(({ site, code, reason }) => `${site}: ${code} ${reason}`);
        throw new RequestError(
          'INTERNAL',
          `training ended as ${report.state}: ${report.reason} ${refusals.join('; ')}`,
        );
      }
      view.note(`${of} rounds, ${report.contributions} banks in the last one`);
      return publishedModel(operator, id);
    }

    async function ended(id: string) {
      const deadline = performance.now() + TRAINING_TIMEOUT_MS;
      for (;;) {
        const report = await planProgress(operator, id);
        if (report.state === 'completed' || report.state === 'aborted') return report;
        if (performance.now() > deadline) {
          throw new RequestError('INTERNAL', `training stood in state ${report.state}, round ${report.round}`);
        }
        await new Promise((done) => setTimeout(done, POLL_MS));
      }
    }
  }
}

function whereToLook(keepsakes: string, hash: string): string[] {
  return [
    '',
    'Where to look next',
    `  ${keepsakes}   model, roster, and each bank's audit log with its key; check one yourself:`,
    '  npm run veilrisk -- audit verify .veilrisk/demo/bank-a.log --key "$(cat .veilrisk/demo/bank-a.vkey)"',
    '  npm run demo -- --keep   leave it running and call the REST API',
    `  README.md   the parts, goals and known limitations (contract ${hash.slice(0, 16)}…)`,
  ];
}

function addresses(consortium: Consortium, apiKeys: ReadonlyMap<string, string>): string[] {
  return [
    `  aggregator  ${consortium.aggregatorUrl}  (gRPC; roster ${consortium.rosterFile})`,
    ...consortium.banks.map(({ name, url }) => `  ${name}  ${url}/openapi.json  API key ${apiKeys.get(name)}`),
  ];
}
