/**
 * The loss of a sum of independent discrete Gaussians, for trust mode `sum`.
 *
 * Source: Kairouz, Liu, Steinke 2021 (arXiv 2102.06387), corollary 12: the sum of n variables N_Z(0, s^2) and
 * N_Z(0, n s^2) have probabilities within e^(+-tau) of each other,
 *   tau = 10 sum_{k=1}^{n-1} e^(-2 pi^2 s^2 k / (k+1)).
 * With the argument for one discrete Gaussian (gaussianMechanism.ts) the sum has the loss of a continuous Gaussian of
 * variance n s^2 - 4, up to a slack in epsilon. Both proofs are in GUARANTEES.md.
 *
 * Rounding: both numbers up. Limit: s^2 >= 4 and n <= 10^6, so that the slack is below 2 * 10^-16 per coordinate.
 *
 * GUARANTEES.md: "Sum of discrete Gaussians"
 */
import { PrivacyError } from '../errors.ts';
import { lossOf } from './gaussianMechanism.ts';
import { roundUp } from './gdp.ts';
import { approximately, type Rational } from './rational.ts';

export const GUARANTEE = 'Sum of discrete Gaussians';

const LEAST_LOCAL_VARIANCE = 4n;
const MOST_PARTIES = 1_000_000;

/** Loss of a release whose noise is a sum. */
export interface SumLoss {
  /** mu^2 of the continuous Gaussian mechanism that stands in for the release, rounded up. */
  muSquared: number;
  /**
   * A release that is (epsilon, delta)-DP with mu is, with this noise, (epsilon + epsilonSlack, delta e^epsilonSlack)-DP;
   * the slacks of several releases add up.
   */
  epsilonSlack: number;
}

/**
 * @param sensitivitySquared square of the L2 sensitivity of the sum in units of the integer grid, > 0.
 * @param localSigmaSquared variance parameter of each party's own noise, at least 4.
 * @param parties number of honest parties whose noise is in the sum: those that sent, less those that collude.
 * @param coordinates length of the released vector.
 * @throws PrivacyError PRIVACY_PARAMETER for a smaller local variance or numbers out of range.
 */
export function sumLossOf(
  sensitivitySquared: number,
  localSigmaSquared: Rational,
  parties: number,
  coordinates: number,
): SumLoss {
  const { num, den } = localSigmaSquared;
  require('sensitivitySquared', sensitivitySquared > 0 && Number.isFinite(sensitivitySquared), 'positive');
  require('parties', Number.isInteger(parties) && parties >= 1 && parties <= MOST_PARTIES, 'in [1, 10^6]');
  require('coordinates', Number.isSafeInteger(coordinates) && coordinates >= 0, 'a whole number');
  require('localSigmaSquared', den > 0n && num >= LEAST_LOCAL_VARIANCE * den, 'at least 4: more noise, or fewer sites');
  const muSquared = lossOf(sensitivitySquared, { num: num * BigInt(parties), den });
  // 8e per coordinate of "Gaussian mechanism on integer vectors", e < 2 * 10^-34, and twice tau.
  const perCoordinate = 1.6e-33 + 2 * convolutionSlack(approximately(localSigmaSquared), parties);
  return { muSquared, epsilonSlack: roundUp(roundUp(coordinates * perCoordinate)) };
}

/** tau of the corollary, rounded up. */
function convolutionSlack(localVariance: number, parties: number): number {
  const rate = 2 * Math.PI * Math.PI * localVariance * (1 - 2 ** -48);
  let sum = 0;
  // k / (k+1) grows with k: the later terms are at most the last one computed, which is taken for all of them.
  const computed = Math.min(parties - 1, 64);
  for (let k = 1; k <= computed; k++) sum += Math.exp((-rate * k) / (k + 1));
  if (parties - 1 > computed) sum += (parties - 1 - computed) * Math.exp((-rate * 64) / 65);
  return 10 * sum * (1 + 2 ** -32);
}

function require(where: string, holds: boolean, must: string): void {
  if (!holds) throw new PrivacyError('PRIVACY_PARAMETER', `${where} must be ${must}`, { where });
}
