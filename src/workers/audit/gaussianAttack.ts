/**
 * The strongest attack on releases with Gaussian noise, one or several, of one bank or summed over honest banks.
 *
 * The likelihood ratio of a discrete Gaussian with known shift d and variance s^2 is exp((<seen - known, d> - |d|^2 / 2) /
 * s^2), so the statistic is linear and nothing is lost to its choice; over independent releases the exponents add.
 *
 * GUARANTEES.md: "Privacy audit"
 */
import type { BinnedData } from '../../learning/binned.ts';
import { addNoise } from '../../learning/site.ts';
import { sumOf } from '../../learning/train.ts';
import { approximately, type Rational } from '../../privacy/rational.ts';
import type { RandomSource } from '../../random.ts';
import type { Canary } from './setting.ts';

/** One release: the exact integers of a bank, and what leaves it. */
export interface AuditedRelease {
  exact(data: BinnedData): Float64Array;
  noisy(data: BinnedData, random: RandomSource): Float64Array;
  /** Variance of the noise that one bank adds to a coordinate. */
  variance(coordinate: number): number;
}

/** A release made by `addNoise` of what `exact` computes. */
export function releaseWith(exact: (data: BinnedData) => Float64Array, sigmaSquared: Rational): AuditedRelease {
  const variance = approximately(sigmaSquared);
  return { exact, noisy: (data, random) => addNoise(exact(data), sigmaSquared, random), variance: () => variance };
}

/** A hundredth of the variance: a tenth of the noise. */
export function tenthOf({ num, den }: Rational): Rational {
  return { num, den: den * 100n };
}

/**
 * @param without the bank's rows without the customer. @param present with.
 * @param honest banks whose noise the attacker does not know; what he sees is their sum. The others' records he knows, so
 *   they may as well have none.
 */
export function attackOn(
  releases: readonly AuditedRelease[],
  without: BinnedData,
  present: BinnedData,
  honest = 1,
): Canary['trial'] {
  const empty = { rows: 0, sizes: without.sizes, bins: new Uint16Array(0), labels: new Uint8Array(0) };
  const known = releases.map(({ exact }) => exact(without));
  const directions = releases.map(({ exact, variance }, i) =>
    exact(present).map((value, j) => (value - known[i][j]) / (variance(j) * honest)),
  );
  return (isPresent, random) => {
    let statistic = 0;
    for (const [i, { noisy }] of releases.entries()) {
      const messages = [noisy(isPresent ? present : without, random)];
      for (let bank = 1; bank < honest; bank++) messages.push(noisy(empty, random));
      const seen = sumOf(messages);
      for (let j = 0; j < seen.length; j++) statistic += (seen[j] - known[i][j]) * directions[i][j];
    }
    return statistic;
  };
}
