/**
 * Whole trainings in one process: the private one as banks and aggregator run it together, and the non-private
 * reference that tells what privacy costs.
 *
 * Limit: a process that holds several banks' data is for evaluation and tests; a node calls `trainPrivate` on its own.
 *
 * GUARANTEES.md: "Scorecard training"
 */
import type { Contract } from '../contract/contract.ts';
import { LearningError } from '../errors.ts';
import type { RandomSource } from '../random.ts';
import { ascend, startProgress } from './ascent.ts';
import { type BinnedData, checkBinned, shapeOf } from './binned.ts';
import { residualGrid, type TrainingPlan } from './plan.ts';
import { resolutionOf, unitOf } from './resolution.ts';
import { type Scorecard, toModel } from './scorecard.ts';
import { releaseOf } from './scorecardRelease.ts';
import { type AdditiveModel, addNoise, siteCounts, siteGradient } from './site.ts';
import { privacyStatement } from './statement.ts';
import { absorbCounts, absorbRound, createTrainer, currentModel } from './trainer.ts';

/**
 * All rounds of a plan over several banks, each adding its own noise from its own source.
 *
 * @param sites one data set per bank, `plan.sites` of them. @param randoms one source per bank.
 */
export function trainFederatedInMemory(
  sites: readonly BinnedData[],
  plan: TrainingPlan,
  contract: Contract,
  randoms: readonly RandomSource[],
): Scorecard {
  if (sites.length !== plan.sites || randoms.length !== plan.sites) {
    throw new LearningError('TRAINING_INPUT', 'the plan needs one data set and one random source for each site');
  }
  sites.forEach(checkBinned);
  const statement = privacyStatement(plan);
  const shape = shapeOf(contract);
  const { reduce } = resolutionOf(shape, plan.knots);
  const released = (exact: Float64Array, round: number, i: number) => {
    const { values, sigmaSquared } = releaseOf(plan, statement, round, reduce(exact));
    return addNoise(values, sigmaSquared, randoms[i]);
  };
  const counts = sumOf(sites.map((data, i) => released(siteCounts(data), 0, i)));
  let state = absorbCounts(createTrainer(plan, shape), counts);
  for (let round = 1; round <= plan.rounds; round++) {
    const model = currentModel(state);
    const grid = residualGrid(plan, round);
    const noisy = sites.map((data, i) => released(siteGradient(data, model, grid), round, i));
    state = absorbRound(state, sumOf(noisy), counts, sites.length);
  }
  return toModel(state, contract);
}

/** One bank alone, by the same code and with the same promise: the plan with one site. */
export function trainPrivate(
  data: BinnedData,
  plan: TrainingPlan,
  contract: Contract,
  random: RandomSource,
): Scorecard {
  return trainFederatedInMemory([data], { ...plan, ...ALONE }, contract, [random]);
}

const ALONE = {
  ...({ mode: 'site', sites: 1, quorum: 1, colluders: 0, dropouts: 0 } as const),
  ...{ threshold: 0, ringBits: 0, ringShift: 0 },
};

/**
 * The reference without privacy on pooled data: the same family and the same steps, exact sums, no noise.
 *
 * NOT private: never leaves the process that holds the data.
 */
export function trainPlain(data: BinnedData, contract: Contract): AdditiveModel {
  checkBinned(data);
  const { shape, reduce, expand } = resolutionOf(shapeOf(contract), PLAIN_KNOTS);
  const inRecords = (sums: Float64Array, grid: number) =>
    reduce(sums).map((value) => value / (grid * unitOf(PLAIN_KNOTS)));
  const counts = inRecords(siteCounts(data), 1);
  let progress = startProgress(shape);
  const model = () => ({ intercept: progress.model.intercept, weights: expand(progress.model.weights) });
  for (let round = 0; round < PLAIN_ROUNDS; round++) {
    const gradient = inRecords(siteGradient(data, model(), FINEST_GRID), 2 ** FINEST_GRID.residualBits);
    progress = ascend(progress, { gradient, counts, noise: 0, residualBound: 1 }, shape, round === 0, PLAIN_PENALTY);
  }
  return model();
}

const FINEST_GRID = { residualBits: 16, residualLimit: 2 ** 16 };
// Enough against overfitting a few thousand records; without noise nothing else asks for it.
const PLAIN_KNOTS = 13;
const PLAIN_ROUNDS = 50;
const PLAIN_PENALTY = { ridge: 30, smooth: 50 };

/** Coordinate-wise sum, exact for integers far below 2^53. */
export function sumOf(vectors: readonly Float64Array[]): Float64Array {
  if (vectors.length === 0) throw new LearningError('TRAINING_INPUT', 'there is nothing to sum');
  const sum = Float64Array.from(vectors[0]);
  for (const vector of vectors.slice(1)) {
    if (vector.length !== sum.length) throw new LearningError('TRAINING_INPUT', 'the vectors differ in length');
    for (let i = 0; i < sum.length; i++) sum[i] += vector[i];
  }
  return sum;
}
