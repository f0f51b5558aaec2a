/**
 * What an attack on a mechanism proves about its privacy loss: empirical lower bounds on epsilon.
 *
 * An attacker sees one output and says whether a planted customer (the canary) was in the data. Whoever promises
 * (epsilon, delta) promises that for every such attack, with its true error rates,
 *   1 - FNR <= e^epsilon FPR + delta   and   1 - FPR <= e^epsilon FNR + delta
 * (Kairouz, Oh, Viswanath 2015). Error rates bounded from above with confidence bound epsilon from below (Jagielski,
 * Ullman, Oprea 2020). The same rates bound the mu of Gaussian differential privacy, mu >= Phi^-1(1 - FPR) - Phi^-1(FNR)
 * (Dong, Roth, Su 2022), which loses far less where the mechanism is Gaussian (Nasr et al., "Tight Auditing of
 * Differentially Private Machine Learning", USENIX Security 2023). Where it is not, the whole promised curve of deltas is
 * compared: the first two inequalities must hold at each of its epsilons.
 *
 * The threshold on the attacker's statistic is chosen on one half of the trials, the errors are counted on the other:
 * otherwise the bound would not hold with the stated confidence. Limit: a bound of 0 is no proof of privacy. It says that
 * this attack found nothing.
 *
 * GUARANTEES.md: "Privacy audit"
 */
import { PrivacyError } from '../errors.ts';
import { binomialUpperBound } from './binomial.ts';
import { millsRatio } from './gdp.ts';

export const GUARANTEE = 'Privacy audit';

/** The attacker's statistic in trials without and with the canary; larger speaks for its presence. */
export interface Trials {
  readonly without: Float64Array;
  readonly with: Float64Array;
}

/** Wrong answers of the rule "present when statistic >= threshold". */
export interface Errors {
  readonly falsePositives: number;
  readonly trialsWithout: number;
  readonly falseNegatives: number;
  readonly trialsWith: number;
}

/** Upper bounds of both error rates, both right with probability at least 1 - alpha. */
export interface ErrorRates {
  readonly falsePositive: number;
  readonly falseNegative: number;
}

/** Deltas that a mechanism promises at some epsilons. */
export type PrivacyCurve = readonly { readonly epsilon: number; readonly delta: number }[];

/** One attack, evaluated. */
export interface Finding {
  readonly threshold: number;
  readonly errors: Errors;
  readonly rates: ErrorRates;
}

/** A lower bound that some error rates imply; larger is worse for the mechanism. */
export type Measure = (rates: ErrorRates) => number;

function boundRates(errors: Errors, alpha: number): ErrorRates {
  return {
    falsePositive: binomialUpperBound(errors.falsePositives, errors.trialsWithout, alpha / 2),
    falseNegative: binomialUpperBound(errors.falseNegatives, errors.trialsWith, alpha / 2),
  };
}

/** The epsilon that a mechanism with these error rates has at least, at `delta`; assumes nothing about the mechanism. */
export function epsilonLowerBound({ falsePositive, falseNegative }: ErrorRates, delta: number): number {
  const present = (1 - falseNegative - delta) / falsePositive;
  const absent = (1 - falsePositive - delta) / falseNegative;
  return Math.max(0, Math.log(Math.max(1, present, absent)) - 2 ** -50);
}

/** The mu that a mu-GDP mechanism with these error rates has at least. */
export function muLowerBound({ falsePositive, falseNegative }: ErrorRates): number {
  // A rate near 1 is a double a few units of 2^-53 off, which in the tail moves its quantile by more than rounding does.
  const present = falsePositive + 2 ** -50;
  const absent = falseNegative + 2 ** -50;
  if (present + absent >= 1) return 0;
  return Math.max(0, upperQuantile(present) + upperQuantile(absent) - 1e-9);
}

