/**
 * What a bank computes from its records: bin counts, and the gradient of the logistic loss on an integer grid.
 *
 * Both are sums over records of one-hot vectors, exact in Float64Array (magnitudes stay far below 2^53). The residual
 * y - p is rounded to the grid 2^-p BEFORE summing, so the sensitivity is exact and no float sum is ever released.
 * Limit: un-noised. Only `addNoise` output may leave the node.
 */
import { LearningError } from '../errors.ts';
import { type BinnedData, offsetsOf } from './binned.ts';
import type { ResidualGrid } from './plan.ts';

export { addNoise } from '../privacy/gaussianMechanism.ts';

// Bound once: in a test runner's sandbox the look-up of a global costs more than the arithmetic of a record.
const { exp, max, min, round } = Math;

/** An additive model over bins, in training or finished: logit = intercept + sum_k weights[k][bin_k]. */
export interface AdditiveModel {
  readonly intercept: number;
  readonly weights: readonly (readonly number[])[];
}

/** How many records fall into each bin, one-hot order; exact integers, un-noised. */
export function siteCounts(data: BinnedData): Float64Array {
  const { offsets, total } = offsetsOf(data.sizes);
  const fields = offsets.length;
  const counts = new Float64Array(total);
  for (let row = 0, at = 0; row < data.rows; row++) {
    for (let k = 0; k < fields; k++, at++) counts[offsets[k] + data.bins[at]]++;
  }
  return counts;
}

/**
 * Sum over records of the clipped residual on the grid in each of the record's bins; exact integers, un-noised.
 *
 * The clip is on integers, after rounding, so no rounding can exceed it; it holds whatever model the aggregator sends.
 *
 * @param model the current model; must have the shape of the data and finite weights.
 * @param grid of the plan and the round: `residualGrid`.
 */
export function siteGradient(data: BinnedData, model: AdditiveModel, grid: ResidualGrid): Float64Array {
  const { offsets, total } = offsetsOf(data.sizes);
  const fields = offsets.length;
  const weights = flatWeights(model, data.sizes);
  const { rows, bins, labels } = data;
  const { residualLimit: limit } = grid;
  const unit = 2 ** grid.residualBits;
  const gradient = new Float64Array(total);
  for (let row = 0; row < rows; row++) {
    const start = row * fields;
    let logit = model.intercept;
    for (let k = 0; k < fields; k++) logit += weights[offsets[k] + bins[start + k]];
    // Finite for every finite logit, also when exp overflows to Infinity.
    const exact = round((labels[row] - 1 / (1 + exp(-logit))) * unit);
    const residual = max(-limit, min(limit, exact));
    if (residual !== 0) for (let k = 0; k < fields; k++) gradient[offsets[k] + bins[start + k]] += residual;
  }
  return gradient;
}

/** Logit of every record. */
export function logitsOf(data: BinnedData, model: AdditiveModel): Float64Array {
  const { offsets } = offsetsOf(data.sizes);
  const fields = offsets.length;
  const weights = flatWeights(model, data.sizes);
  const logits = new Float64Array(data.rows);
  for (let row = 0, at = 0; row < data.rows; row++) {
    let logit = model.intercept;
    for (let k = 0; k < fields; k++, at++) logit += weights[offsets[k] + data.bins[at]];
    logits[row] = logit;
  }
  return logits;
}

/** The weights in one-hot order. @throws LearningError MODEL_INVALID when shape or a number is wrong. */
export function flatWeights(model: AdditiveModel, sizes: readonly number[]): Float64Array {
  const { offsets, total } = offsetsOf(sizes);
  if (model.weights.length !== sizes.length || !Number.isFinite(model.intercept)) {
    throw new LearningError('MODEL_INVALID', 'the model does not have the fields of the data', { where: 'weights' });
  }
  const flat = new Float64Array(total);
  model.weights.forEach((field, k) => {
    if (field.length !== sizes[k] || !field.every(Number.isFinite)) {
      throw new LearningError('MODEL_INVALID', 'the weights of a field do not match its bins', { where: `field ${k}` });
    }
    flat.set(field, offsets[k]);
  });
  return flat;
}
