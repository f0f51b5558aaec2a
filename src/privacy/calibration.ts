/**
 * Calibration: the least noise multiplier for which a plan of subsampled releases keeps (epsilon, delta).
 *
 * The composed epsilon falls as the noise grows, so a bracket is narrowed until its ends agree to 2^-12 of themselves;
 * its upper end, for which the accountant has confirmed the target, is the answer.
 * Limit: what rounds up is the noise. The answer is up to 2^-12 (0.03 %) above the least noise the accountant would
 * accept.
 *
 * GUARANTEES.md: "Noise calibration"
 */
import { PrivacyError } from '../errors.ts';
import { composedEpsilon, type PrivacyEvent } from './accountant.ts';

export const GUARANTEE = 'Noise calibration';

const LEAST = 2 ** -6;
const MOST = 2 ** 24;
const RELATIVE_WIDTH = 2 ** -12;

/** What is asked of the noise. */
export interface CalibrationWish {
  /** Probability that a customer is in the sample of a release, in (0, 1]; 1 for no sampling. */
  samplingRate: number;
  /** Number of releases, at least 1. */
  times: number;
  epsilon: number;
  delta: number;
  /** What else is released on the same customers and charged to the same (epsilon, delta). */
  alongside?: readonly PrivacyEvent[];
}

/**
 * The least noise multiplier (standard deviation over L2 sensitivity), rounded up.
 *
 * @throws PrivacyError PRIVACY_PARAMETER when no noise suffices, because `alongside` alone exceeds the target.
 */
export function noiseMultiplierFor(wish: CalibrationWish): number {
  const { samplingRate, times, epsilon, delta, alongside = [] } = wish;
  if (!(epsilon > 0) || !(times >= 1)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'epsilon must be positive and there must be a release', {
      where: 'noiseMultiplierFor',
    });
  }
  const keeps = (noiseMultiplier: number): boolean =>
    composedEpsilon([...alongside, { kind: 'subsampledGaussian', noiseMultiplier, samplingRate, times }], delta) <=
    epsilon;
  let high = 1;
  while (!keeps(high)) {
    high *= 2;
    if (high > MOST) {
      throw new PrivacyError('PRIVACY_PARAMETER', 'no amount of noise keeps this epsilon and delta', {
        where: 'noiseMultiplierFor',
        fix: 'use a larger epsilon or delta, or release less alongside',
      });
    }
  }
  let low = high / 2;
  while (low >= LEAST && keeps(low)) {
    high = low;
    low /= 2;
  }
  while (high > low * (1 + RELATIVE_WIDTH)) {
    const middle = Math.sqrt(low * high);
    if (keeps(middle)) high = middle;
    else low = middle;
  }
  return high;
}
