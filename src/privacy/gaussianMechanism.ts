/**
 * The Gaussian mechanism on integer vectors: how much discrete noise a loss needs, and what loss a noise gives.
 *
 * Adding N_Z(0, sigma^2) to every coordinate of an integer vector of L2 sensitivity D is mu-GDP with
 *   mu = D / sqrt(sigma^2 - 4),
 * up to a factor e^(10^-27) per million coordinates. Proof in GUARANTEES.md: it is, to that factor, a post-processing
 * of the continuous Gaussian of variance sigma^2 - 4 (convolution lemma, Peikert 2010, theorem 3.1; smoothing of Z by
 * variance 4). So the discreteness is paid for explicitly, by 4 units of variance, and GDP composition is exact.
 *
 * GUARANTEES.md: "Gaussian mechanism on integer vectors"
 */
import { PrivacyError } from '../errors.ts';
import type { RandomSource } from '../random.ts';
import { CENTRE_BITS, centredGaussianSampler, discreteGaussianSampler, LARGEST_VARIANCE } from './discreteGaussian.ts';
import { roundUp } from './gdp.ts';
import { approximately, type Rational, rationalAbove, squareOf } from './rational.ts';

export const GUARANTEE = 'Gaussian mechanism on integer vectors';

/** Variance given up to the discretisation (see above). */
const DISCRETISATION_VARIANCE = 4;

/** The noise of one release and the loss it actually has. */
export interface NoiseLevel {
  /** Standard-deviation parameter, a multiple of 1/1024. */
  sigma: Rational;
  /** Its exact square, the parameter of the sampler. */
  sigmaSquared: Rational;
  /** Loss of the release, rounded up; at most the loss asked for. */
  muSquared: number;
}

/**
 * The least noise (to 1/1024) for which a release of the given sensitivity is mu-GDP with mu^2 <= muSquared.
 *
 * @param sensitivitySquared square of the L2 sensitivity in the units of the integer grid, > 0.
 * @throws PrivacyError PRIVACY_PARAMETER for noise the sampler cannot draw, so that no plan promises it.
 */
export function noiseFor(sensitivitySquared: number, muSquared: number): NoiseLevel {
  if (!(sensitivitySquared > 0) || !(muSquared > 0)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'sensitivity and loss must be positive', { where: 'noiseFor' });
  }
  // 2^-48 covers the roundings of the division, the sum and the square root with room to spare.
  const variance = (sensitivitySquared / muSquared + DISCRETISATION_VARIANCE) * (1 + 2 ** -48);
  const sigma = rationalAbove(Math.sqrt(variance));
  const level = { sigma, sigmaSquared: squareOf(sigma) };
  if (level.sigmaSquared.num > LARGEST_VARIANCE * level.sigmaSquared.den) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'the noise that this loss asks for is larger than can be drawn', {
      where: 'noiseFor',
      fix: 'use a larger epsilon, fewer records per customer, or a coarser residual grid',
    });
  }
  return { ...level, muSquared: Math.min(muSquared, lossOf(sensitivitySquared, level.sigmaSquared)) };
}

/**
 * The least noise (to 1/1024) that stands in for continuous Gaussian noise of standard deviation `noiseMultiplier` * D:
 * sigma^2 >= D^2 noiseMultiplier^2 + 4. It holds for releases of a Poisson sample too (GUARANTEES.md), so the
 * accountant may be asked with `noiseMultiplier`.
 *
 * @param sensitivitySquared D^2, square of the L2 sensitivity of one release on the integer grid, > 0.
 * @param noiseMultiplier standard deviation over D, > 0.
 * @throws PrivacyError PRIVACY_PARAMETER for noise the sampler cannot draw.
 */
export function noiseForMultiplier(
  sensitivitySquared: number,
  noiseMultiplier: number,
): { sigma: Rational; sigmaSquared: Rational } {
  if (!(noiseMultiplier > 0)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'the noise multiplier must be positive', { where: 'noiseMultiplier' });
  }
  // Rounded down, so that the noise is rounded up: squaring and dividing cost two relative units.
  const { sigma, sigmaSquared } = noiseFor(sensitivitySquared, (1 / noiseMultiplier ** 2) * (1 - 2 ** -50));
  return { sigma, sigmaSquared };
}

/** mu^2 of a release with that noise, rounded up. @throws PrivacyError when sigma^2 <= 4: there is no bound then. */
export function lossOf(sensitivitySquared: number, sigmaSquared: Rational): number {
  const effective: Rational = {
    num: sigmaSquared.num - BigInt(DISCRETISATION_VARIANCE) * sigmaSquared.den,
    den: sigmaSquared.den,
  };
  if (effective.num <= 0n) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'the variance must exceed 4', { where: 'sigmaSquared' });
  }
  return roundUp((sensitivitySquared / approximately(effective)) * (1 + 2 ** -49));
}

/**
 * The histogram plus independent exact discrete Gaussian noise in every coordinate.
 *
 * @param histogram exact integers (|x| < 2^52).
 * @returns exact integers, a new array.
 */
export function addNoise(histogram: Float64Array, sigmaSquared: Rational, random: RandomSource): Float64Array {
  const sample = discreteGaussianSampler(sigmaSquared);
  const noisy = new Float64Array(histogram.length);
  for (let i = 0; i < histogram.length; i++) {
    const value = histogram[i];
    if (!Number.isSafeInteger(value)) {
      throw new PrivacyError('PRIVACY_PARAMETER', 'noise is added to exact integers only', {
        where: `coordinate ${i}`,
      });
    }
    noisy[i] = value + sample(random);
  }
  return noisy;
}

/** Largest magnitude of a centre. */
const LARGEST_CENTRE = 2 ** 32;

/**
 * The nearest point around which a vector of reals can be released: every coordinate to a multiple of 2^-20, at most
 * 2^-21 away, which moves two neighbouring vectors apart by at most sqrt(coordinates) 2^-20 more.
 *
 * @throws PrivacyError PRIVACY_PARAMETER for a coordinate of 2^32 or more, or one that is no number.
 */
export function centresOf(reals: Float64Array): Float64Array {
  return reals.map((value, i) => {
    if (!(Math.abs(value) < LARGEST_CENTRE)) {
      throw new PrivacyError('PRIVACY_PARAMETER', 'a centre must be below 2^32', { where: `coordinate ${i}` });
    }
    // Exact: a multiple of 2^-20 below 2^32 has 52 bits.
    return Math.round(value * 2 ** CENTRE_BITS) / 2 ** CENTRE_BITS;
  });
}

/**
 * A vector of reals as integers, rounded and noised in one: an exact draw of N_Z(centre, sigma^2) in every coordinate.
 * Its loss is that of `addNoise`; the rounding costs nothing (GUARANTEES.md, "Draws around real centres").
 *
 * @param centres as `centresOf` gives them.
 * @returns exact integers, a new array.
 */
export function drawAround(centres: Float64Array, sigmaSquared: Rational, random: RandomSource): Float64Array {
  const sample = centredGaussianSampler(sigmaSquared);
  return centres.map((centre) => sample(centre, random));
}
