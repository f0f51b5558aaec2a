/**
 * Exact sampling from the discrete Gaussian N_Z(0, sigma^2) with rational sigma^2.
 *
 * Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020
 * (arXiv 2004.00010), algorithms 1 to 3: a discrete Laplace proposal of scale t = floor(sigma) + 1, accepted with
 * probability exp(-(|Y| - sigma^2/t)^2 / (2 sigma^2)), where every Bernoulli(exp(-gamma)) is reduced to
 * Bernoulli(gamma / k) of rational gamma.
 *
 * Exactness. Bernoulli(q) is "a uniform real U in [0, 1) is below q". U is revealed 32 bits at a time. A double
 * `approx` with |approx - q| <= error brackets q; both 2^-32 * word and the brackets decide unless U and q lie in the
 * same sliver of width 2^-32 + 2 * error, and then integers decide (`decideExactly`), continuing the SAME U. The
 * double therefore never changes an outcome, it only saves work. Only +, -, *, / and comparison of IEEE 754 are
 * used, never Math.exp, so the stated error bounds hold on every conforming machine.
 *
 * A centre that is no integer (`centredGaussianSampler`) is met by the same algorithm: propose a side of the centre and
 * a distance, whole steps plus the distance of the side's first integer, with probability proportional to exp(-distance
 * / t), and accept it in the same way. Centres are multiples of 2^-20, so distances are exact and integers still
 * decide.
 *
 * Limit: sigma^2 <= 2^62, 2^52 around a centre. The running time depends on the drawn value and on the centre's
 * fraction (a timing side channel, as in every published rejection sampler); do not let an adversary time a single
 * draw.
 *
 * GUARANTEES.md: "Discrete Gaussian noise"
 */
import { PrivacyError } from '../errors.ts';
import type { RandomSource } from '../random.ts';
import { integerSqrt, type Rational } from './rational.ts';

export const GUARANTEE = 'Discrete Gaussian noise';

const TWO_32 = 2 ** 32;
// Bound once: in a test runner's sandbox the look-up of a global costs more than the arithmetic of a draw.
const { abs, floor } = Math;
/** Largest sigma^2 the sampler draws. */
export const LARGEST_VARIANCE = 1n << 62n;

/** Draws one sample per call. The parameter is prepared once, so this is the form for whole histograms. */
export type DiscreteGaussian = (random: RandomSource) => number;

/**
 * @param sigmaSquared the variance parameter, in [0, 2^62].
 * @throws PrivacyError PRIVACY_PARAMETER outside that range.
 */
export function discreteGaussianSampler(sigmaSquared: Rational): DiscreteGaussian {
  requireVariance(sigmaSquared, LARGEST_VARIANCE);
  if (sigmaSquared.num === 0n) return () => 0;
  const { distance, accept } = prepare(sigmaSquared);
  return (random) => {
    for (;;) {
      // Discrete Laplace of scale t (algorithm 2): a magnitude and a sign, zero kept once.
      const magnitude = distance(random);
      const negative = (random.nextUint32() & 1) === 1;
      if (negative && magnitude === 0) continue;
      if (accept(magnitude, random)) return negative ? -magnitude : magnitude;
    }
  };
}

/** A centre is a multiple of 2^-CENTRE_BITS. */
export const CENTRE_BITS = 20;
/** Largest sigma^2 around a centre: distances, multiples of 2^-20, are exact up to 2^33, 128 times its root. */
export const LARGEST_CENTRED_VARIANCE = 1n << 52n;
const STEPS = 2 ** CENTRE_BITS;

/** Draws an integer z with probability proportional to exp(-(z - centre)^2 / (2 sigma^2)). */
export type CentredGaussian = (centre: number, random: RandomSource) => number;

/**
 * @param sigmaSquared the variance parameter, in (0, 2^52]; a centre must be a multiple of 2^-20 below 2^33.
 * @throws PrivacyError PRIVACY_PARAMETER outside that range, also for a centre.
 */
export function centredGaussianSampler(sigmaSquared: Rational): CentredGaussian {
  requireVariance(sigmaSquared, LARGEST_CENTRED_VARIANCE);
  if (sigmaSquared.num === 0n) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'a draw around a centre needs a variance', { where: 'sigmaSquared' });
  }
  const { distance, accept, scale } = prepare(sigmaSquared);
  return (centre, random) => {
    const below = floor(centre);
    const fraction = (centre - below) * STEPS;
    if (!Number.isInteger(fraction) || abs(below) > TWO_32) {
      throw new PrivacyError('PRIVACY_PARAMETER', 'a centre must be a multiple of 2^-20', { where: 'centre' });
    }
    for (;;) {
      const up = (random.nextUint32() & 1) === 1;
      const first = up ? STEPS - fraction : fraction;
      // e^(-distance / t) of the whole distance: that of the side's first integer, times that of the steps beyond it.
      if (!bernoulliExpFraction(first, scale * STEPS, random)) continue;
      const steps = distance(random);
      if (accept(steps + first / STEPS, random)) return up ? below + 1 + steps : below - steps;
    }
  };
}

function requireVariance({ num, den }: Rational, largest: bigint): void {
  if (den <= 0n || num < 0n || num > largest * den) {
    throw new PrivacyError('PRIVACY_PARAMETER', `the variance must be a rational in [0, ${largest}]`, {
      where: 'sigmaSquared',
    });
  }
}

/** Proposals and their acceptance at one variance > 0. */
interface Prepared {
  /** t, the scale of proposals. */
  readonly scale: number;
  /** A whole number k >= 0 with probability proportional to exp(-k / t). */
  distance(random: RandomSource): number;
  /** Bernoulli(exp(-(magnitude - sigma^2/t)^2 / (2 sigma^2))); `magnitude` is a multiple of 2^-CENTRE_BITS. */
  accept(magnitude: number, random: RandomSource): boolean;
}

