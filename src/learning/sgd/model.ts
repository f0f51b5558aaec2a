/**
 * The dense model document: a finished logistic regression or MLP, its identity and its logits.
 *
 * Format `veilrisk-dense/1`; identity is SHA-256 over the RFC 8785 form. The document carries the encoding, so that
 * it can be evaluated without its contract, and the contract's hash, so that it is not evaluated on another's bins.
 * Weights are float32 numbers: an exported model computes the same function up to the order of its sums.
 */
import { z } from 'zod';
import { canonicalHash } from '../../canonical.ts';
import type { Contract } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import type { BinnedData } from '../binned.ts';
import { readModel } from '../modelDocument.ts';
import { encodingOf, type FeatureMap, featureMapOf, featureNames, middleFeatures, rowReader } from './features.ts';
import { activationsOf, forward, type Network, networkOf } from './network.ts';
import type { DensePlan } from './plan.ts';
import { type SgdSettings, settingsHash } from './settings.ts';
import type { SgdStatement } from './statement.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/, { error: 'must be 64 lower-case hexadecimal digits' });
/** Far beyond any trained weight; keeps sums finite in float32. */
export const LARGEST_WEIGHT = 1e6;
const weight = z
  .number()
  .min(-LARGEST_WEIGHT)
  .max(LARGEST_WEIGHT)
  .refine((value) => Math.fround(value) === value, { error: 'must be a float32 number' });

const trained = {
  mode: z.enum(['site', 'sum']),
  sites: z.int().min(1),
  epsilon: z.number().positive(),
  delta: z.number().positive().max(1),
  unit: z.literal('customer'),
};

const denseSchema = z.strictObject({
  format: z.literal('veilrisk-dense/1'),
  contractHash: digest,
  family: z.enum(['logistic', 'mlp']),
  /** One per field, in contract order. */
  encoding: z
    .array(
      z
        .strictObject({ code: z.enum(['position', 'sign', 'one-hot']), bins: z.int().min(2).max(1026) })
        .refine(({ code, bins }) => code === 'one-hot' || bins >= 3, { error: 'has too few bins for its code' })
        .refine(({ code, bins }) => code !== 'sign' || bins === 3, { error: 'a sign has three bins' }),
    )
    .min(1)
    .max(4096),
  /** Names of the features, in the order of the first layer's inputs. */
  features: z.array(z.string().min(1).max(400)).min(1).max(65_536),
  /**
   * Each layer's weights input-major (inputs * outputs), hidden layers followed by max(0, x); the last has one output.
   */
  layers: z
    .array(z.strictObject({ weights: z.array(weight).min(1), biases: z.array(weight).min(1).max(1024) }))
    .min(1)
    .max(5),
  training: z.union([
    /** In one process, by the settings of the hash. */
    z.strictObject({
      settingsHash: digest,
      ...trained,
      steps: z.int().min(1),
      samplingRate: z.number().positive().max(1),
      noiseMultiplier: z.number().positive(),
    }),
    /** Between banks, by the plan of the hash. */
    z.strictObject({
      planHash: digest,
      ...trained,
      rounds: z.int().min(1),
      strategy: z.enum(['fedavg', 'fedprox', 'fedadam']),
      localSteps: z.int().min(1),
    }),
  ]),
});

export type DenseModel = z.infer<typeof denseSchema>;

/**
 * Reads a model from outside and checks that it belongs to the contract.
 *
 * @throws LearningError MODEL_INVALID, or MODEL_CONTRACT_MISMATCH when it was trained under another contract.
 */
export function parseDense(json: unknown, contract: Contract): DenseModel {
  const model = readModel(denseSchema, json, contract);
  const names = featureNames(contract);
  const encoding = encodingOf(contract);
  const fits =
    encoding.length === model.encoding.length &&
    encoding.every(({ code, bins }, k) => code === model.encoding[k].code && bins === model.encoding[k].bins) &&
    names.length === model.features.length &&
    names.every((name, i) => name === model.features[i]);
  if (!fits) {
    throw new LearningError('MODEL_INVALID', 'the features are not those of the contract', { where: 'features' });
  }
  networkOfModel(model);
  return model;
}

/** 64 lower-case hexadecimal digits, the model's identity. */
export function denseHash(model: DenseModel): string {
  return canonicalHash(model);
}

