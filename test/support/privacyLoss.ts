/**
 * Privacy losses of the subsampled Gaussian by other means than the accountant's: direct integration for one and two
 * releases, and a distribution rounded the optimistic way, which bounds delta of many releases from below.
 */
import { transform } from '../../src/privacy/fft.ts';

// Bound once for the long loops: a lookup of `Math` costs more than the function where modules run in a context of
// their own, as in the tests.
const { exp, sqrt, log, hypot, atan2, cos, sin, expm1, floor } = Math;

export interface Sampled {
  /** Noise multiplier. */
  s: number;
  /** Sampling rate. */
  q: number;
}

const density = (x: number, s: number): number => exp((-x * x) / (2 * s * s)) / (s * sqrt(2 * Math.PI));
const ratio = (x: number, { s, q }: Sampled): number => 1 - q + q * exp((2 * x - 1) / (2 * s * s));
/** Where the loss of removal is `loss`; -Infinity where it is larger everywhere. */
function pointOf(loss: number, { s, q }: Sampled): number {
  const odds = (exp(loss) - (1 - q)) / q;
  return odds <= 0 ? Number.NEGATIVE_INFINITY : s * s * log(odds) + 0.5;
}

/** Simpson's rule; the integrands are smooth on the intervals given. */
export function integrate(f: (x: number) => number, from: number, to: number, panels: number): number {
  const h = (to - from) / (2 * panels);
  let sum = f(from) + f(to);
  for (let i = 1; i < 2 * panels; i++) sum += (i % 2 === 1 ? 4 : 2) * f(from + i * h);
  return (sum * h) / 3;
}

/** Hockey-stick divergence of one release at any real epsilon, by integration to 12 standard deviations. */
export function oneRelease(release: Sampled, epsilon: number, direction: 'remove' | 'add', panels = 4_000): number {
  const { s } = release;
  const [least, most] = [-12 * s - 0.5, 12 * s + 1.5];
  const clamp = (x: number): number => Math.min(most, Math.max(least, x));
  if (direction === 'remove') {
    // P - e^epsilon Q is positive to the right of the point where the loss is epsilon.
    const f = (x: number): number => density(x, s) * (ratio(x, release) - exp(epsilon));
    return integrate(f, clamp(pointOf(epsilon, release)), most, panels);
  }
  const f = (x: number): number => density(x, s) * (1 - exp(epsilon) * ratio(x, release));
  return integrate(f, least, clamp(pointOf(-epsilon, release)), panels);
}

/** The same of two releases: the second one at epsilon less the loss of the first, averaged over the first. */
export function twoReleases(a: Sampled, b: Sampled, epsilon: number, direction: 'remove' | 'add'): number {
  const sign = direction === 'remove' ? 1 : -1;
  const f = (x: number): number => {
    const w = ratio(x, a);
    const weight = density(x, a.s) * (direction === 'remove' ? w : 1);
    return weight * oneRelease(b, epsilon - sign * log(w), direction, 400);
  };
  return integrate(f, -12 * a.s - 0.5, 12 * a.s + 1.5, 400);
}

/**
 * Lower bound of delta of `times` equal releases when a customer is removed.
 *
 * Outcomes are grouped into cells of loss width `cell` (a post-processing), the loss of a cell is rounded DOWN to a grid
 * of width `step`, and the composition is a power of the transform on a circle wide enough that less than 10^-15 wraps.
 */
export function optimisticDelta(
  release: Sampled,
  times: number,
  cell: number,
  step: number,
  length: number,
): (epsilon: number) => number {
  const { s, q } = release;
  const [least, most] = [-10 * s, 10 * s + 1];
  const re = new Float64Array(length);
  const im = new Float64Array(length);
  let from = least;
  for (let k = floor(log(ratio(least, release)) / cell); from < most; k++) {
    const to = Math.min(most, Math.max(from, pointOf((k + 1) * cell, release)));
    if (to > from) {
      const panels = 4 + Math.ceil(40 * (to - from));
      const underQ = integrate((x) => density(x, s), from, to, panels);
      const shifted = integrate((x) => density(x - 1, s), from, to, panels);
      const underP = (1 - q) * underQ + q * shifted;
      const index = floor(log(underP / underQ) / step);
      re[((index % length) + length) % length] += underP;
    }
    from = to;
  }
  transform(re, im);
  for (let k = 0; k < length; k++) {
    const modulus = hypot(re[k], im[k]) ** times;
    const angle = atan2(im[k], re[k]) * times;
    re[k] = modulus * cos(angle);
    im[k] = -modulus * sin(angle);
  }
  transform(re, im);
  return (epsilon) => {
    let delta = 0;
    for (let n = Math.ceil(epsilon / step); n < length / 2; n++) delta += (re[n] / length) * -expm1(epsilon - n * step);
    return delta;
  };
}
