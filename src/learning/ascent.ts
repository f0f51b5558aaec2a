/**
 * One step of the scorecard's ascent on the logistic likelihood, from sums over all records.
 *
 * Preconditioned gradient ascent with momentum (Polyak, "Some methods of speeding up the convergence of iteration
 * methods", 1964) on an additive model over bins; ridge and smoothing penalties have the size of the noise (design page
 * privacy.md, section 3), so the same step serves the private training and, with noise 0, the reference without privacy.
 * Each field is then shrunk by how much of it the known noise explains (a positive-part
 * James-Stein rule; Efron, Morris 1973): fields that say nothing are damped, fields that speak are left alone.
 */
import { type ModelShape, offsetsOf } from './binned.ts';
import { fieldMean, precision } from './fieldSums.ts';
import { learntLogit } from './score.ts';
import type { AdditiveModel } from './site.ts';
import { type Penalty, shrinkage, smoothingEnergy, smoothingSolve, solvedNoise } from './smoothing.ts';

/** What a training knows so far. */
export interface Progress {
  /** The shrunk model, at which the next gradient is taken. */
  readonly model: AdditiveModel;
  /** Sum of all steps, before shrinkage. */
  readonly steps: readonly (readonly number[])[];
  /** The last step, part of which the next one repeats. */
  readonly velocity: readonly (readonly number[])[];
  /** Per field: expected energy of the noise inside `steps`. */
  readonly noiseEnergy: readonly number[];
  /** Variance of the noise inside each entry of `steps`; a bound, because later steps undo part of earlier noise. */
  readonly noiseVariance: readonly (readonly number[])[];
  /** Share of positive labels as far as known; 1/2 before the first step. */
  readonly baseRate: number;
}

/** Sums over the records of all contributing sites, in units of records, one-hot order. */
export interface Sums {
  readonly gradient: Float64Array;
  readonly counts: Float64Array;
  /** Standard deviation of the noise in each coordinate of `gradient`; 0 without privacy. */
  readonly noise: number;
  /** At which the residuals of all rounds but the first are clipped; 1 clips nothing. */
  readonly residualBound: number;
}

// A gradient moves the weights by STEP / K in all, a share of 1 - MOMENTUM at once. The fields' own curvature misses how
// much they repeat each other, at worst K-fold; momentum keeps the ascent stable up to 2 (1 + MOMENTUM) / (1 - MOMENTUM) /
// STEP = 2.3 times K, a plain step of this length only up to 0.6 times K: it diverged where fields nearly coincide.
// These numbers were fixed on public data (Adult, Telco, Taiwan, ULB) and made-up data; they never depend on a bank's.
const STEP = 3.5;
const MOMENTUM = 0.6;
// Penalties as shares of noise * sqrt(rounds), the same for every data set.
const RIDGE_SHARE = 0.15;
const SMOOTH_SHARE = 0.5;
// The bins of the field whose neighbours are pulled together with exactly SMOOTH_SHARE.
const REFERENCE_BINS = 32;
// Half of the expected noise: later steps undo part of what earlier noise did, so all of it would be too much.
const SHRINKAGE = 0.5;
// No base rate is believed outside [RAREST, 1 - RAREST], whatever the noise says.
const RAREST = 1e-4;

export function startProgress(shape: ModelShape): Progress {
  const zeros = shape.sizes.map((size) => new Array<number>(size).fill(0));
  const noiseEnergy = shape.sizes.map(() => 0);
  const model = { intercept: 0, weights: zeros };
  return { baseRate: 0.5, model, steps: zeros, velocity: zeros, noiseEnergy, noiseVariance: zeros };
}

/** The penalty that suits sums of the given noise in a training of `rounds` steps. */
export function noisePenalty(noise: number, rounds: number): Penalty {
  const spread = noise * Math.sqrt(rounds);
  return { ridge: 1 + RIDGE_SHARE * spread, smooth: 1 + SMOOTH_SHARE * spread };
}

/**
 * The same roughness for every number of bins: over a field's range the integral of f'^2 is about B times the sum of
 * squared differences of neighbours, so a field of few wide bins is pulled together less.
 */
function penaltyOf(penalty: Penalty, ordered: number): Penalty {
  return { ridge: penalty.ridge, smooth: (penalty.smooth * ordered) / REFERENCE_BINS };
}

/** @param first whether this is the first step, taken at w = 0. @param penalty of a field of REFERENCE_BINS bins. */
export function ascend(progress: Progress, sums: Sums, shape: ModelShape, first: boolean, penalty: Penalty): Progress {
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
    intercept = learntLogit(baseRate, sums.residualBound);
    // What the gradient would have been had every record been given the rate just found, from the counts.
    for (let i = 0; i < gradient.length; i++) gradient[i] += (0.5 - baseRate) * counts[i];
  } else {
    intercept += total / (records * baseRate * (1 - baseRate) + 2 * totalNoise);
  }

  // That of the clipped loss is smaller; this one errs on the side of short steps.
  const curvature = baseRate * (1 - baseRate);
  const length = STEP / shape.sizes.length;
  const noiseEnergy = [...progress.noiseEnergy];
  const noiseVariance = progress.noiseVariance.map((field) => [...field]);
  const steps = progress.steps.map((field) => [...field]);
  const velocity = progress.velocity.map((field) => [...field]);
  const weights = steps.map((field, k) => {
    const ordered = shape.ordered[k];
    const from = offsets[k];
    const to = from + field.length;
    const diagonal = counts.subarray(from, to).map((count) => curvature * count);
    const own = penaltyOf(penalty, ordered);
    const direction = smoothingSolve(gradient.subarray(from, to), diagonal, ordered, own);
    for (let j = 0; j < field.length; j++) {
      velocity[k][j] = MOMENTUM * velocity[k][j] + (1 - MOMENTUM) * length * direction[j];
      field[j] += velocity[k][j];
    }
    if (sums.noise === 0) return [...field];
    // As if the momentum of every gradient had come to its end: a little too much for the last ones.
    const noise = solvedNoise(diagonal, ordered, own);
    noiseEnergy[k] += (length * sums.noise) ** 2 * noise.energy;
    for (let j = 0; j < field.length; j++) noiseVariance[k][j] += (length * sums.noise) ** 2 * noise.variance[j];
    const factor = shrinkage(smoothingEnergy(field, diagonal, ordered, own), SHRINKAGE * noiseEnergy[k]);
    // Adding 0 turns -0 into 0, which JSON cannot tell apart.
    return field.map((weight) => factor * weight + 0);
  });
  return { baseRate, model: { intercept, weights }, steps, velocity, noiseEnergy, noiseVariance };
}