function prepare({ num, den }: Rational): Prepared {
  const scaleExact = integerSqrt(num / den) + 1n;
  // Safe: scale <= 2^31 + 1.
  const scale = Number(scaleExact);
  // Relative error of each: two conversions and one division, below 4 * 2^-53; the quotient adds one more.
  const variance = Number(num) / Number(den);
  const centre = variance / scale;
  const uniformLimit = TWO_32 - (TWO_32 % scale);

  function distance(random: RandomSource): number {
    // U + t V (algorithm 2).
    for (;;) {
      let word = random.nextUint32();
      while (word >= uniformLimit) word = random.nextUint32();
      const remainder = word % scale;
      if (!bernoulliExpFraction(remainder, scale, random)) continue;
      let periods = 0;
      while (bernoulliExpFraction(1, 1, random)) periods++;
      // Exact below 2^53: reaching it would take 2^22 successive events of probability 1/e.
      return remainder + scale * periods;
    }
  }

  function accept(magnitude: number, random: RandomSource): boolean {
    const apart = magnitude - centre;
    const gamma = (apart * apart) / (2 * variance);
    // With u = 2^-53: |centre error| <= 6u centre; the subtraction adds u |apart|; so the absolute error of
    // `apart` is at most e = 6u centre + u |apart|, that of its square 2 e |apart| + e^2 + rounding, and the
    // division by 2 sigma^2 (relative error 4u) gives
    //   |error of gamma| <= (2 e |apart| + e^2) / (2 sigma^2) + 8u gamma.
    // e <= 6u (centre + |apart|), e^2 is below u e |apart| + 36u^2 centre^2 terms; the bound below is at least
    // four times the sum of all of them: 64u = 2^-47.
    const error = 2 ** -47 * (gamma + (centre * (abs(apart) + 2 ** -40 * centre)) / variance);
    let whole = floor(gamma);
    let exact: Fraction | null = null;
    if (floor(gamma - error) !== whole || floor(gamma + error) !== whole) {
      exact = exactGamma(magnitude);
      whole = Number(exact.num / exact.den);
    }
    // exp(-gamma) = exp(-1)^whole * exp(-rest) with rest in [0, 1) (algorithm 1).
    for (let i = 0; i < whole; i++) if (!bernoulliExpFraction(1, 1, random)) return false;
    // Exact subtraction (Sterbenz) except when the exact path moved `whole`, where |rest| <= 2 error anyway.
    const rest = gamma - whole;
    for (let k = 1; ; k++) {
      const word = random.nextUint32();
      const low = ((rest - error) / k) * TWO_32;
      const high = ((rest + error) / k) * TWO_32;
      // One more relative 2^-52 for the two operations above.
      let below: boolean;
      if (word + 1 <= low * (1 - 2 ** -50)) below = true;
      else if (word >= high * (1 + 2 ** -50)) below = false;
      else {
        exact ??= exactGamma(magnitude);
        const fraction = exact.num - (exact.num / exact.den) * exact.den;
        below = decideExactly(word, fraction, exact.den * BigInt(k), random);
      }
      if (!below) return (k & 1) === 1;
    }
  }

  /** gamma = (|y| t - sigma^2)^2 / (2 sigma^2 t^2) over integers, |y| in steps of 2^-CENTRE_BITS. */
  function exactGamma(magnitude: number): Fraction {
    const difference = exactSteps(magnitude) * scaleExact * den - (num << BigInt(CENTRE_BITS));
    return {
      num: difference * difference,
      den: (2n * num * den * scaleExact * scaleExact) << BigInt(2 * CENTRE_BITS),
    };
  }

  return { scale, distance, accept };
}

/** Of a whole number below 2^53, or of a multiple of 2^-CENTRE_BITS below 2^33. */
function exactSteps(magnitude: number): bigint {
  const whole = floor(magnitude);
  return (BigInt(whole) << BigInt(CENTRE_BITS)) + BigInt((magnitude - whole) * STEPS);
}

interface Fraction {
  num: bigint;
  den: bigint;
}

/** Bernoulli(exp(-num/den)) for integers 0 <= num <= den < 2^53 (algorithm 1 with gamma <= 1). */
function bernoulliExpFraction(num: number, den: number, random: RandomSource): boolean {
  for (let k = 1; ; k++) {
    // The product and the quotient have a relative error of 2^-53 each and the scaling by 2^32 none: 2^-50 brackets it
    // with room to spare.
    const threshold = (num / (den * k)) * TWO_32;
    const word = random.nextUint32();
    let below: boolean;
    if (word + 1 <= threshold * (1 - 2 ** -50)) below = true;
    else if (word >= threshold * (1 + 2 ** -50)) below = false;
    else below = decideExactly(word, BigInt(num), BigInt(den) * BigInt(k), random);
    if (!below) return (k & 1) === 1;
  }
}

/**
 * Whether the uniform real whose first 32 bits are `firstWord` lies below num/den: the comparison is carried on word
 * by word on integers until the prefix differs from that of num/den.
 */
export function decideExactly(firstWord: number, num: bigint, den: bigint, random: RandomSource): boolean {
  let rest = num;
  let word = BigInt(firstWord);
  for (;;) {
    rest <<= 32n;
    const digit = rest / den;
    if (word < digit) return true;
    if (word > digit) return false;
    rest -= digit * den;
    if (rest === 0n) return false;
    word = BigInt(random.nextUint32());
  }
}
