/**
 * Test AUC on the public data sets by the code of `veilrisk evaluate`, against the bars of the design and what others
 * have published.
 *
 * Each figure is the mean over 15 random splits, three times the five of `veilrisk evaluate`, because the mean of five
 * moves by more than the bars leave room for; the spread of one split stands below it. Published: Nori, Caruana, Bu,
 * Shen, Kulkarni, "Accuracy, Interpretability, and Differential Privacy via Explainable Boosting", ICML 2021
 * (ULB there: 8 times the data of this sample).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type EvaluationRequest, evaluate } from '../../src/operations/evaluation/evaluate.ts';
import type { EvaluationResult } from '../../src/operations/evaluation/results.ts';
import type { BenchmarkReport } from './report.ts';

const DATA = join(import.meta.dirname, '../../../shared/data');
const EPSILONS = [0.5, 1, 2, 4];
const TINY = [0.05, 0.1, 0.2];
const SPLITS = 15;

type Bars = readonly [number, number, number, number];

interface DataSet {
  name: string;
  file: string;
  /** One bank, or the sum over banks in mode `sum`, at EPSILONS. */
  bars: Bars;
  /** Five banks in mode `site`. */
  siteBars?: Bars;
  published?: Bars;
}

const DATA_SETS: readonly DataSet[] = [
  {
    name: 'adult',
    file: 'adult/adult.data.gz',
    bars: [0.893, 0.899, 0.903, 0.905],
    siteBars: [0.883, 0.892, 0.898, 0.902],
    published: [0.875, 0.883, 0.887, 0.889],
  },
  {
    name: 'telco',
    file: 'telco/telco.csv.gz',
    bars: [0.829, 0.835, 0.839, 0.842],
    published: [0.829, 0.835, 0.838, 0.839],
  },
  {
    name: 'ulb',
    file: 'ulb/creditcard_uniform_sample.csv.gz',
    bars: [0.956, 0.96, 0.963, 0.965],
    published: [0.966, 0.966, 0.969, 0.969],
  },
  { name: 'taiwan', file: 'taiwan/taiwan.csv.gz', bars: [0.766, 0.773, 0.775, 0.777] },
];

/** Adds the lines of every data set that is in this checkout. */
export async function measureAccuracy(report: BenchmarkReport): Promise<void> {
  for (const each of DATA_SETS) {
    const data = join(DATA, each.file);
    if (!existsSync(data)) {
      process.stderr.write(`${each.name}: not in this checkout, its accuracy is not measured\n`);
      continue;
    }
    await measureScorecard(report, each, data);
    await measureOthers(report, each, data);
  }
}

async function measureScorecard(report: BenchmarkReport, each: DataSet, data: string): Promise<void> {
  const { name, bars, siteBars, published } = each;
  const { results, reference } = await run({ contract: name, data, modes: ['single', 'site', 'sum'], reference: true });
  for (const result of results) {
    const at = EPSILONS.indexOf(result.epsilon);
    const bar = result.mode === 'site' ? siteBars?.[at] : bars[at];
    addAuc(report, name, result, bar);
  }
  published?.forEach((value, at) => {
    report.add({ name: `${name}, published DP boosting, epsilon ${EPSILONS[at]} (reference)`, value, unit: 'AUC' });
  });
  // Safe: a reference was asked for.
  report.add({ name: `${name} without privacy (reference)`, value: reference!.aucMean, unit: 'AUC' });
}

/** One shot where budgets are tiny, beside the scorecard; logistic regression and MLP at epsilon 1. */
async function measureOthers(report: BenchmarkReport, { name }: DataSet, data: string): Promise<void> {
  const request = { contract: name, data, modes: ['single'], reference: false } as const;
  const tiny = await run({ ...request, families: ['adassp', 'scorecard'], epsilons: TINY });
  const dense = await run({ ...request, families: ['logistic'], epsilons: [1], splits: 5 });
  for (const result of [...tiny.results, ...dense.results]) addAuc(report, name, result);
  if (name !== 'telco') return;
  const mlp = await run({ ...request, families: ['mlp'], epsilons: [1], splits: 3 });
  for (const result of mlp.results) addAuc(report, name, result);
}

function addAuc(report: BenchmarkReport, data: string, result: EvaluationResult, bar?: number): void {
  const banks = result.mode === 'single' ? 'one bank' : `${result.sites} banks, mode ${result.mode}`;
  const name = `${data}, ${result.family}, ${banks}, epsilon ${result.epsilon}`;
  report.add({ name, value: result.aucMean, unit: 'AUC', ...(bar === undefined ? {} : { bar: { atLeast: bar } }) });
  report.add({ name: `${name}: standard deviation of one split`, value: result.aucSd, unit: 'AUC' });
}

async function run(wishes: Partial<EvaluationRequest> & Pick<EvaluationRequest, 'contract' | 'data'>) {
  const evaluation = await evaluate(
    {
      families: ['scorecard'],
      modes: ['single'],
      epsilons: EPSILONS,
      delta: 1e-6,
      sites: 5,
      colluders: 0,
      dropouts: 0,
      splits: SPLITS,
      seed: 1,
      jobs: 2,
      maxRejected: 0,
      reference: false,
      out: null,
      signal: new AbortController().signal,
      ...wishes,
    },
    {
      reading() {},
      loaded() {},
      fitting(done, of) {
        if (done === of) process.stderr.write(`${wishes.contract}: ${of} fits\n`);
      },
    },
  );
  // Safe: only a raised signal gives null.
  return evaluation!;
}
