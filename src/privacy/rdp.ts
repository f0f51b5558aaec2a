/**
 * Rényi differential privacy of the Poisson-subsampled Gaussian, for integer and fractional orders, and its conversion.
 *
 * Source: Mironov, Talwar, Zhang, "Rényi Differential Privacy of the Sampled Gaussian Mechanism" (arXiv 1908.10530),
 * theorems 4 and 5 (the divergence D_a of the mixture (1-q) N(0, s^2) + q N(1, s^2) from N(0, s^2) bounds both
 * directions of add/remove) and sections 3.3 (integer orders, fractional orders). Conversion: Canonne, Kamath, Steinke
 * 2020 (arXiv 2004.00010), proposition 12:
 *   epsilon = D_a + ln((a-1)/a) - (ln delta + ln a) / (a-1).
 *
 * Every order gives a valid bound, so the search for the best one needs no proof. The bracketed numerator is convex in
 * a, so the quotient is quasi-convex and the search finds the minimum.
 *
 * Rounding: up. Each term of a series is computed as a logarithm together with a bound of its floating-point error (log
 * and exp within 2 units in the last place, as in V8's fdlibm); the remainder of a truncated series is added.
 * Limit: orders in (1, 16384]; looser than the privacy loss distribution by 5 to 15 per cent, more at small loss.
 *
 * GUARANTEES.md: "Rényi accounting"
 */
import { PrivacyError } from '../errors.ts';
import type { PrivacyEvent } from './accountant.ts';
import { millsRatio, roundUp, sumUp } from './gdp.ts';

// Bound once for the long loops: a lookup of `Math` costs more than the function where modules run in a context of
// their own, as in the tests.
const { exp, log, log1p, expm1, abs } = Math;

export const GUARANTEE = 'Rényi accounting';

const UNIT = 2 ** -52;
const LARGEST_ORDER = 16_384;
/** Beyond this the orders searched are integers: a step of one changes epsilon by less than 10^-4 of itself. */
const LARGEST_FRACTIONAL_ORDER = 64;
const SERIES_LENGTH = 1_000;

/** Least epsilon over the orders, rounded up. @param delta in (0, 1). */
export function rdpEpsilon(events: readonly PrivacyEvent[], delta: number): number {
  if (!(delta > 0 && delta < 1)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'delta must lie strictly between 0 and 1', { where: 'delta' });
  }
  return leastOverOrders((order) => epsilonAtOrder(events, order, delta));
}

/** Least delta over the orders for a given epsilon >= 0, rounded up; at most 1. */
export function rdpDelta(events: readonly PrivacyEvent[], epsilon: number): number {
  // ln delta = (a-1) (D_a - epsilon + ln((a-1)/a)) - ln a.
  const logDelta = leastOverOrders((order) => {
    const shrink = log1p(-1 / order);
    const divergent = divergence(events, order);
    const size = (order - 1) * (divergent + epsilon - shrink) + log(order);
    return (order - 1) * (divergent - epsilon + shrink) - log(order) + 8 * UNIT * size;
  });
  return Math.min(1, exp(logDelta) * (1 + 8 * UNIT) + Number.MIN_VALUE);
}

/** (epsilon, delta) that Rényi divergence at one order a > 1 gives, rounded up, at least 0. */
function epsilonAtOrder(events: readonly PrivacyEvent[], order: number, delta: number): number {
  const logDelta = log(delta);
  const logOrder = log(order);
  const shrink = log1p(-1 / order);
  const tail = -(logDelta + logOrder) / (order - 1);
  const slack = UNIT * (8 * abs(shrink) + (8 * (abs(logDelta) + logOrder)) / (order - 1));
  return Math.max(0, roundUp(Math.max(0, divergence(events, order) + shrink + tail + slack)));
}

/** Rényi divergence of order `order` > 1 of the composition, rounded up; additive over events. */
export function divergence(events: readonly PrivacyEvent[], order: number): number {
  return sumUp(
    events.map((event) => {
      const s = event.noiseMultiplier;
      const rate = event.kind === 'gaussian' ? 1 : event.samplingRate;
      if (event.times === 0 || rate === 0) return 0;
      if (rate === 1) return roundUp(roundUp(roundUp(((order / 2) * event.times) / s) / s));
      return roundUp(roundUp((event.times * logMoment(order, rate, s)) / (order - 1)));
    }),
  );
}

/** ln E_{x ~ N(0, s^2)} [(1 - q + q e^((2x-1)/(2 s^2)))^order], rounded up; q in (0, 1), order > 1. */
export function logMoment(order: number, rate: number, s: number): number {
  return Number.isInteger(order) ? integerMoment(order, rate, s) : fractionalMoment(order, rate, s);
}

/**
 * sum_k C(a,k) (1-q)^(a-k) q^k e^(k(k-1)/(2 s^2)). The binomial weights sum to one, so the moment less one is the sum
 * over k >= 2 of the same weights times expm1, all terms positive.
 */
