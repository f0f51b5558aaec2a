/**
 * `veilrisk simulate-federation`: an experiment from its settings to its figures.
 *
 * Limit: for researchers and operators who plan. Data is synthetic or the caller's own files, all of it in this process,
 * and its figures are exact: NOT private. The losses are those the plan would have at real banks.
 */
import type { Contract } from '../../contract/contract.ts';
import { RequestError } from '../../errors.ts';
import { courseFor } from '../../learning/course.ts';
import { auc } from '../../learning/evaluation.ts';
import { type FederatedPlan, statementOf } from '../../learning/federatedPlan.ts';
import { defaultPlan, parsePlan, type TrainingPlan, thresholdOf } from '../../learning/plan.ts';
import { type DenseModel, denseLogits } from '../../learning/sgd/model.ts';
import { defaultDensePlan, type StrategyKind } from '../../learning/sgd/plan.ts';
import { type AdditiveModel, logitsOf } from '../../learning/site.ts';
import { seededRandom } from '../../simulator/random.ts';
import { readContract } from '../contracts.ts';
import { type FederationData, fileData, simulatedData } from './data.ts';
import { randomSchedule } from './faults.ts';
import { type FederationOutcome, type RoundOutcome, runFederation } from './simulate.ts';
import { courseWorkload, vectorWorkload, type Workload } from './workload.ts';

export type { RoundOutcome } from './simulate.ts';

export interface ExperimentSettings {
  sites: number;
  mode: TrainingPlan['mode'];
  /** Chance that a site drops out of a round, and that a party's process is started anew in it. */
  drop: number;
  restart: number;
  rounds: number;
  colluders: number;
  /** Sites that may be absent; by default as many as the threshold against a lying aggregator leaves. */
  dropouts?: number | undefined;
  /** Default: 32 for scorecards and vectors, what a dense plan takes for others. */
  ringBits?: number | undefined;
  /** Default `scorecard`. */
  family?: FederatedPlan['family'] | undefined;
  /** Families but scorecards. */
  strategy?: StrategyKind | undefined;
  epsilon: number;
  delta: number;
  /** Sum vectors of so many coordinates instead of training. */
  dimension?: number | undefined;
  contract: string;
  /** CSV files; none: synthetic transactions, `rows` of each bank, by default 200,000 of all. */
  data: string[];
  rows?: number | undefined;
  delayMs: number;
  deadlineMs: number;
  loss: number;
  duplicate: number;
  reorder: number;
  /** Masked sums of one set-up of keys. */
  slots: number;
  seed: number;
}

export interface Experiment extends FederationOutcome {
  sites: number;
  quorum: number;
  threshold: number;
  /** On customers of all banks who trained nothing; null without a model. */
  auc: number | null;
  /** What the plan costs a customer; null when nothing is learnt. */
  losses: { aggregator: number; readers: number; delta: number } | null;
  /** Of all messages. */
  bytes: number;
  wallMs: number;
}

/** @throws RequestError USAGE, LearningError, ContractError. */
export async function runExperiment(
  settings: ExperimentSettings,
  onRound: (outcome: RoundOutcome) => void,
): Promise<Experiment> {
  checkSettings(settings);
  // Before data is read: a plan that cannot be is refused at once.
  standing(settings);
  const { sites, seed, slots, drop, restart, deadlineMs, delayMs, loss, duplicate, reorder } = settings;
  const prepared = settings.dimension === undefined ? await training(settings) : vectors(settings, settings.dimension);
  const { work, losses } = prepared;
  const began = performance.now();
  const outcome = await runFederation({
    ...{ work, seed, slots, onRound },
    weather: { delayMs, loss, duplicate, reorder },
    faults: randomSchedule({ drop, restart }, deadlineMs, seededRandom(seed, 'faults')),
  });
  const bytes = outcome.rounds
    .flatMap((round) => Object.values(round.bytes))
    .reduce((sum, { up, down }) => sum + up + down, 0);
  const { quorum, threshold } = work.terms;
  const wallMs = performance.now() - began;
  return { ...outcome, ...{ sites, quorum, threshold, auc: prepared.auc(), losses, bytes, wallMs } };
}

const ROWS_OF_ALL = 200_000;

interface Prepared {
  work: Workload;
  losses: Experiment['losses'];
  auc: () => number | null;
}

/** Quorum and threshold of a plan whose drop-outs are not given. */
function standing({ sites, mode, dropouts }: ExperimentSettings): { quorum: number; threshold: number } {
  const threshold = thresholdOf(sites, 'lying');
  const quorum = sites - (dropouts ?? Math.max(0, sites - threshold));
  if (mode === 'sum' && quorum < threshold) {
    throw usage('--dropouts', `With ${sites} sites at most ${sites - threshold} may be absent in mode sum.`);
  }
  return { quorum, threshold: mode === 'sum' ? threshold : 0 };
}

