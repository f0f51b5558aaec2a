/**
 * Gradient sums as short integers: rotated, scaled, cut off where the ring ends, and rounded together with the noise.
 *
 * Source: the distributed discrete Gaussian mechanism (Kairouz, Liu, Steinke 2021, arXiv 2102.06387, algorithms 1 and
 * 2), with one change. There a vector is rounded first, and rounding adds up to sqrt(d) to its sensitivity; that is
 * little where a whole client is protected, and 3 to 6 times the sensitivity at 16 bits where one customer of a bank
 * is. Here the integers are drawn around the real coordinates (`drawAround`), so that rounding costs nothing at all.
 *
 * Sensitivity. The exact sum is an integer vector that one customer moves by at most R. Rotation and scale are linear
 * and keep lengths, cutting off is 1-Lipschitz; what remains are the roundings of doubles, which are bounded because
 * every coordinate of the exact sum is first cut off at 2^40.
 *
 * GUARANTEES.md: "Rotated gradient sums". Limit: un-noised. Only what `drawAround` makes of it may leave the node.
 */
import { LearningError } from '../../errors.ts';
import { CENTRE_BITS } from '../../privacy/discreteGaussian.ts';
import { centresOf } from '../../privacy/gaussianMechanism.ts';
import { roundUp } from '../../privacy/gdp.ts';
import type { RandomSource } from '../../random.ts';
import { type Rotation, rotationError } from './rotation.ts';

export const GUARANTEE = 'Rotated gradient sums';

export interface GradientCode {
  readonly rotation: Rotation;
  /** Encoded integers that stand for one unit of the exact sum, > 0. */
  readonly scale: number;
  /** Largest magnitude of an encoded coordinate before noise. */
  readonly limit: number;
}

/** Coordinates of an exact sum are cut off here, so that no rounding of a double depends on more. */
const MOST = 2 ** 40;

/**
 * @param exact integers. @returns the centres of the draw, |x| <= limit; a new array.
 * @throws LearningError TRAINING_INPUT for anything but integers.
 */
export function encodeSum(exact: Float64Array, code: GradientCode): Float64Array {
  if (!exact.every(Number.isSafeInteger)) {
    throw new LearningError('TRAINING_INPUT', 'only integers can be encoded', { where: 'gradient code' });
  }
  const { scale, limit } = code;
  const rotated = code.rotation.apply(exact.map(cut));
  return centresOf(rotated.map((value) => Math.max(-limit, Math.min(limit, value * scale))));
}

/**
 * The same for numbers that are private already: rounded by chance to one of the two neighbouring integers, without
 * bias.
 *
 * @param released post-processing of noisy releases, in units of the exact sum; what is no number counts as 0.
 */
export function encodeReleased(released: Float64Array, code: GradientCode, random: RandomSource): Float64Array {
  const { scale, limit } = code;
  const rotated = code.rotation.apply(released.map((value) => (Number.isNaN(value) ? 0 : cut(value))));
  return rotated.map((value) => {
    const short = Math.max(-limit, Math.min(limit, value * scale));
    return Math.floor(short + random.nextUint32() / 2 ** 32);
  });
}

function cut(value: number): number {
  return Math.max(-MOST, Math.min(MOST, value));
}

/** What the sum of encoded vectors stands for, in units of the exact sum. */
export function decodeSum(sum: Float64Array, { rotation, scale }: Pick<GradientCode, 'rotation' | 'scale'>) {
  return rotation.undo(sum).map((value) => value / scale);
}

/**
 * Square of the L2 distance of the centres of two exact sums that are at most `exact` apart, rounded up.
 *
 * @param exact L2 sensitivity of the exact sum. @param dimension of the vectors. @param scale as in GradientCode.
 */
export function encodedSensitivitySquared(exact: number, dimension: number, scale: number): number {
  const root = roundUp(Math.sqrt(dimension));
  // Each of the two vectors, of norm sqrt(d) 2^40 at most, is off by the rotation's error and one rounding of the
  // product.
  const doubles = 2 * root * MOST * (rotationError(dimension) + 2 ** -52);
  const grid = root * 2 ** -CENTRE_BITS;
  // Few roundings, each below 2^-53.
  return roundUp((exact * scale + doubles * scale + grid) ** 2 * (1 + 2 ** -48));
}
