/**
 * The accountant: what a list of releases on the same customers costs together.
 *
 * Gaussian releases alone: the exact value of Gaussian differential privacy (gdp.ts). With subsampled releases: Rényi
 * differential privacy (rdp.ts).
 * Every answer is an upper bound of the true value, rounded up. Composition holds for releases chosen adaptively.
 *
 * Limit: what is not in the list is not counted. Poisson sampling is meant literally: each customer is in or out by an
 * independent coin; shuffled or fixed-size batches are not covered.
 *
 * GUARANTEES.md: "Composition"
 */
import { PrivacyError } from '../errors.ts';
import { gdpDelta, gdpEpsilon, roundUp, sumUp } from './gdp.ts';
import { rdpEpsilon } from './rdp.ts';

export const GUARANTEE = 'Composition';

export type PrivacyEvent =
  | {
      kind: 'gaussian';
      /** Standard deviation of the noise over the L2 sensitivity. */
      noiseMultiplier: number;
      times: number;
    }
  | {
      kind: 'subsampledGaussian';
      noiseMultiplier: number;
      /** Probability that a customer is in the sample, in [0, 1]. */
      samplingRate: number;
      times: number;
    };

/**
 * The epsilon for which the composition is (epsilon, delta)-DP, rounded up; 0 for no events.
 *
 * @param delta in (0, 1).
 * @throws PrivacyError PRIVACY_PARAMETER for events or a delta out of range, or an epsilon above 10^6.
 */
export function composedEpsilon(events: readonly PrivacyEvent[], delta: number): number {
  const { gaussianMuSquared, subsampled } = merge(events);
  if (subsampled.length === 0) return gdpEpsilon(roundUp(Math.sqrt(gaussianMuSquared)), delta);
  return rdpEpsilon(events, delta);
}

/** The delta for which the composition is (epsilon, delta)-DP, rounded up. @param epsilon in [0, 10^6]. */
export function composedDelta(events: readonly PrivacyEvent[], epsilon: number): number {
  const { gaussianMuSquared, subsampled } = merge(events);
  if (subsampled.length === 0) return gdpDelta(roundUp(Math.sqrt(gaussianMuSquared)), epsilon);
  // rdpEpsilon falls as delta grows: the least delta on a grid of 2^-8 in its logarithm.
  let low = 2 ** -1000;
  let high = 1 - 2 ** -53;
  if (rdpEpsilon(events, high) > epsilon) return 1;
  while (high / low > 1 + 2 ** -8) {
    const middle = Math.sqrt(low) * Math.sqrt(high);
    if (rdpEpsilon(events, middle) <= epsilon) high = middle;
    else low = middle;
  }
  return high;
}

/** A subsampled release with 0 < samplingRate < 1, each (noiseMultiplier, samplingRate) once. */
export interface SubsampledReleases {
  noiseMultiplier: number;
  samplingRate: number;
  times: number;
}

/**
 * All unsampled Gaussians as one mu^2, rounded up, and equal subsampled releases as one line.
 *
 * @throws PrivacyError PRIVACY_PARAMETER for an event out of range.
 */
export function merge(events: readonly PrivacyEvent[]): {
  gaussianMuSquared: number;
  subsampled: SubsampledReleases[];
} {
  const losses: number[] = [];
  const lines = new Map<string, SubsampledReleases>();
  for (const event of events) {
    const { noiseMultiplier, times } = event;
    const samplingRate = event.kind === 'gaussian' ? 1 : event.samplingRate;
    require('noiseMultiplier', noiseMultiplier >= 1e-3 && noiseMultiplier <= 1e9, 'in [10^-3, 10^9]');
    require('samplingRate', samplingRate >= 0 && samplingRate <= 1, 'in [0, 1]');
    require('times', Number.isSafeInteger(times) && times >= 0, 'a whole number');
    if (samplingRate === 0 || times === 0) continue;
    if (samplingRate === 1) {
      losses.push(roundUp(roundUp(roundUp(times / noiseMultiplier) / noiseMultiplier)));
      continue;
    }
    const key = `${noiseMultiplier} ${samplingRate}`;
    const line = lines.get(key);
    if (line === undefined) lines.set(key, { noiseMultiplier, samplingRate, times });
    else line.times += times;
  }
  return { gaussianMuSquared: sumUp(losses), subsampled: [...lines.values()] };
}

function require(where: string, holds: boolean, must: string): void {
  if (!holds) throw new PrivacyError('PRIVACY_PARAMETER', `${where} must be ${must}`, { where });
}
