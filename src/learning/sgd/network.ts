/**
 * A fully connected network with one logit, its parameters in one array; logistic regression is the one without
 * hidden layers.
 *
 * Layer l has weights input-major, inputs * outputs, and then one bias per output, so that a sparse input touches
 * contiguous memory. Hidden layers are followed by max(0, x).
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';
import { LearningError } from '../../errors.ts';

export interface Layer {
  readonly inputs: number;
  readonly outputs: number;
  /** Where weights and biases start in the parameter array. */
  readonly weights: number;
  readonly biases: number;
}

export interface Network {
  readonly layers: readonly Layer[];
  readonly parameters: number;
}

/** @param width features, >= 1. @param hidden outputs of each hidden layer; empty for logistic regression. */
export function networkOf(width: number, hidden: readonly number[]): Network {
  const sizes = [width, ...hidden, 1];
  if (!sizes.every((size) => Number.isInteger(size) && size >= 1)) {
    throw new LearningError('TRAINING_INPUT', 'a layer needs at least one input and one output', { where: 'hidden' });
  }
  const layers: Layer[] = [];
  let at = 0;
  for (let l = 0; l + 1 < sizes.length; l++) {
    const inputs = sizes[l];
    const outputs = sizes[l + 1];
    layers.push({ inputs, outputs, weights: at, biases: at + inputs * outputs });
    at += (inputs + 1) * outputs;
  }
  return { layers, parameters: at };
}

/**
 * Start weights: uniform with variance 2 / fan-in (He et al. 2015, section 2.2) in hidden layers, zero in the last
 * layer, so that training starts at logit 0 for everyone. They are public and the same for every bank: the uniform
 * numbers are SHA-256 of a seed and a counter.
 *
 * @param fanIn typical squared norm of a feature vector, in place of the first layer's width, most of which is zero.
 * @param seed public text.
 */
export function startWeights(network: Network, fanIn: number, seed: string): Float64Array {
  const weights = new Float64Array(network.parameters);
  let block = new DataView(new ArrayBuffer(0));
  let used = 0;
  let counter = 0;
  const uniform = () => {
    if (used === block.byteLength) {
      block = new DataView(sha256(utf8ToBytes(`${seed}#${counter++}`)).buffer);
      used = 0;
    }
    used += 4;
    return block.getUint32(used - 4) / 2 ** 31 - 1;
  };
  network.layers.slice(0, -1).forEach((layer, l) => {
    const bound = Math.sqrt(6 / (l === 0 ? fanIn : layer.inputs));
    for (let i = layer.weights; i < layer.biases; i++) weights[i] = bound * uniform();
  });
  return weights;
}

/** The outputs of every layer for the record read last; reused from record to record. */
export interface Activations {
  readonly outputs: readonly Float64Array[];
}

export function activationsOf(network: Network): Activations {
  return { outputs: network.layers.map(({ outputs }) => new Float64Array(outputs)) };
}

/** The logit of a record given by its non-zero features; fills `activations`. */
export function forward(
  network: Network,
  parameters: Float64Array,
  indices: Int32Array,
  values: Float64Array,
  filled: number,
  { outputs }: Activations,
): number {
  const { layers } = network;
  const last = layers.length - 1;
  for (let l = 0; l <= last; l++) {
    const { inputs, outputs: size, weights, biases } = layers[l];
    const output = outputs[l];
    for (let k = 0; k < size; k++) output[k] = parameters[biases + k];
    if (l === 0) {
      for (let i = 0; i < filled; i++) {
        const value = values[i];
        const row = weights + indices[i] * size;
        for (let k = 0; k < size; k++) output[k] += value * parameters[row + k];
      }
    } else {
      const input = outputs[l - 1];
      for (let j = 0; j < inputs; j++) {
        const value = input[j];
        if (value === 0) continue;
        const row = weights + j * size;
        for (let k = 0; k < size; k++) output[k] += value * parameters[row + k];
      }
    }
    if (l < last) for (let k = 0; k < size; k++) if (!(output[k] > 0)) output[k] = 0;
  }
  return outputs[last][0];
}
