/**
 * DP-SGD over one or several banks in one process (Abadi et al. 2016, algorithm 1).
 *
 * In each step every bank draws its batch by Poisson sampling, sums clipped integer gradients, adds its discrete
 * Gaussian noise, and only then are sums added up and divided by the PUBLIC expected batch size. How many records a
 * bank or a batch has is used nowhere. Pure and synchronous: a caller with an event loop to keep free uses
 * `workers/sgdPool.ts`.
 *
 * Limit: a process that holds several banks' data is for evaluation and tests.
 *
 * GUARANTEES.md: "DP-SGD"
 */
import { type Contract, contractHash } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import { addNoise } from '../../privacy/gaussianMechanism.ts';
import { approximately } from '../../privacy/rational.ts';
import type { RandomSource } from '../../random.ts';
import { type BinnedData, checkBinned } from '../binned.ts';
import { encodingOf, type FeatureMap, featureMapOf } from './features.ts';
import { gradientSummer } from './gradient.ts';
import { type DenseModel, toDense } from './model.ts';
import { type Network, networkOf, startWeights } from './network.ts';
import { openOptimizer } from './optimizer.ts';
import { poissonSampler } from './sampling.ts';
import { parseSgd, type SgdSettings, settingsHash } from './settings.ts';
import { GRID_BITS, type SgdStatement, sgdStatement } from './statement.ts';

export interface SgdProgress {
  /** Steps taken, 1 to `steps`. */
  step: number;
  steps: number;
}

/**
 * @param sites one data set per bank, `settings.sites` of them. @param randoms one source per bank.
 * @param onProgress called after each step.
 * @throws LearningError TRAINING_INPUT, MODEL_CONTRACT_MISMATCH; PrivacyError PRIVACY_PARAMETER when no noise that can
 *   be drawn keeps the promise.
 */
export function trainSgd(
  sites: readonly BinnedData[],
  settings: SgdSettings,
  contract: Contract,
  randoms: readonly RandomSource[],
  onProgress?: (progress: SgdProgress) => void,
): DenseModel {
  parseSgd(settings);
  if (sites.length !== settings.sites || randoms.length !== settings.sites) {
    throw new LearningError('TRAINING_INPUT', 'the settings need one data set and one random source for each site', {
      where: 'sites',
    });
  }
  if (settings.contractHash !== contractHash(contract)) {
    throw new LearningError('MODEL_CONTRACT_MISMATCH', 'the settings belong to another contract', {
      where: 'contractHash',
    });
  }
  sites.forEach(checkBinned);
  const statement = sgdStatement(settings);
  const map = featureMapOf(encodingOf(contract));
  const network = networkOf(map.width, settings.hidden);
  const optimizer = openOptimizer(startWeights(network, map.largestNorm ** 2, settingsHash(settings)), {
    learningRate: settings.learningRate,
    steps: statement.steps,
    noise: approximately(statement.sigma) * Math.sqrt(sites.length) * gradientUnit(settings, statement),
  });
  const banks = sites.map((data, i) => openBank(network, map, data, settings, statement, randoms[i]));
  for (let step = 1; step <= statement.steps; step++) {
    optimizer.step(meanGradient(banks, optimizer.weights, settings, statement));
    onProgress?.({ step, steps: statement.steps });
  }
  return toDense(optimizer.result(), settings, statement, contract);
}

/** One bank's side of a step. */
export interface Bank {
  /** The noisy integer sum at these weights: all that leaves the bank. */
  release(weights: Float64Array): Float64Array;
}

export function openBank(
  network: Network,
  map: FeatureMap,
  data: BinnedData,
  settings: SgdSettings,
  { samplingRate, sigmaSquared }: Pick<SgdStatement, 'samplingRate' | 'sigmaSquared'>,
  random: RandomSource,
): Bank {
  const summer = gradientSummer(network, map, data, { clippingNorm: settings.clippingNorm, gridBits: GRID_BITS });
  const sampler = poissonSampler(samplingRate, random);
  const batch = new Int32Array(data.rows);
  return {
    release: (weights) => addNoise(summer.sum(batch, sampler.sample(data.rows, batch), weights), sigmaSquared, random),
  };
}

/** Estimate of the mean gradient of one record, from all banks' releases and the public number of records. */
export function meanGradient(
  banks: readonly Bank[],
  weights: Float64Array,
  settings: SgdSettings,
  statement: Pick<SgdStatement, 'samplingRate'>,
): Float64Array {
  const unit = gradientUnit(settings, statement);
  const gradient = new Float64Array(weights.length);
  for (const bank of banks) {
    const release = bank.release(weights);
    for (let i = 0; i < gradient.length; i++) gradient[i] += release[i] * unit;
  }
  return gradient;
}

/** What one grid unit of a sum is in the mean gradient of one record. */
function gradientUnit(settings: SgdSettings, { samplingRate }: Pick<SgdStatement, 'samplingRate'>): number {
  return settings.clippingNorm / 2 ** GRID_BITS / (samplingRate * settings.rows);
}
