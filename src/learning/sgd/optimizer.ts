/**
 * From noisy gradients to weights: Adam, and the mean of the iterates of the second half.
 *
 * Source: Kingma, Ba 2015 (arXiv 1412.6980), algorithm 1; Polyak, Juditsky 1992 for the mean, which averages noise
 * out at no cost in privacy. Rare features have small gradients, and Adam's division by their own size is what lets
 * them move within the few steps that privacy affords. Momentum is short, because correlated features overshoot
 * together. The L2 penalty has the size of the known noise, so that it fades as the data outweighs the noise.
 * Everything here sees released sums only: post-processing.
 */

// Bound once, as in gradient.ts.
const { sqrt } = Math;

const MOMENTUM = 0.7;
const SQUARES = 0.99;
// Far below any noise; keeps the division finite where a gradient is exactly zero.
const LEAST_SIZE = 1e-8;
/** The mean is taken over this last share of the steps. */
const AVERAGED = 0.5;
/** L2 penalty in standard deviations of the noise of a mean gradient. */
const PENALTY = 0.4;

export interface Optimizer {
  /** The weights at which the next gradient is taken; changed in place by `step`. */
  readonly weights: Float64Array;
  /** @param gradient estimate of the mean gradient of one record. */
  step(gradient: Float64Array): void;
  /** The mean of the weights over the last steps, a new array. */
  result(): Float64Array;
}

export interface OptimizerSettings {
  readonly learningRate: number;
  /** How many steps will be taken, >= 1. */
  readonly steps: number;
  /** Standard deviation of the noise in a coordinate of a mean gradient, >= 0. */
  readonly noise: number;
}

/** @param start not changed. */
export function openOptimizer(start: Float64Array, { learningRate, steps, noise }: OptimizerSettings): Optimizer {
  const weights = Float64Array.from(start);
  const first = new Float64Array(weights.length);
  const second = new Float64Array(weights.length);
  const mean = new Float64Array(weights.length);
  let taken = 0;
  let averaged = 0;
  return {
    weights,
    step(gradient) {
      taken++;
      const firstBias = 1 - MOMENTUM ** taken;
      const secondBias = 1 - SQUARES ** taken;
      for (let i = 0; i < weights.length; i++) {
        const g = gradient[i] + PENALTY * noise * weights[i];
        first[i] = MOMENTUM * first[i] + (1 - MOMENTUM) * g;
        second[i] = SQUARES * second[i] + (1 - SQUARES) * g * g;
        weights[i] -= (learningRate * (first[i] / firstBias)) / (sqrt(second[i] / secondBias) + LEAST_SIZE);
      }
      if (taken > steps * (1 - AVERAGED)) {
        averaged++;
        for (let i = 0; i < weights.length; i++) mean[i] += (weights[i] - mean[i]) / averaged;
      }
    },
    result: () => Float64Array.from(averaged === 0 ? weights : mean),
  };
}