function integerMoment(order: number, rate: number, s: number): number {
  const logRate = log(rate);
  const logRest = log1p(-rate);
  const sum = logSum();
  let logBinomial = 0;
  let carry = 0;
  for (let k = 1; k <= order; k++) {
    // Neumaier's compensation keeps the error of the running sum at one unit plus those of its logarithms.
    const ratio = log((order - k + 1) / k);
    const next = logBinomial + ratio;
    carry += abs(logBinomial) >= abs(ratio) ? logBinomial - next + ratio : ratio - next + logBinomial;
    logBinomial = next;
    if (k === 1) continue;
    const grown = (k * (k - 1)) / 2 / s / s;
    const logGrown = grown > 1 ? grown + log1p(-exp(-grown)) : log(expm1(grown));
    const weight = (order - k) * logRest + k * logRate;
    const logTerm = logBinomial + carry + weight + logGrown;
    const error = UNIT * (16 * k + 8 * (abs(logBinomial) + abs(weight) + abs(logGrown)));
    sum.add(logTerm + error);
  }
  const above = sum.log() + UNIT * (8 * order + 4 * abs(sum.log()));
  // ln(1 + e^y), which is y + ln(1 + e^-y) where e^y would overflow.
  return roundUp(roundUp(above > 30 ? above + exp(-above) : log1p(exp(above))));
}

/**
 * Section 3.3: the binomial series of (1 + r)^a on each side of the point z where r = q e^t / (1-q) is 1. Past k > a
 * the terms alternate and fall pointwise, so what is left out is at most the first term left out, also after
 * integration.
 */
function fractionalMoment(order: number, rate: number, s: number): number {
  const logRate = log(rate);
  const logRest = log1p(-rate);
  const z = s * s * (logRest - logRate) + 0.5;
  const positive = logSum();
  const negative = logSum();
  let logBinomial = 0;
  let sign = 1;
  for (let k = 0; ; k++) {
    if (k > 0) {
      const ratio = (order - k + 1) / k;
      logBinomial += log(abs(ratio));
      if (ratio < 0) sign = -sign;
    }
    const last = k > order + SERIES_LENGTH;
    let largest = Number.NEGATIVE_INFINITY;
    for (const [up, tail] of [
      [k, (k - z) / s],
      [order - k, (z - order + k) / s],
    ]) {
      const weight = up * logRate + (order - up) * logRest;
      const grown = (up * (up - 1)) / 2 / s / s;
      const logTail = logUpperTail(tail);
      const logTerm = logBinomial + weight + grown + logTail;
      // The argument of the tail carries 8 units of |tail|, and (ln tail probability)' is at most |x| + 1.
      const size = abs(logBinomial) + abs(weight) + grown + abs(logTail);
      const error = UNIT * (1024 + 16 * k + 8 * size + 8 * (1 + abs(z / s) + abs(tail)) * (1 + abs(tail)));
      if (last || sign > 0) positive.add(logTerm + error);
      else negative.add(logTerm - error);
      largest = Math.max(largest, logTerm);
    }
    // The remainder of each side is at most this term, which is then counted as positive.
    if (last) break;
    if (k > order && largest < positive.log() - 60) {
      positive.add(largest + 2);
      break;
    }
  }
  const above = positive.log();
  const less = exp(negative.log() - above);
  return Math.max(0, above + log1p(-less) + UNIT * (8192 + 8 * abs(above)));
}

/** ln of the upper tail of the standard normal; relative error of the tail below 1024 units. */
function logUpperTail(x: number): number {
  if (x > 0) return (-x * x) / 2 - log(2 * Math.PI) / 2 + log(millsRatio(x));
  if (x < -38) return 0;
  return log1p(-exp((-x * x) / 2) * millsRatio(-x) * (1 / Math.sqrt(2 * Math.PI)));
}

/** Running ln of a sum of exponentials. */
function logSum(): { add(term: number): void; log(): number } {
  let largest = Number.NEGATIVE_INFINITY;
  let scaled = 0;
  return {
    add(term) {
      if (term === Number.NEGATIVE_INFINITY) return;
      if (term > largest) {
        scaled = scaled * exp(largest - term) + 1;
        largest = term;
      } else scaled += exp(term - largest);
    },
    log: () => largest + log(scaled),
  };
}

/** The least value over a coarse list of orders, then by golden section between the neighbours of the best. */
function leastOverOrders(value: (order: number) => number): number {
  const orders = [1.01, 1.03, 1.06, 1.1, 1.2, 1.4, 1.7];
  for (let order = 2; order <= LARGEST_ORDER; order = Math.max(order + 1, Math.floor(order * 1.25))) orders.push(order);
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < orders.length; i++) {
    const found = value(orders[i]);
    if (found < least) {
      least = found;
      best = i;
    } else if (i > best + 1) break;
  }
  let low = orders[Math.max(0, best - 1)];
  let high = orders[Math.min(orders.length - 1, best + 1)];
  const golden = (Math.sqrt(5) - 1) / 2;
  for (let i = 0; i < 12 && high - low > 1e-3 * low; i++) {
    const [left, right] = [high - golden * (high - low), low + golden * (high - low)].map((order) =>
      order > LARGEST_FRACTIONAL_ORDER ? Math.round(order) : order,
    );
    if (left >= right) break;
    const [atLeft, atRight] = [value(left), value(right)];
    least = Math.min(least, atLeft, atRight);
    if (atLeft < atRight) high = right;
    else low = left;
  }
  return least;
}
