/**
 * Composition of privacy losses by Fourier transform, tilted so that the error is relative to the delta asked for.
 *
 * With K(l) = sum over releases of ln E e^(l L), the composed loss S has P[S = s] = e^(K - l s) P~[S = s], where P~ is the
 * composition of the tilted losses. l is chosen so that P~ is centred near the epsilon in question (the saddle point;
 * Alghamdi et al. 2022, arXiv 2208.09595), so a rounding error of 10^-16 in P~ is one of 10^-16 e^(K - l s), which
 * Chernoff's bound shows to be of the order of delta. P~ is computed on a circle of N grid points by powers of the
 * discrete Fourier transform.
 *
 * What makes the answer an upper bound (each is added to delta; GUARANTEES.md): the error of both transforms and of the
 * powers, the mass above the window by Chernoff's bound, the mass at infinity. Mass below the window can only fold into
 * it, which raises delta.
 *
 * GUARANTEES.md: "Composition of privacy losses"
 */
import { addPoint, transform, transformError } from './fft.ts';
import type { LossMasses } from './lossDistribution.ts';

// Bound once for the long loops: a lookup of `Math` costs more than the function where modules run in a context of
// their own, as in the tests.
const { exp, expm1, log, log1p, abs, sqrt } = Math;

export const GUARANTEE = 'Composition of privacy losses';

const UNIT = 2 ** -52;
/** Mass left outside the window, relative to the Chernoff bound of delta. */
const OUTSIDE = 2 ** -20;
/** ln of the factor by which the Chernoff bound may be worse than the best one. */
const LOOSENED = 7;
/** Points of a loss whose transform is taken directly. */
const POINTS = 4;
/** A power below this is taken as zero, before it becomes a slow subnormal; accounted as an error. */
const VANISHING = 1e-140;

/** Equal releases in one direction of add/remove. */
export interface ComposedLoss {
  loss: LossMasses;
  times: number;
}

/** Where the distribution is looked at; found on a coarse grid and used on finer ones. */
export interface Window {
  tilt: number;
  /** Tilts that bound the mass above and below the window. */
  tiltAbove: number;
  low: number;
  high: number;
}

/** Upper bounds of delta at the grid points low, low + 1, ... (in steps); delta is linear in e^epsilon in between. */
export interface DeltaCurve {
  low: number;
  step: number;
  deltas: Float64Array;
}

/** ln E e^(tilt L) of the losses on the grid, summed over the releases. */
function logMoments(losses: readonly ComposedLoss[], step: number, tilt: number): number {
  return losses.reduce((sum, { loss, times }) => sum + times * logMoment(loss, step, tilt), 0);
}

function logMoment({ first, masses }: LossMasses, step: number, tilt: number): number {
  // The largest exponent is that of one end; neither end of a discretised loss is empty.
  const largest = tilt * (tilt > 0 ? first + masses.length - 1 : first) * step;
  let sum = 0;
  for (let i = 0; i < masses.length; i++) sum += masses[i] * exp(tilt * (first + i) * step - largest);
  return largest + log(sum);
}

/**
 * The tilt and the window for a target: `delta` asks for the epsilon that goes with it, `epsilon` for the delta.
 *
 * Any tilt and window give a valid answer, so nothing here needs to be exact. The best Chernoff bound may tilt so far that
 * rare large losses become common and the window wide; a smaller tilt, at which the bound is up to e^LOOSENED times
 * larger, then needs fewer points and loses as many digits as the errors leave room for.
 */
