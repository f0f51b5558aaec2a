/**
 * A linear model as the encrypted service uses it: public limits, and weights as plaintext polynomials.
 *
 * Limit: weights are rounded to 2^-weightBits; with the largest input mass this moves a logit by at most 4.3e-4 on
 * `standard` and 2.7e-5 on `conservative`.
 */
import { EncryptionError } from '../errors.ts';
import { MAX_ABS_INTERCEPT, MAX_ABS_WEIGHT, type Preset, productBits } from './presets.ts';
import { polynomialOf, residueOf, scaled } from './residues.ts';
import { type SealRuntime, transform } from './seal.ts';
import { type PolynomialShape, plaintextBytes } from './sealBytes.ts';

export interface LinearModel {
  /** 64 hexadecimal digits; names the weights in caches and frames. */
  readonly hash: string;
  /** One a dimension, each in [-8, 8]. */
  readonly weights: Float64Array;
  /** In [-64, 64]. */
  readonly intercept: number;
}

/** @throws EncryptionError ENCRYPTION_PARAMETER; the message holds no weight */
export function checkModel(model: LinearModel): void {
  const refuse = (where: string) =>
    new EncryptionError('ENCRYPTION_PARAMETER', 'the model is outside the public limits of encrypted scoring', {
      where,
      fix: `Weights must be within ${MAX_ABS_WEIGHT} and the intercept within ${MAX_ABS_INTERCEPT} of zero.`,
    });
  // A comparison with NaN is false, so NaN is refused as well.
  if (!(Math.abs(model.intercept) <= MAX_ABS_INTERCEPT)) throw refuse('intercept');
  if (model.weights.length === 0) throw refuse('weights');
  for (let j = 0; j < model.weights.length; j++) {
    if (!(Math.abs(model.weights[j]) <= MAX_ABS_WEIGHT)) throw refuse(`weight of dimension ${j}`);
  }
}

/** Level and scale of weights: upload level, 2^weightBits. */
function weightShape(preset: Preset): PolynomialShape {
  return { parmsId: preset.uploadParmsId, degree: preset.degree, primes: 2, scale: 2 ** preset.weightBits };
}

/** Level and scale of a product, before rescaling. */
export function productShape(preset: Preset): PolynomialShape {
  return { ...weightShape(preset), scale: 2 ** productBits(preset) };
}

/** The bytes of w_0 - sum_j w_j X^(N-j) as a plaintext in NTT form. */
export function rowWeights(runtime: SealRuntime, model: LinearModel): Uint8Array {
  const { preset } = runtime;
  const entries = Array.from(model.weights, (weight, j): [number, bigint] => {
    const integer = scaled(weight, preset.weightBits);
    return j === 0 ? [0, integer] : [preset.degree - j, -integer];
  });
  const polynomial = polynomialOf(preset.degree, preset.primes.slice(0, 2), entries);
  return plaintextBytes(weightShape(preset), transform(runtime, weightShape(preset), polynomial, 'ntt'));
}

/** The bytes of the constant polynomial w: in NTT form the same residue everywhere. */
export function columnWeight(preset: Preset, weight: number): Uint8Array {
  const integer = scaled(weight, preset.weightBits);
  const residues = new BigUint64Array(2 * preset.degree);
  residues.fill(residueOf(integer, preset.primes[0]), 0, preset.degree);
  residues.fill(residueOf(integer, preset.primes[1]), preset.degree);
  return plaintextBytes(weightShape(preset), residues);
}
