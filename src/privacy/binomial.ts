/**
 * Exact confidence bounds for a probability, from how often something happened in independent trials.
 *
 * Source: Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
 * Biometrika 26 (1934): the upper bound after k successes in n trials is the p at which P(X <= k) = alpha. The tail is
 * computed in log space: the largest term by Loader's saddle point expansion ("Fast and Accurate Computation of Binomial
 * Probabilities", 2000), which neither under- nor overflows, the others by their exact ratios to it.
 *
 * Rounding: outward. The tail has a relative error below 10^-11 at n = 10^7, and alpha is shrunk by 10^-9 before it is
 * met, so the stated coverage is kept. Limit: n <= 10^8, alpha in [10^-30, 1/2]; the bounds cover at least, not exactly,
 * 1 - alpha, as no exact ones for a discrete law can.
 *
 * GUARANTEES.md: "Privacy audit"
 */
import { PrivacyError } from '../errors.ts';

const LARGEST_TRIALS = 1e8;
/** How much of alpha is given up to floating point. */
const ALPHA_MARGIN = 1e-9;

/**
 * The largest probability that is compatible with at most `successes` in `trials`.
 *
 * @param alpha probability that the bound lies below the truth, at most.
 * @returns in (0, 1], rounded up.
 */
export function binomialUpperBound(successes: number, trials: number, alpha: number): number {
  requireCounts(successes, trials, alpha);
  if (successes === trials) return 1;
  const target = Math.log(alpha * (1 - ALPHA_MARGIN));
  // The median of a binomial with whole mean k is k (Kaas, Buhrman 1980), so the tail is at least 1/2 at p = k/n.
  let low = successes / trials;
  let high = 1;
  for (;;) {
    const middle = low === 0 ? high / 2 : low + (high - low) / 2;
    if (middle <= low || middle >= high || high - low <= high * 2 ** -46) return high;
    if (logLowerTail(successes, trials, middle) > target) low = middle;
    else high = middle;
  }
}

/** The smallest probability compatible with at least `successes` in `trials`, in [0, 1), rounded down. */
export function binomialLowerBound(successes: number, trials: number, alpha: number): number {
  return Math.max(0, (1 - binomialUpperBound(trials - successes, trials, alpha)) * (1 - 2 ** -46) - 2 ** -52);
}

/** Both bounds, each missed with probability at most alpha / 2. */
export function clopperPearson(successes: number, trials: number, alpha: number): { low: number; high: number } {
  return {
    low: binomialLowerBound(successes, trials, alpha / 2),
    high: binomialUpperBound(successes, trials, alpha / 2),
  };
}

/** ln P(X <= k) for X binomial(n, p) with k < n p, where the terms fall from k downwards. */
function logLowerTail(k: number, n: number, p: number): number {
  const odds = (1 - p) / p;
  let term = 1;
  let sum = 1;
  for (let i = k; i > 0; i--) {
    // P(i - 1) / P(i); it falls with i, so what is left out is below term * ratio / (1 - ratio).
    const ratio = (i / (n - i + 1)) * odds;
    term *= ratio;
    sum += term;
    if (ratio < 1 && term * ratio < 2 ** -50 * sum * (1 - ratio)) break;
  }
  return logProbability(k, n, p) + Math.log(sum);
}

/** ln P(X = k) for X binomial(n, p), 0 < p < 1. */
export function logProbability(k: number, n: number, p: number): number {
  if (k === 0) return n * Math.log1p(-p);
  if (k === n) return n * Math.log(p);
  const deviance = devianceTerm(k, n * p) + devianceTerm(n - k, n * (1 - p));
  return (
    stirlingError(n) - stirlingError(k) - stirlingError(n - k) - deviance + halfLog(n / (k * (n - k))) - HALF_LOG_TAU
  );
}

const HALF_LOG_TAU = Math.log(2 * Math.PI) / 2;

function halfLog(value: number): number {
  return Math.log(value) / 2;
}

/** ln(n!) - ln(sqrt(2 pi n) (n/e)^n) for whole n >= 1. */
function stirlingError(n: number): number {
  if (n <= 15) {
    let factorial = 1;
    for (let i = 2; i <= n; i++) factorial *= i;
    return Math.log(factorial) - ((n + 0.5) * Math.log(n) - n + HALF_LOG_TAU);
  }
  const square = n * n;
  // Stirling's series (Abramowitz, Stegun 6.1.41); at n = 16 the first term left out is below 10^-15.
  return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / n;
}

/** x ln(x / mean) + mean - x without the cancellation at x near mean. */
function devianceTerm(x: number, mean: number): number {
  const difference = x - mean;
  if (Math.abs(difference) >= 0.1 * (x + mean)) return x * Math.log(x / mean) - difference;
  const ratio = difference / (x + mean);
  let sum = difference * ratio;
  let power = 2 * x * ratio;
  for (let j = 1; ; j++) {
    power *= ratio * ratio;
    const next = sum + power / (2 * j + 1);
    if (next === sum) return sum;
    sum = next;
  }
}

function requireCounts(successes: number, trials: number, alpha: number): void {
  const whole = Number.isInteger(successes) && Number.isInteger(trials);
  if (!whole || successes < 0 || trials < 1 || successes > trials || trials > LARGEST_TRIALS) {
    throw new PrivacyError(
      'PRIVACY_PARAMETER',
      'successes and trials must be whole, 0 <= successes <= trials <= 10^8',
      {
        where: 'trials',
      },
    );
  }
  if (!(alpha >= 1e-30 && alpha <= 0.5)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'alpha must lie in [1e-30, 0.5]', { where: 'alpha' });
  }
}