export function findWindow(
  losses: readonly ComposedLoss[],
  step: number,
  target: { delta: number } | { epsilon: number },
): Window {
  const moments = (tilt: number): number => logMoments(losses, step, tilt);
  const objective = (logTilt: number): number => {
    const tilt = exp(logTilt);
    return 'delta' in target ? (moments(tilt) - log(target.delta)) / tilt : moments(tilt) - tilt * target.epsilon;
  };
  const logTilt = minimise(objective, -7, 16);
  const epsilon = 'epsilon' in target ? target.epsilon : Math.max(0, objective(logTilt));
  const bound = moments(exp(logTilt)) - exp(logTilt) * epsilon;
  let best: Window | null = null;
  for (let tilt = exp(logTilt); ; tilt *= 0.8) {
    const at = moments(tilt);
    const loosened = at - tilt * epsilon - bound;
    if (best !== null && (loosened > LOOSENED || tilt < exp(logTilt) / 16)) return best;
    // Markov's inequality for e^(a S) and e^(-a S) under the tilted distribution, over a list of a.
    const room = loosened - log(OUTSIDE);
    const window = { tilt, tiltAbove: tilt, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
    for (let a = tilt * 2 ** -6; a < tilt * 2 ** 8; a *= 1.8) {
      const high = (moments(tilt + a) - at + room) / a;
      if (high < window.high) {
        window.high = high;
        window.tiltAbove = tilt + a;
      }
      window.low = Math.max(window.low, (at - moments(tilt - a) - room) / a);
    }
    window.low = Math.min(window.low, epsilon);
    window.high = Math.max(window.high, epsilon);
    if (best === null || window.high - window.low < best.high - best.low) best = window;
  }
}

/** Upper bound of delta over the window. */
export function composeLosses(losses: readonly ComposedLoss[], step: number, window: Window): DeltaCurve {
  const { tilt, tiltAbove } = window;
  const low = Math.floor(window.low / step) - 1;
  const length = powerOfTwoAbove((window.high - window.low) / step + 8);
  const centre = Math.round((window.low + window.high) / 2 / step);
  let logScale = -tilt * centre * step;
  let exponents = abs(logScale);
  let infinity = 0;
  const spectrum = onesOf(length / 2 + 1);
  for (const { loss, times } of losses) {
    const kappa = logMoment(loss, step, tilt);
    multiplyPower(spectrum, tilted(loss, step, tilt, kappa, length), times);
    logScale += times * kappa;
    exponents += abs(times * kappa);
    infinity += times * loss.infinity;
  }
  const { probabilities, error } = invert(spectrum, length);

  // P[S > high] <= E e^(a S) e^(-a high) for the mass that the circle folds back from above.
  const end = (low + length) * step;
  let logAbove = -tiltAbove * end;
  let aboveSize = abs(logAbove);
  for (const { loss, times } of losses) {
    const moment = logMoment(loss, step, tiltAbove);
    logAbove += times * moment;
    // The sum of n exponentials errs by n units, and each by those of its exponent.
    const range = Math.max(abs(loss.first), abs(loss.first + loss.masses.length)) * step;
    aboveSize += times * (abs(moment) + loss.masses.length + tiltAbove * range + 1);
  }
  const outside = exp(logAbove + UNIT * 8 * aboveSize) + infinity * (1 + UNIT * 64);

  // e^(K - l s) = scale * e^(-l (s - centre)); relative error of the product, and of the two sums below.
  const span = tilt * length * step;
  const grown = 1 + UNIT * (64 + 8 * exponents + 4 * span + 8 * length);
  const scale = exp(logScale) * grown + Number.MIN_VALUE;
  const deltas = new Float64Array(length);
  // delta_n = sum over m > n of w_m (1 - e^((n-m) step)): every term of the recurrence is positive.
  const decay = exp(-step);
  const loss = -expm1(-step);
  let mass = 0;
  let delta = 0;
  for (let n = length - 1; n >= 0; n--) {
    delta = loss * mass + decay * delta;
    deltas[n] = Math.min(1, delta * scale + outside);
    const index = (((low + n) % length) + length) % length;
    mass += (Math.max(0, probabilities[index]) + error) * exp(-tilt * (low + n - centre) * step);
  }
  return { low, step, deltas };
}

/** Least epsilon >= 0 at which the curve is at most `delta`, rounded up; null when the window does not reach it. */
export function epsilonOfCurve({ low, step, deltas }: DeltaCurve, delta: number): number | null {
  const n = deltas.findIndex((value) => value <= delta);
  if (n < 0) return null;
  if (n === 0) return Math.max(0, low * step);
  const part = (deltas[n - 1] - delta) / (deltas[n - 1] - deltas[n]);
  const start = (low + n - 1) * step;
  const epsilon = start + log1p(part * expm1(step)) * (1 + 8 * UNIT);
  return Math.max(0, Math.min((low + n) * step, epsilon + UNIT * (abs(start) + step)));
}

/** The curve at `epsilon`, rounded up. */
export function deltaOfCurve({ low, step, deltas }: DeltaCurve, epsilon: number): number {
  const n = Math.floor(epsilon / step) - low;
  if (n < 0) return 1;
  if (n >= deltas.length - 1) return deltas[deltas.length - 1];
  const part = expm1(epsilon - (low + n) * step) / expm1(step);
  return Math.min(deltas[n], (deltas[n] * (1 - part) + deltas[n + 1] * part) * (1 + 32 * UNIT));
}

/** Frequencies 0 to N/2 of the composed distribution. */
interface Spectrum {
  re: Float64Array;
  im: Float64Array;
  /** ln of an upper bound of the modulus of the true value, and the relative share of it that may be wrong. */
  logBound: Float64Array;
  doubt: Float64Array;
}

function onesOf(length: number): Spectrum {
  return {
    re: new Float64Array(length).fill(1),
    im: new Float64Array(length),
    logBound: new Float64Array(length),
    doubt: new Float64Array(length),
  };
}

interface Tilted {
  re: Float64Array;
  im: Float64Array;
  /** Bound of the error of every entry. */
  error: number;
}

/** Transform, at frequencies 0 to N/2, of the tilted masses e^(tilt L - kappa) on the circle; masses rounded up. */
function tilted({ first, masses }: LossMasses, step: number, tilt: number, kappa: number, length: number): Tilted {
  const re = new Float64Array(length);
  for (let i = 0; i < masses.length; i++) {
    const exponent = tilt * (first + i) * step;
    const index = (((first + i) % length) + length) % length;
    re[index] += masses[i] * exp(exponent - kappa) * (1 + UNIT * (16 + 2 * (abs(exponent) + abs(kappa))));
  }
  // At small sampling rates nearly all mass lies on a few points; without them the error of the transform is far smaller.
  const points: { index: number; mass: number }[] = [];
  for (let count = 0; count < POINTS; count++) {
    let index = 0;
    for (let n = 1; n < length; n++) if (re[n] > re[index]) index = n;
    points.push({ index, mass: re[index] });
    re[index] = 0;
  }
  let squares = 0;
  for (const value of re) squares += value * value;
  const im = new Float64Array(length);
  transform(re, im);
  let error = transformError(length) * sqrt(length * squares);
  for (const { index, mass } of points) {
    addPoint(re, im, index, mass);
    error += 2 ** -48 * mass + 2 ** -50;
  }
  return { re, im, error: error * (1 + 2 ** -20) };
}

/**
 * spectrum *= factor^times, by squaring: each multiplication errs by at most sqrt(5) u of the product. The masses are
 * real, so the upper half of the true spectrum is the conjugate of the lower one.
 */
function multiplyPower(spectrum: Spectrum, factor: Tilted, times: number): void {
  const { re, im, logBound, doubt } = spectrum;
  for (let k = 0; k < re.length; k++) {
    let x = factor.re[k];
    let y = factor.im[k];
    const modulus = sqrt(x * x + y * y);
    logBound[k] += times * log((modulus + factor.error) * (1 + 16 * UNIT));
    doubt[k] += times * (log1p(factor.error / modulus) + 2 * UNIT);
    let u = re[k];
    let v = im[k];
    for (let left = times; ; ) {
      if (left % 2 === 1) [u, v] = [u * x - v * y, u * y + v * x];
      left = Math.floor(left / 2);
      if (left === 0) break;
      [x, y] = [x * x - y * y, 2 * x * y];
      if (x * x + y * y < VANISHING ** 2) {
        u = 0;
        v = 0;
        break;
      }
    }
    re[k] = u;
    im[k] = v;
  }
}

/** The inverse transform's real part and a bound of the error of each entry. */
function invert({ re, im, logBound, doubt }: Spectrum, length: number): { probabilities: Float64Array; error: number } {
  const fullRe = new Float64Array(length);
  const fullIm = new Float64Array(length);
  let wrong = 0;
  for (let k = 0; k < re.length; k++) {
    // |true| <= bound and |true - computed| <= bound (1 - e^-doubt); what vanished is below 2 VANISHING.
    const bound = exp(logBound[k] + 8 * UNIT * (1 + abs(logBound[k])));
    const twice = k === 0 || 2 * k === length ? 1 : 2;
    wrong += twice * (bound * -expm1(-doubt[k]) + 2 * VANISHING);
    // Conjugated, so that the forward transform inverts.
    fullRe[k] = re[k];
    fullIm[k] = -im[k];
    fullRe[(length - k) % length] = re[k];
    fullIm[(length - k) % length] = k === 0 || 2 * k === length ? -im[k] : im[k];
  }
  let squares = 0;
  for (let k = 0; k < length; k++) squares += fullRe[k] * fullRe[k] + fullIm[k] * fullIm[k];
  transform(fullRe, fullIm);
  for (let n = 0; n < length; n++) fullRe[n] /= length;
  const error = (wrong + transformError(length) * sqrt(length * squares)) * (1 + 2 ** -20);
  return { probabilities: fullRe, error: error / length };
}

function powerOfTwoAbove(length: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(16, length)));
}

/** Golden section for a quasi-convex function. */
function minimise(value: (x: number) => number, from: number, to: number): number {
  const golden = (sqrt(5) - 1) / 2;
  let [low, high] = [from, to];
  let left = high - golden * (high - low);
  let right = low + golden * (high - low);
  let [atLeft, atRight] = [value(left), value(right)];
  while (high - low > 0.01) {
    if (atLeft <= atRight) {
      [high, right, atRight] = [right, left, atLeft];
      left = high - golden * (high - low);
      atLeft = value(left);
    } else {
      [low, left, atLeft] = [left, right, atRight];
      right = low + golden * (high - low);
      atRight = value(right);
    }
  }
  return (low + high) / 2;
}