/** The delta that a mechanism with these error rates has at least, at `epsilon`; may be negative. */
function deltaLowerBound({ falsePositive, falseNegative }: ErrorRates, epsilon: number): number {
  const factor = Math.exp(epsilon);
  const present = 1 - falseNegative - factor * falsePositive;
  const absent = 1 - falsePositive - factor * falseNegative;
  return Math.max(present, absent) - 2 ** -49 * factor;
}

/** At one epsilon of a curve: the delta promised, and the delta proved. */
export interface CurvePoint {
  readonly epsilon: number;
  readonly promised: number;
  readonly proved: number;
}

/** Where the rates come closest to contradicting a curve of positive deltas, as a ratio, or contradict it most. */
export function closestTo(curve: PrivacyCurve, rates: ErrorRates): CurvePoint {
  const points = curve.map(({ epsilon, delta }): CurvePoint => {
    return { epsilon, promised: delta, proved: deltaLowerBound(rates, epsilon) };
  });
  return points.reduce((best, point) => (shareOf(point) > shareOf(best) ? point : best));
}

/** Proved over promised; above 1 is a contradiction. */
export function shareOf({ promised, proved }: CurvePoint): number {
  return proved / promised;
}

/**
 * Chooses the threshold that `measure` likes best on the even trials and counts errors on the odd ones.
 *
 * @param alpha probability that the returned rates are not both upper bounds, at most.
 */
export function attack(trials: Trials, measure: Measure, alpha: number): Finding {
  const threshold = chooseThreshold(every(trials, 0), measure, alpha);
  const errors = countErrors(every(trials, 1), threshold);
  return { threshold, errors, rates: boundRates(errors, alpha) };
}

/** The z with P(N(0,1) > z) = tail, for tail in (0, 1); absolute error below 10^-12. */
export function upperQuantile(tail: number): number {
  if (!(tail > 0 && tail < 1)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'a tail probability must lie in (0, 1)', { where: 'tail' });
  }
  let low = -40;
  let high = 40;
  while (high - low > 1e-13 * Math.max(1, Math.abs(low))) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) break;
    if (upperTail(middle) > tail) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

function upperTail(z: number): number {
  if (z < 0) return 1 - upperTail(-z);
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * millsRatio(z);
}

function every(trials: Trials, parity: 0 | 1): Trials {
  const half = (values: Float64Array) => values.filter((_, i) => i % 2 === parity);
  return { without: half(trials.without), with: half(trials.with) };
}

export function countErrors(trials: Trials, threshold: number): Errors {
  let falsePositives = 0;
  for (const value of trials.without) if (value >= threshold) falsePositives++;
  let falseNegatives = 0;
  for (const value of trials.with) if (value < threshold) falseNegatives++;
  return { falsePositives, trialsWithout: trials.without.length, falseNegatives, trialsWith: trials.with.length };
}

// Ranks grow by this factor from both ends: tails, where epsilon is found, get every rank, the middle every tenth share.
const RANK_STEP = 1.1;

function chooseThreshold(trials: Trials, measure: Measure, alpha: number): number {
  if (trials.without.length === 0 || trials.with.length === 0) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'an audit needs at least two trials of each kind', { where: 'trials' });
  }
  const without = trials.without.toSorted();
  const present = trials.with.toSorted();
  let best = { threshold: present[0], value: Number.NEGATIVE_INFINITY };
  for (const threshold of new Set([...thresholdsOf(without), ...thresholdsOf(present)])) {
    const errors = {
      falsePositives: without.length - rankOf(without, threshold),
      trialsWithout: without.length,
      falseNegatives: rankOf(present, threshold),
      trialsWith: present.length,
    };
    const value = measure(boundRates(errors, alpha));
    if (value > best.value) best = { threshold, value };
  }
  return best.threshold;
}

function* thresholdsOf(sorted: Float64Array): Generator<number> {
  for (let rank = 1; rank <= sorted.length; rank = Math.ceil(rank * RANK_STEP)) {
    yield sorted[rank - 1];
    yield sorted[sorted.length - rank];
  }
}

/** How many values are below `limit`. */
function rankOf(sorted: Float64Array, limit: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
