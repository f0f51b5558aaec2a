/**
 * Calibration: the least noise multiplier for which a plan of subsampled releases keeps (epsilon, delta).
 *
 * The composed epsilon falls as the noise grows, nearly as a power of it, so a bracket is narrowed by the secant of the
 * logarithms until its ends agree to 2^-12 of themselves; Rényi accounting gives the first guess. The answer is the
 * upper end, for which the accountant has confirmed the target.
 * Limit: the answer is up to 2^-12 (0.03 %) above the least noise that the accountant would accept; where only
 * unsampled Gaussians are involved, 10^-12.
 *
 * GUARANTEES.md: "Noise calibration"
 */
import { PrivacyError } from '../errors.ts';
import { composedEpsilon, type PrivacyEvent } from './accountant.ts';
import { muFor, sumUp } from './gdp.ts';
import { rdpEpsilon } from './rdp.ts';

export const GUARANTEE = 'Noise calibration';

const LEAST = 2 ** -6;
const MOST = 2 ** 24;
const RELATIVE_WIDTH = 2 ** -12;

/** What is asked of the noise. */
export interface CalibrationWish {
  /** Probability that a customer is in the sample of a release, in (0, 1]; 1 for no sampling. */
  samplingRate: number;
  /** Number of releases, at least 1. */
  times: number;
  epsilon: number;
  delta: number;
  /** What else is released on the same customers and charged to the same (epsilon, delta). */
  alongside?: readonly PrivacyEvent[];
}

/** ln(epsilon / target) at a noise multiplier; above 0 the target is missed. */
type Excess = (noiseMultiplier: number) => number;

/**
 * The least noise multiplier (standard deviation over L2 sensitivity), rounded up; at least 2^-6.
 *
 * @throws PrivacyError PRIVACY_PARAMETER when no noise suffices, because `alongside` alone exceeds the target.
 */
export function noiseMultiplierFor(wish: CalibrationWish): number {
  const { samplingRate, times, epsilon, delta, alongside = [] } = wish;
  if (!(epsilon > 0) || !(times >= 1) || !(samplingRate > 0)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'epsilon must be positive and there must be a release', {
      where: 'noiseMultiplierFor',
    });
  }
  // Checked first: with little room left beside it the search below would ask for more and more noise.
  if (composedEpsilon(alongside, delta) >= epsilon) throw unattainable();
  const events = (noiseMultiplier: number): PrivacyEvent[] => [
    ...alongside,
    { kind: 'subsampledGaussian', noiseMultiplier, samplingRate, times },
  ];
  const excess: Excess = (noiseMultiplier) => Math.log(composedEpsilon(events(noiseMultiplier), delta) / epsilon);
  if (samplingRate === 1 && alongside.every((event) => event.kind === 'gaussian')) {
    return unsampled(muFor(epsilon, delta), times, alongside, excess);
  }
  const rough: Excess = (noiseMultiplier) => Math.log(rdpEpsilon(events(noiseMultiplier), delta) / epsilon);
  const guess = narrow(rough, bracket(rough, 1), 2 ** -4);
  return narrow(excess, bracket(excess, guess), RELATIVE_WIDTH);
}

/** Closed form where everything is Gaussian: mu^2 = times / noise^2 + that of the others. */
function unsampled(mu: number, times: number, alongside: readonly PrivacyEvent[], excess: Excess): number {
  const others = sumUp(alongside.map(({ times: count, noiseMultiplier }) => count / noiseMultiplier ** 2));
  const room = mu * mu - others;
  let noise = room > 0 ? Math.sqrt(times / room) : Number.POSITIVE_INFINITY;
  for (let nudge = 2 ** -50; noise <= MOST; nudge *= 2) {
    if (!(excess(noise) > 0)) return noise;
    noise *= 1 + nudge;
  }
  throw unattainable();
}

/** Neighbours of the answer, sought from `start`: the target is missed at `low` and kept at `high`. */
function bracket(excess: Excess, start: number): Bracket {
  let last: Point = { noise: start, excess: excess(start) };
  const up = last.excess > 0;
  for (;;) {
    // Epsilon falls at least about as fast as 1 / noise, so this goes beyond the answer, and at most to the cube.
    const factor = Math.exp(Math.min(1, 1.1 * Math.abs(last.excess) + 0.01));
    const noise = up ? last.noise * factor : last.noise / factor;
    if (noise > MOST) throw unattainable();
    if (noise < LEAST) return { low: last, high: last };
    const next = { noise, excess: excess(noise) };
    if (next.excess > 0 !== up) return up ? { low: last, high: next } : { low: next, high: last };
    last = next;
  }
}

interface Point {
  noise: number;
  excess: number;
}
interface Bracket {
  low: Point;
  high: Point;
}

/** The upper end once the bracket is narrower than `width` of itself. */
function narrow(excess: Excess, { low, high }: Bracket, width: number): number {
  for (let round = 0; high.noise > low.noise * (1 + width); round++) {
    const share = low.excess / (low.excess - high.excess);
    const span = Math.log(high.noise / low.noise);
    // Every third round halves, so that a curve that is no power law is narrowed too.
    const secant = round % 3 < 2 && share > 0 && share < 1 ? share * span : span / 2;
    // A little above the zero first and a little below it next, so that both ends come close to it.
    const aside = (round % 2 === 0 ? width : -width) / 3;
    const noise = low.noise * Math.exp(Math.min(span - width / 4, Math.max(width / 4, secant + aside)));
    const point = { noise, excess: excess(noise) };
    if (point.excess > 0) low = point;
    else high = point;
  }
  return high.noise;
}

function unattainable(): PrivacyError {
  return new PrivacyError('PRIVACY_PARAMETER', 'no amount of noise keeps this epsilon and delta', {
    where: 'noiseMultiplierFor',
    fix: 'use a larger epsilon or delta, or release less alongside',
  });
}