/**
 * @param parameters in the order of `networkOf`; rounded to float32. @throws LearningError MODEL_INVALID when not
 * finite.
 */
export function toDense(
  parameters: Float64Array,
  settings: SgdSettings,
  statement: SgdStatement,
  contract: Contract,
): DenseModel {
  const { mode, sites, epsilon, delta } = settings;
  const { steps, samplingRate, noiseMultiplier } = statement;
  return documentOf(parameters, settings, contract, {
    settingsHash: settingsHash(settings),
    ...{ mode, sites, steps, samplingRate, noiseMultiplier, epsilon, delta },
    unit: 'customer',
  });
}

/** The model of a plan between banks. @param planHash of the plan. As `toDense`. */
export function toFederatedDense(
  parameters: Float64Array,
  plan: DensePlan,
  planHash: string,
  contract: Contract,
): DenseModel {
  const { mode, sites, rounds, epsilon, delta, strategy } = plan;
  return documentOf(parameters, plan, contract, {
    ...{ planHash, mode, sites, rounds, strategy: strategy.kind, localSteps: strategy.localSteps, epsilon, delta },
    unit: 'customer',
  });
}

function documentOf(
  parameters: Float64Array,
  { contractHash, family, hidden }: Pick<SgdSettings, 'contractHash' | 'family' | 'hidden'>,
  contract: Contract,
  training: DenseModel['training'],
): DenseModel {
  const features = featureNames(contract);
  const { layers } = networkOf(features.length, hidden);
  const take = (from: number, to: number) =>
    Array.from(parameters.subarray(from, to), (value) => Math.fround(value) + 0);
  return parseDense(
    {
      format: 'veilrisk-dense/1',
      ...{ contractHash, family, encoding: encodingOf(contract), features },
      layers: layers.map(({ weights, biases, outputs }) => ({
        weights: take(weights, biases),
        biases: take(biases, biases + outputs),
      })),
      training,
    },
    contract,
  );
}

/** Logit of every record. @throws LearningError MODEL_CONTRACT_MISMATCH when the data has other bins. */
export function denseLogits(model: DenseModel, data: BinnedData): Float64Array {
  const { network, parameters } = networkOfModel(model);
  return networkLogits(network, parameters, featureMapOf(model.encoding), data);
}

/** Logit of every record. @throws as `denseLogits`. */
export function networkLogits(
  network: Network,
  parameters: Float64Array,
  map: FeatureMap,
  data: BinnedData,
): Float64Array {
  const read = rowReader(map, data);
  const indices = new Int32Array(map.nonZero);
  const values = new Float64Array(map.nonZero);
  const activations = activationsOf(network);
  return Float64Array.from({ length: data.rows }, (_, row) =>
    forward(network, parameters, indices, values, read(row, indices, values), activations),
  );
}

/** The logit at the middle of the features, about which the grid of an evaluation lies: of the document alone. */
export function scoreCentre(model: DenseModel): number {
  const { network, parameters } = networkOfModel(model);
  return networkCentre(network, parameters, model.encoding);
}

export function networkCentre(network: Network, parameters: Float64Array, encoding: DenseModel['encoding']): number {
  const middle = middleFeatures(encoding);
  const indices = Int32Array.from(middle, (_, i) => i);
  return forward(network, parameters, indices, middle, middle.length, activationsOf(network));
}

/** @throws LearningError MODEL_INVALID when the layers do not fit each other or the features. */
export function networkOfModel(model: DenseModel): { network: Network; parameters: Float64Array } {
  const { width } = featureMapOf(model.encoding);
  const sizes = model.layers.map(({ biases }) => biases.length);
  const network = networkOf(width, sizes.slice(0, -1));
  const fits =
    width === model.features.length &&
    sizes[sizes.length - 1] === 1 &&
    (model.family === 'logistic') === (sizes.length === 1) &&
    network.layers.every(({ inputs, outputs }, l) => model.layers[l].weights.length === inputs * outputs);
  if (!fits) {
    throw new LearningError('MODEL_INVALID', 'the layers do not fit each other or the features', { where: 'layers' });
  }
  const parameters = new Float64Array(network.parameters);
  network.layers.forEach(({ weights, biases }, l) => {
    parameters.set(model.layers[l].weights, weights);
    parameters.set(model.layers[l].biases, biases);
  });
  return { network, parameters };
}
