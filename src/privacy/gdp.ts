/**
 * Gaussian differential privacy: the exact trade-off between (epsilon, delta) and mu, and composition.
 *
 * Source: Balle, Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, theorem 8, and Dong,
 * Roth, Su, "Gaussian Differential Privacy", JRSS B 2022, corollaries 2.13 and 3.3:
 *   delta = Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2),  mu = sqrt(sum of mu_i^2).
 * With a = epsilon/mu - mu/2, b = epsilon/mu + mu/2 and e^epsilon phi(b) = phi(a) it becomes
 * phi(a) (R(a) - R(b)), R the Mills ratio, which neither overflows nor cancels in the tail.
 *
 * Rounding: deltas and epsilons up, mu down, by an explicit bound of the floating-point error. Limit: epsilon <= 10^6;
 * mu in [0, 10^3].
 *
 * GUARANTEES.md: "Gaussian accounting"
 */
import { PrivacyError } from '../errors.ts';

export const GUARANTEE = 'Gaussian accounting';

const UNIT = 2 ** -52;
const LARGEST_EPSILON = 1e6;
const LARGEST_MU = 1e3;

/**
 * The smallest delta for which a mu-GDP release is (epsilon, delta)-DP, rounded up.
 *
 * @param mu in [0, 1000]. @param epsilon in [0, 10^6].
 */
export function gdpDelta(mu: number, epsilon: number): number {
  inRange('mu', mu, 0, LARGEST_MU);
  inRange('epsilon', epsilon, 0, LARGEST_EPSILON);
  if (mu === 0) return 0;
  const a = epsilon / mu - mu / 2;
  const b = epsilon / mu + mu / 2;
  const ratioA = millsRatio(a);
  // For a < -36 the ratio overflows the useful range of phi(a) R(a) = Phi(-a), which is 1 to the last bit.
  if (!Number.isFinite(ratioA) || a < -30) return 1;
  // Both ratios are good to 512 units; a and b carry 4 units of |b| each, and |R'| <= 1 + |x| R.
  const difference = ratioA - millsRatio(b) + UNIT * (1024 * ratioA + 8 * Math.abs(b) * (1 + Math.abs(a) * ratioA));
  const density = Math.exp((-a * a) / 2) / Math.sqrt(2 * Math.PI);
  const up = density * difference * (1 + UNIT * (8 * b * b + 32));
  return Math.min(1, up + Number.MIN_VALUE);
}

/** The smallest epsilon for which a mu-GDP release is (epsilon, delta)-DP, rounded up; `delta` in (0, 1). */
export function gdpEpsilon(mu: number, delta: number): number {
  inRange('mu', mu, 0, LARGEST_MU);
  inOpenUnit('delta', delta);
  if (gdpDelta(mu, 0) <= delta) return 0;
  let low = 0;
  let high = 1;
  while (gdpDelta(mu, high) > delta) {
    low = high;
    high *= 2;
    if (high > LARGEST_EPSILON) {
      throw new PrivacyError('PRIVACY_PARAMETER', 'epsilon exceeds 10^6 at this mu and delta', { where: 'mu' });
    }
  }
  return bisect(low, high, (epsilon) => gdpDelta(mu, epsilon) <= delta).high;
}

/** The largest mu for which a mu-GDP release is (epsilon, delta)-DP, rounded down. */
export function muFor(epsilon: number, delta: number): number {
  inRange('epsilon', epsilon, 0, LARGEST_EPSILON);
  inOpenUnit('delta', delta);
  return bisect(0, LARGEST_MU, (mu) => gdpDelta(mu, epsilon) > delta).low;
}

/** Sum of non-negative numbers, rounded up: every addition is followed by a step to the next larger double. */
export function sumUp(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) {
    if (!(value >= 0)) throw new PrivacyError('PRIVACY_PARAMETER', 'a loss must be a non-negative number');
    if (value > 0) sum = roundUp(sum + value);
  }
  return sum;
}

/** A double strictly above the real result whose nearest double is `value` >= 0 (one relative unit, two at most). */
export function roundUp(value: number): number {
  return value === 0 ? 0 : value * (1 + UNIT) + Number.MIN_VALUE;
}

/** A double strictly below the real result whose nearest double is `value` >= 0. */
export function roundDown(value: number): number {
  return Math.max(0, value * (1 - UNIT) - Number.MIN_VALUE);
}

/**
 * R(x) = (1 - Phi(x)) / phi(x), relative error below 512 * 2^-52.
 *
 * x < 2: R = sqrt(pi/2) e^(x^2/2) - sum x^(2k+1) / (2k+1)!! (Abramowitz, Stegun 26.2.11); the difference cancels at
 * most a factor 22, at x = 2, which is where the bound comes from.
 * x >= 2: continued fraction 1/(x + 1/(x + 2/(x + 3/(x + ...)))) (26.2.14), 120 levels, evaluated from the bottom.
 */
export function millsRatio(x: number): number {
  if (x >= 2) {
    let tail = x;
    for (let k = 120; k >= 1; k--) tail = x + k / tail;
    return 1 / tail;
  }
  let term = x;
  let sum = x;
  for (let k = 1; Math.abs(term) > UNIT * Math.abs(sum) * 2 ** -8 && k < 2000; k++) {
    term *= (x * x) / (2 * k + 1);
    sum += term;
  }
  return Math.sqrt(Math.PI / 2) * Math.exp((x * x) / 2) - sum;
}

/** Narrows [low, high] around the first point where `above` holds until the two are neighbouring doubles or equal. */
function bisect(low: number, high: number, above: (x: number) => boolean): { low: number; high: number } {
  let lower = low;
  let upper = high;
  for (;;) {
    const middle = lower + (upper - lower) / 2;
    if (middle <= lower || middle >= upper) return { low: lower, high: upper };
    if (above(middle)) upper = middle;
    else lower = middle;
  }
}

function inRange(where: string, value: number, least: number, most: number): void {
  if (!(value >= least && value <= most)) {
    throw new PrivacyError('PRIVACY_PARAMETER', `${where} must lie in [${least}, ${most}]`, {
      where,
      fix: `give another ${where}`,
    });
  }
}

function inOpenUnit(where: string, value: number): void {
  if (!(value > 0 && value < 1)) {
    throw new PrivacyError('PRIVACY_PARAMETER', `${where} must lie strictly between 0 and 1`, {
      where,
      fix: `give another ${where}, such as 1e-6`,
    });
  }
}
