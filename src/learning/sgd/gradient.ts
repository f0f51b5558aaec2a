/**
 * The sum of per-example clipped gradients, as exact integers: what DP-SGD adds noise to.
 *
 * Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, algorithm 1. One example's gradient in a
 * layer is the outer product of the error signal delta (outputs) and the layer's input (plus 1 for the bias), so its
 * squared norm is the sum over layers of |delta|^2 (|input|^2 + 1) (Goodfellow 2015, arXiv 1510.01799) and is known
 * before any product is formed. Each coordinate is then scaled by 2^gridBits min(1/C, 1/norm), and TRUNCATED TOWARD
 * ZERO to an integer, which never lengthens the vector: its norm is at most 2^gridBits, whatever the weights.
 *
 * Rounding. All terms of the squared norm are non-negative, so its relative error is below (terms + 8) 2^-53; with
 * fewer than 2^20 terms and the three roundings of a coordinate everything together stays below 2^-31. The scale is
 * shortened by 2^-30, so the bound 2^gridBits is exact. Where a square underflows, the coordinates it stands for are
 * below 1e-7, which that margin covers for C >= 0.02. A gradient whose norm is not a finite number contributes 0.
 * The integers are summed in Float64Array, exact up to 2^53 (2^33 records at 20 bits).
 *
 * Limit: un-noised. Only `addNoise` output may leave the node.
 *
 * GUARANTEES.md: "DP-SGD"
 */
import type { BinnedData } from '../binned.ts';
import { type FeatureMap, rowReader } from './features.ts';
import { activationsOf, forward, type Network } from './network.ts';

export const GUARANTEE = 'DP-SGD';

export interface ClippingRule {
  /** C: gradients longer than this are shortened to it; > 0. Infinity with gridBits 0 is not clipping and refused. */
  readonly clippingNorm: number;
  /** One unit of the sum is C / 2^gridBits. */
  readonly gridBits: number;
}

/** The most that one record's integer vector can measure in L2. */
export function recordSensitivity({ gridBits }: Pick<ClippingRule, 'gridBits'>): number {
  return 2 ** gridBits;
}

const SHORTER = 1 - 2 ** -30;

// Bound once: in a test runner's sandbox the look-up of a global costs more than the arithmetic of a coordinate.
const { trunc, exp, sqrt } = Math;

/** Adds up clipped gradients of given records of one data set. */
export interface GradientSummer {
  /**
   * @param rows row numbers; the first `count` are used. @param parameters the current weights.
   * @returns exact integers in units of C / 2^gridBits, un-noised; a new array.
   */
  sum(rows: ArrayLike<number>, count: number, parameters: Float64Array): Float64Array;
}

export function gradientSummer(
  network: Network,
  map: FeatureMap,
  data: BinnedData,
  rule: ClippingRule,
): GradientSummer {
  const { layers } = network;
  const last = layers.length - 1;
  const read = rowReader(map, data);
  const { labels } = data;
  const indices = new Int32Array(map.nonZero);
  const values = new Float64Array(map.nonZero);
  const activations = activationsOf(network);
  const { outputs } = activations;
  const deltas = layers.map((layer) => new Float64Array(layer.outputs));
  const grid = 2 ** rule.gridBits * SHORTER;
  const perUnit = grid / rule.clippingNorm;

  /** Fills `deltas` from the last layer down and returns the squared norm of the whole gradient. */
  function backward(parameters: Float64Array, filled: number, residual: number): number {
    let squaredNorm = 0;
    deltas[last][0] = residual;
    for (let l = last; l >= 0; l--) {
      const { inputs, outputs: size, weights } = layers[l];
      const delta = deltas[l];
      let signal = 0;
      for (let k = 0; k < size; k++) signal += delta[k] * delta[k];
      let input = 1;
      if (l === 0) {
        for (let i = 0; i < filled; i++) input += values[i] * values[i];
      } else {
        const below = outputs[l - 1];
        const deltaBelow = deltas[l - 1];
        for (let j = 0; j < inputs; j++) {
          const value = below[j];
          if (value === 0) {
            deltaBelow[j] = 0;
            continue;
          }
          input += value * value;
          const row = weights + j * size;
          let error = 0;
          for (let k = 0; k < size; k++) error += delta[k] * parameters[row + k];
          deltaBelow[j] = error;
        }
      }
      squaredNorm += signal * input;
    }
    return squaredNorm;
  }

  /** Adds trunc(scale * delta * input) of every weight and bias. */
  function accumulate(sum: Float64Array, filled: number, scale: number): void {
    for (let l = 0; l <= last; l++) {
      const { inputs, outputs: size, weights, biases } = layers[l];
      const delta = deltas[l];
      for (let k = 0; k < size; k++) {
        delta[k] *= scale;
        sum[biases + k] += trunc(delta[k]);
      }
      if (l === 0) {
        for (let i = 0; i < filled; i++) {
          const value = values[i];
          const row = weights + indices[i] * size;
          for (let k = 0; k < size; k++) sum[row + k] += trunc(value * delta[k]);
        }
      } else {
        const input = outputs[l - 1];
        for (let j = 0; j < inputs; j++) {
          const value = input[j];
          if (value === 0) continue;
          const row = weights + j * size;
          for (let k = 0; k < size; k++) sum[row + k] += trunc(value * delta[k]);
        }
      }
    }
  }

  return {
    sum(rows, count, parameters) {
      const sum = new Float64Array(network.parameters);
      for (let at = 0; at < count; at++) {
        const row = rows[at];
        const filled = read(row, indices, values);
        const logit = forward(network, parameters, indices, values, filled, activations);
        // d loss / d logit of the logistic loss, in [-1, 1] for every finite logit.
        const residual = 1 / (1 + exp(-logit)) - labels[row];
        const norm = sqrt(backward(parameters, filled, residual));
        if (!(norm > 0 && norm < Infinity)) continue;
        accumulate(sum, filled, norm > rule.clippingNorm ? grid / norm : perUnit);
      }
      return sum;
    },
  };
}
