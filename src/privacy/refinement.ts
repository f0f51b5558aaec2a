/**
 * Epsilon and delta of composed releases by privacy loss distributions, on a grid refined until the answer settles.
 *
 * Every grid gives a valid upper bound, so refining only removes waste: the step is halved until the answer changes by
 * less than SETTLED of itself, and the least answer is reported. Addition and removal of a customer are both computed
 * and the worse one counts.
 * Limit: at most 2^20 grid points (beyond it the last answer, not settled); noise multipliers of 0.05 and more.
 *
 * GUARANTEES.md: "Refinement"
 */
import {
  type ComposedLoss,
  composeLosses,
  deltaOfCurve,
  epsilonOfCurve,
  findWindow,
  type Window,
} from './lossComposition.ts';
import { discretise, gridLength, LEAST_NOISE_MULTIPLIER, type Release } from './lossDistribution.ts';

export const GUARANTEE = 'Refinement';

/** Relative change of epsilon (of ln delta) between two grids below which the finer one is final. */
const SETTLED = 2 ** -11;
/** Mass cut off at the ends of all releases together, relative to delta. */
const CUT_OFF = 2 ** -16;
const MOST_POINTS = 2 ** 20;
/** Below this the accuracy is absolute. */
const SMALL_EPSILON = 1e-3;
/** Windows are sought anew while a grid is small. */
const SMALL_GRID = 2 ** 11;

/** An upper bound, and whether the grid was refined until it settled; infinite and not settled when out of range. */
export interface Refined {
  bound: number;
  settled: boolean;
}

/** Epsilon at `delta`. */
export function distributionEpsilon(releases: readonly Release[], delta: number): Refined {
  return refine(releases, delta, { delta });
}

/** Delta at `epsilon`. @param bound any upper bound of delta, > 0. */
export function distributionDelta(releases: readonly Release[], epsilon: number, bound: number): Refined {
  return refine(releases, bound, { epsilon });
}

type Target = { delta: number } | { epsilon: number };

function refine(releases: readonly Release[], delta: number, target: Target): Refined {
  if (releases.some((release) => release.noiseMultiplier < LEAST_NOISE_MULTIPLIER)) {
    return { bound: Number.POSITIVE_INFINITY, settled: false };
  }
  const times = releases.reduce((sum, release) => sum + release.times, 0);
  // A delta that is only bounded may be far smaller than its bound.
  const tail = (Math.min(delta, 0.5) * ('epsilon' in target ? CUT_OFF ** 2 : CUT_OFF)) / times;
  const directions: Direction[] = (['remove', 'add'] as const).map((name) => ({
    name,
    window: null,
    least: Number.POSITIVE_INFINITY,
  }));
  let worst = Number.POSITIVE_INFINITY;
  for (let step = firstStep(releases); ; step /= 2) {
    const points = releases.reduce((sum, release) => sum + gridLength(release, step, tail), 0);
    if (points > MOST_POINTS) return { bound: worst, settled: false };
    const pairs = releases.map((release) => ({ pair: discretise(release, step, tail), times: release.times }));
    const lossError = pairs.reduce((sum, { pair, times: count }) => sum + count * pair.lossError, 0) * (1 + 2 ** -40);
    const before = worst;
    worst = 0;
    let finest = Number.POSITIVE_INFINITY;
    // The worse one first: the other is computed again only when its earlier bound does not already lie below.
    for (const direction of directions.sort((a, b) => b.least - a.least)) {
      if (direction.least > worst) {
        const losses = pairs.map(({ pair, times: count }) => ({ loss: pair[direction.name], times: count }));
        if (direction.window === null || points < SMALL_GRID) direction.window = findWindow(losses, step, target);
        const { low, high, tilt } = direction.window;
        if ((high - low) / step > MOST_POINTS) return { bound: before, settled: false };
        direction.least = Math.min(direction.least, answerOf(losses, step, direction.window, target, lossError));
        finest = Math.min(finest, interpolationLimit('epsilon' in target ? target.epsilon : direction.least, tilt));
      }
      worst = Math.max(worst, direction.least);
    }
    const change = 'epsilon' in target ? Math.log(before / worst) / Math.max(1, -Math.log(worst)) : before / worst - 1;
    if (worst === 0 || (change < SETTLED && step <= finest)) return { bound: worst, settled: true };
  }
}

/**
 * The step at which interpolation between two grid points alone costs less than SETTLED: delta falls about as
 * e^(-tilt epsilon), so a chord of width h lies up to tilt h^2 / 8 too far to the right. Without this a value that
 * happens to be equal on two coarse grids would count as settled.
 */
function interpolationLimit(epsilon: number, tilt: number): number {
  return Math.sqrt((8 * SETTLED * Math.max(epsilon, SMALL_EPSILON)) / (1 + tilt));
}

interface Direction {
  name: 'remove' | 'add';
  window: Window | null;
  /** The least bound that any grid has given. */
  least: number;
}

function answerOf(
  losses: readonly ComposedLoss[],
  step: number,
  window: Window,
  target: Target,
  lossError: number,
): number {
  const curve = composeLosses(losses, step, window);
  if ('epsilon' in target) return deltaOfCurve(curve, Math.max(0, target.epsilon - lossError));
  const epsilon = epsilonOfCurve(curve, target.delta);
  return epsilon === null ? Number.POSITIVE_INFINITY : (epsilon + lossError) * (1 + 2 ** -50);
}

/**
 * Spreading a loss over two grid points adds a variance of h^2 / 6 on average. The first grid keeps that below a tenth
 * of the variance of the whole, taken from chi-square divergence (for large divergence, from the Gaussian unsampled).
 */
function firstStep(releases: readonly Release[]): number {
  let variance = 0;
  let times = 0;
  for (const { noiseMultiplier: s, samplingRate: q, times: count } of releases) {
    variance += count * Math.min(q * q * Math.expm1(1 / (s * s)), q / (s * s));
    times += count;
  }
  return 2 ** Math.floor(Math.log2(Math.sqrt((0.6 * variance) / times)));
}
