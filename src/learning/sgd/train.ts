/**
 * DP-SGD over one or several banks in one process (Abadi et al. 2016, algorithm 1).
 *
 * In each step every bank draws its batch by Poisson sampling, sums clipped integer gradients, adds its discrete
 * Gaussian noise, and only then are sums added up and divided by the PUBLIC expected batch size. How many records a
 * bank or a batch has is used nowhere. Pure and synchronous: a caller with an event loop to keep free uses
 * `workers/sgdPool.ts`.
 *
 * Limit: a process that holds several banks' data is for evaluation and tests.
 */
import { type Contract, contractHash } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import { addNoise } from '../../privacy/gaussianMechanism.ts';
import type { RandomSource } from '../../random.ts';
import { type BinnedData, checkBinned } from '../binned.ts';
import { encodingOf, featureMapOf } from './features.ts';
import { gradientSummer } from './gradient.ts';
import { type DenseModel, toDense } from './model.ts';
import { networkOf, startWeights } from './network.ts';
import { openOptimizer } from './optimizer.ts';
import { poissonSampler } from './sampling.ts';
import { parseSgd, type SgdSettings, settingsHash } from './settings.ts';
import { GRID_BITS, sgdStatement } from './statement.ts';

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
  const start = startWeights(network, map.largestNorm ** 2, settingsHash(settings));
  const optimizer = openOptimizer(start, settings.learningRate, statement.steps);

  const rule = { clippingNorm: settings.clippingNorm, gridBits: GRID_BITS };
  const banks = sites.map((data, i) => ({
    rows: data.rows,
    random: randoms[i],
    batch: new Int32Array(data.rows),
    sampler: poissonSampler(statement.samplingRate, randoms[i]),
    summer: gradientSummer(network, map, data, rule),
  }));
  // From grid units of the sum to the mean gradient of one record.
  const unit = settings.clippingNorm / 2 ** GRID_BITS / (statement.samplingRate * settings.rows);
  for (let step = 1; step <= statement.steps; step++) {
    const gradient = new Float64Array(network.parameters);
    for (const { rows, random, batch, sampler, summer } of banks) {
      const exact = summer.sum(batch, sampler.sample(rows, batch), optimizer.weights);
      const noisy = addNoise(exact, statement.sigmaSquared, random);
      for (let i = 0; i < gradient.length; i++) gradient[i] += noisy[i] * unit;
    }
    optimizer.step(gradient);
    onProgress?.({ step, steps: statement.steps });
  }
  return toDense(optimizer.result(), settings, statement, contract);
}
