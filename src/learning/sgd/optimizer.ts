/**
 * From noisy gradients to weights: Adam or plain steps, and the mean of the iterates of the second half.
 *
 * Source: Kingma, Ba 2015 (arXiv 1412.6980), algorithm 1; Polyak, Juditsky 1992 for the mean, which averages noise out
 * at no cost in privacy. Between banks, Adam over mean updates is FedAdam and a plain step along them FedAvg (Reddi et
 * al. 2021, arXiv 2003.00295, algorithms 1 and 2). Rare features have small gradients, and Adam's division by their own
 * size is what lets them move within the few steps that privacy affords. Momentum is short, because correlated features
 * overshoot together. The L2 penalty has the size of the known noise, so that it fades as the data outweighs the noise.
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
  /** Default `adam`. */
  readonly rule?: 'adam' | 'plain';
  readonly learningRate: number;
  /** How many steps will be taken, >= 1. */
  readonly steps: number;
  /** Standard deviation of the noise in a coordinate of a mean gradient, >= 0. */
  readonly noise: number;
}

/** All an optimiser remembers between steps. */
export interface OptimizerState {
  readonly weights: Float64Array;
  /** Moments of Adam; empty for plain steps. */
  readonly first: Float64Array;
  readonly second: Float64Array;
  /** Mean of the last weights. */
  readonly mean: Float64Array;
  readonly taken: number;
  readonly averaged: number;
}

/** @param start not changed. */
export function startState(start: Float64Array, { rule = 'adam' }: Pick<OptimizerSettings, 'rule'>): OptimizerState {
  const moments = rule === 'adam' ? start.length : 0;
  return {
    weights: Float64Array.from(start),
    first: new Float64Array(moments),
    second: new Float64Array(moments),
    mean: new Float64Array(start.length),
    ...{ taken: 0, averaged: 0 },
  };
}

/** @param start not changed. */
export function openOptimizer(start: Float64Array, settings: OptimizerSettings): Optimizer {
  let state = startState(start, settings);
  return {
    weights: state.weights,
    step(gradient) {
      state = stepInPlace(state, gradient, settings);
    },
    result: () => resultOf(state),
  };
}

/** One step from a state that stays as it is. @param gradient estimate of the mean gradient of one record. */
export function stepped(state: OptimizerState, gradient: Float64Array, settings: OptimizerSettings): OptimizerState {
  const { weights, first, second, mean } = state;
  const copy = {
    ...state,
    ...{ weights: weights.slice(), first: first.slice(), second: second.slice(), mean: mean.slice() },
  };
  return stepInPlace(copy, gradient, settings);
}

/** The mean of the weights over the last steps, a new array. */
export function resultOf({ weights, mean, averaged }: OptimizerState): Float64Array {
  return Float64Array.from(averaged === 0 ? weights : mean);
}

/** Changes the arrays of the state and returns it with its counts. */
function stepInPlace(state: OptimizerState, gradient: Float64Array, settings: OptimizerSettings): OptimizerState {
  const { rule = 'adam', learningRate, steps, noise } = settings;
  const { weights, first, second, mean } = state;
  const taken = state.taken + 1;
  const firstBias = 1 - MOMENTUM ** taken;
  const secondBias = 1 - SQUARES ** taken;
  for (let i = 0; i < weights.length; i++) {
    const g = gradient[i] + PENALTY * noise * weights[i];
    if (rule === 'plain') {
      weights[i] -= learningRate * g;
      continue;
    }
    first[i] = MOMENTUM * first[i] + (1 - MOMENTUM) * g;
    second[i] = SQUARES * second[i] + (1 - SQUARES) * g * g;
    weights[i] -= (learningRate * (first[i] / firstBias)) / (sqrt(second[i] / secondBias) + LEAST_SIZE);
  }
  if (taken <= steps * (1 - AVERAGED)) return { ...state, taken };
  const averaged = state.averaged + 1;
  for (let i = 0; i < weights.length; i++) mean[i] += (weights[i] - mean[i]) / averaged;
  return { ...state, taken, averaged };
}
