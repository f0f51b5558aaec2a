/**
 * The accountant: what a list of releases on the same customers costs together.
 *
 * Gaussian releases alone: the exact value of Gaussian differential privacy (gdp.ts). With subsampled releases: privacy
 * loss distributions (refinement.ts), or Rényi differential privacy (rdp.ts) where those are out of range.
 * Every answer is an upper bound of the true value, rounded up. Composition holds for releases chosen adaptively.
 *
 * Limit: what is not in the list is not counted. Poisson sampling is meant literally: each customer is in or out by an
 * independent coin; shuffled or fixed-size batches are not covered.
 *
 * GUARANTEES.md: "Composition"
 */
import { PrivacyError } from '../errors.ts';
import { gdpDelta, gdpEpsilon, roundDown, roundUp, sumUp } from './gdp.ts';
import type { Release } from './lossDistribution.ts';
import { rdpDelta, rdpEpsilon } from './rdp.ts';
import { distributionDelta, distributionEpsilon } from './refinement.ts';

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
  require('delta', delta > 0 && delta < 1, 'strictly between 0 and 1');
  const { gaussianMuSquared, subsampled } = merge(events);
  if (subsampled.length === 0) return gdpEpsilon(roundUp(Math.sqrt(gaussianMuSquared)), delta);
  const { bound, settled } = distributionEpsilon(releasesOf(gaussianMuSquared, subsampled), delta);
  return settled ? bound : Math.min(bound, rdpEpsilon(events, delta));
}

/**
 * The delta for which the composition is (epsilon, delta)-DP, rounded up.
 *
 * @param epsilon in [0, 10^6].
 */
export function composedDelta(events: readonly PrivacyEvent[], epsilon: number): number {
  require('epsilon', epsilon >= 0 && epsilon <= 1e6, 'in [0, 10^6]');
  const { gaussianMuSquared, subsampled } = merge(events);
  if (subsampled.length === 0) return gdpDelta(roundUp(Math.sqrt(gaussianMuSquared)), epsilon);
  const renyi = rdpDelta(events, epsilon);
  return Math.min(renyi, distributionDelta(releasesOf(gaussianMuSquared, subsampled), epsilon, renyi).bound);
}

function releasesOf(gaussianMuSquared: number, subsampled: readonly Release[]): Release[] {
  if (gaussianMuSquared === 0) return [...subsampled];
  // Gaussians compose to one Gaussian; less noise than there is, so more loss.
  const noiseMultiplier = roundDown(1 / roundUp(Math.sqrt(gaussianMuSquared)));
  return [...subsampled, { noiseMultiplier, samplingRate: 1, times: 1 }];
}

/**
 * All unsampled Gaussians as one mu^2, rounded up, and equal subsampled releases as one line.
 *
 * @throws PrivacyError PRIVACY_PARAMETER for an event out of range.
 */
function merge(events: readonly PrivacyEvent[]): {
  gaussianMuSquared: number;
  subsampled: Release[];
} {
  const losses: number[] = [];
  const lines = new Map<string, Release>();
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