function vectors(settings: ExperimentSettings, dimension: number): Prepared {
  const { sites, mode, rounds, seed, deadlineMs, ringBits = 32 } = settings;
  const bits = mode === 'sum' ? ringBits : 0;
  const work = vectorWorkload({ sites, ...standing(settings), deadlineMs, dimension, bits, rounds, seed });
  return { work, losses: null, auc: () => null };
}

async function training(settings: ExperimentSettings): Promise<Prepared> {
  const { contract } = await readContract(settings.contract);
  const data = await dataOf(settings, contract);
  const expectedRows = data.banks.reduce((sum, { training: rows }) => sum + rows.rows, 0);
  const plan = planOf(settings, contract, expectedRows);
  const { losses } = statementOf(plan);
  const work = courseWorkload(courseFor(plan, contract), data.banks, settings.seed);
  return {
    work,
    losses: { aggregator: losses.aggregator.epsilon, readers: losses.readers.epsilon, delta: plan.delta },
    auc() {
      const finished = work.finished();
      if (finished === null) return null;
      // Safe (both): the document is the one of the plan's family.
      const logits =
        plan.family === 'scorecard'
          ? logitsOf(data.test, finished.document as AdditiveModel)
          : denseLogits(finished.document as DenseModel, data.test);
      return auc(logits, data.test.labels);
    },
  };
}

function planOf(settings: ExperimentSettings, contract: Contract, expectedRows: number): FederatedPlan {
  const { sites, mode, seed, rounds, epsilon, delta, colluders, ringBits, family = 'scorecard', strategy } = settings;
  const facts = {
    ...{ contract, epsilon, delta, sites, quorum: standing(settings).quorum, mode, expectedRows },
    ...(mode === 'sum' ? { colluders } : {}),
    ...{ roundDeadlineMs: settings.deadlineMs, id: `simulated-${seed}` },
  };
  if (family !== 'scorecard') return defaultDensePlan({ ...facts, family, strategy, rounds, bits: ringBits });
  if (strategy !== undefined) throw usage('--strategy', 'Scorecards have a course of their own, and no strategy.');
  return parsePlan({ ...defaultPlan({ ...facts, ringBits: ringBits ?? 32 }), rounds });
}

async function dataOf({ data, sites, rows, seed }: ExperimentSettings, contract: Contract): Promise<FederationData> {
  if (data.length === 0) {
    const each = rows ?? Math.max(2_000, Math.round(ROWS_OF_ALL / sites));
    return simulatedData(contract, { sites, rows: each, seed, holdout: 0 });
  }
  return fileData(contract, data, { sites, seed, holdout: 0 });
}

function checkSettings(settings: ExperimentSettings): void {
  const { sites, dimension, rounds, slots, delayMs, deadlineMs, rows, ringBits } = settings;
  const least = settings.mode === 'sum' ? 3 : 1;
  const rules: [string, boolean, string][] = [
    ['--sites', sites >= least && sites <= 100, `a whole number in ${least} .. 100`],
    ['--rounds', rounds >= 1 && rounds <= 500, 'a whole number in 1 .. 500'],
    ['--dimension', dimension === undefined || (dimension >= 1 && dimension <= 2 ** 20), 'in 1 .. 1,048,576'],
    ['--slots', slots >= 1 && slots <= 500, 'a whole number in 1 .. 500'],
    ['--rows', rows === undefined || (rows >= 50 && rows <= 1_000_000), 'in 50 .. 1,000,000'],
    ['--delay', delayMs >= 0, 'at least 0'],
    ['--deadline', deadlineMs >= 100 && deadlineMs <= 86_400_000, 'in 100 .. 86,400,000'],
    ['--ring-bits', ringBits === undefined || (ringBits >= 16 && ringBits <= 32), 'a whole number in 16 .. 32'],
  ];
  for (const name of ['drop', 'restart', 'loss', 'duplicate', 'reorder'] as const) {
    rules.push([`--${name}`, settings[name] >= 0 && settings[name] <= 1, 'a share in 0 .. 1']);
  }
  const wrong = rules.find(([, holds]) => !holds);
  if (wrong) throw usage(wrong[0], `It must be ${wrong[2]}.`);
}

function usage(where: string, message: string): RequestError {
  return new RequestError('USAGE', message, { where, fix: 'See veilrisk simulate-federation --help.' });
}
