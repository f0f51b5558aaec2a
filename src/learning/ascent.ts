/**
 * One step of the scorecard's ascent on the logistic likelihood, from sums over all records.
 *
 * Preconditioned gradient ascent on an additive model over bins; ridge and smoothing penalties have the size of the
 * noise (design page privacy.md, section 3), so the same step serves the private training and, with noise 0, the
 * reference without privacy.
 */
import { type ModelShape, offsetsOf } from './binned.ts';
import type { AdditiveModel } from './site.ts';
import { smoothingSolve } from './smoothing.ts';

/** What a training knows so far. */
export interface Progress {
  readonly model: AdditiveModel;
  /** Share of positive labels as far as known; 1/2 before the first step. */
  readonly baseRate: number;
}

/** Sums over the records of all contributing sites, in units of records, one-hot order. */
export interface Sums {
  readonly gradient: Float64Array;
  readonly counts: Float64Array;
  /** Standard deviation of the noise in each coordinate of `gradient`; 0 without privacy. */
  readonly noise: number;
}

// Steps of 2/K: a field's step is the Newton step of that field alone; K fields may say the same thing K times over,
// and 2/K keeps that worst case from growing. Fixed on public data (Adult, Telco, Taiwan, ULB), never on a bank's.
const STEP = 2;
// Penalties as shares of noise * sqrt(rounds).
const RIDGE_SHARE = 0.3;
const SMOOTH_SHARE = 1;
// No base rate is believed outside [RAREST, 1 - RAREST], whatever the noise says.
const RAREST = 1e-4;

export function startProgress(shape: ModelShape): Progress {
  return {
    baseRate: 0.5,
    model: { intercept: 0, weights: shape.sizes.map((size) => new Array<number>(size).fill(0)) },
  };
}

/** @param first whether this is the first step, taken at w = 0. @param rounds steps of the whole training. */
export function ascend(progress: Progress, sums: Sums, shape: ModelShape, first: boolean, rounds: number): Progress {
  const { offsets } = offsetsOf(shape.sizes);
  const gradient = Float64Array.from(sums.gradient);
  const counts = sums.counts.map((count) => Math.max(0, count));
  const records = Math.max(1, fieldMean(counts, shape.sizes));
  const total = fieldMean(gradient, shape.sizes);
  const totalNoise = sums.noise / Math.sqrt(precision(shape.sizes));

  let { baseRate } = progress;
  let { intercept } = progress.model;
  if (first) {
    // At w = 0 every p is 1/2, so the residuals of any field sum to positives - records / 2.
    const least = Math.min(0.25, Math.max(RAREST, totalNoise / records));
    baseRate = Math.min(1 - least, Math.max(least, total / records + 0.5));
    intercept = Math.log(baseRate / (1 - baseRate));
    // What the gradient would have been at the intercept just found, from the counts.
    for (let i = 0; i < gradient.length; i++) gradient[i] += (0.5 - baseRate) * counts[i];
  } else {
    intercept += total / (records * baseRate * (1 - baseRate) + 2 * totalNoise);
  }

  const curvature = baseRate * (1 - baseRate);
  const spread = sums.noise * Math.sqrt(rounds);
  const penalty = { ridge: 1 + RIDGE_SHARE * spread, smooth: 1 + SMOOTH_SHARE * spread };
  const weights = progress.model.weights.map((field, k) => {
    const from = offsets[k];
    const to = from + field.length;
    const diagonal = counts.subarray(from, to).map((count) => curvature * count);
    const direction = smoothingSolve(gradient.subarray(from, to), diagonal, shape.ordered[k], penalty);
    return field.map((weight, j) => weight + (STEP / shape.sizes.length) * direction[j]);
  });
  return { baseRate, model: { intercept, weights } };
}

/**
 * Sum over records of a quantity that every field's bins sum to, estimated from all K fields.
 *
 * Each field's bins sum to the same total plus noise of variance size_k, so the best weights are 1 / size_k.
 */
function fieldMean(values: Float64Array, sizes: readonly number[]): number {
  let at = 0;
  let sum = 0;
  for (const size of sizes) {
    let field = 0;
    for (let j = 0; j < size; j++) field += values[at++];
    sum += field / size;
  }
  return sum / precision(sizes);
}

function precision(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + 1 / size, 0);
}
