/**
 * The privacy loss of one Poisson-subsampled Gaussian release on a grid, pessimistic in both directions of add/remove.
 *
 * Let Q = N(0, s^2), P = (1-q) N(0, s^2) + q N(1, s^2), W = dP/dQ = 1 - q + q e^((2x-1)/(2 s^2)). (P, Q) dominates the
 * removal and (Q, P) the addition of a customer (Zhu, Dong, Wang 2022, theorem 11). Between neighbouring grid losses
 * k h and (k+1) h the outcomes are replaced by the two ends so that the masses under P and under Q are both kept: a
 * mean-preserving spread of W, hence an upper bound of every hockey-stick divergence, also after composition
 * (GUARANTEES.md). It is the "connect the dots" distribution of Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022
 * (arXiv 2207.04380), computed from integrals of positive functions instead of differences of a curve.
 *
 * Rounding: masses up. Grid points may be off by `lossError`, to be added once per release to epsilon.
 * Limit: noise multiplier >= 0.05.
 *
 * GUARANTEES.md: "Privacy loss distribution"
 */
import { PrivacyError } from '../errors.ts';

// Bound once for the long loops: a lookup of `Math` costs more than the function where modules run in a context of
// their own, as in the tests.
const { exp, expm1, abs } = Math;

export const GUARANTEE = 'Privacy loss distribution';

export const LEAST_NOISE_MULTIPLIER = 0.05;

const UNIT = 2 ** -52;
/** Gauss-Legendre, five points on [-1, 1] (Abramowitz, Stegun 25.4.30), as distances from -1; symmetric about 1. */
const NODES = [0.09382015406133601, 0.4615306898943169, 1, 1.538469310105683, 1.906179845938664];
const WEIGHTS = [0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4786286704993665, 0.2369268850561891];
/** Bound of cell half-width times the logarithmic slopes of the integrand; the quadrature error rests on it. */
const CELL = 1 / 64;

/** One kind of release, made `times` times. */
export interface Release {
  /** Standard deviation over L2 sensitivity. */
  noiseMultiplier: number;
  /** In (0, 1]. */
  samplingRate: number;
  times: number;
}

/** Loss masses at (first + i) * step, i = 0, 1, ...; what is not on the grid is at infinity. Rounded up. */
export interface LossMasses {
  first: number;
  masses: Float64Array;
  infinity: number;
}

/** Both directions of add/remove of one release, on one grid. */
export interface LossPair {
  remove: LossMasses;
  add: LossMasses;
  /** A grid point is this close to the loss it stands for, or closer. */
  lossError: number;
}

/** Number of grid points that `discretise` would make. */
export function gridLength(release: Release, step: number, tail: number): number {
  const { first, last } = reach(release, step, tail);
  return last - first + 1;
}

/**
 * @param step grid width of the loss, a power of two, so that grid losses are exact.
 * @param tail probability that may be cut off at each end and is accounted pessimistically, in (0, 1).
 */
export function discretise(release: Release, step: number, tail: number): LossPair {
  const { noiseMultiplier: s, samplingRate: q } = release;
  if (!(s >= LEAST_NOISE_MULTIPLIER) || !(q > 0 && q <= 1) || !(step > 0) || !(tail > 0 && tail < 1)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'the release is outside the range of a loss distribution', {
      where: 'discretise',
    });
  }
  const { first, last, low, high } = reach(release, step, tail);
  // Masses under Q at the grid points; under P they are e^loss times as much.
  const masses = new Float64Array(last - first + 1);
  let left = low;
  for (let k = first; k < last && left < high; k++) {
    const right = Math.min(high, pointOf((k + 1) * step, s, q));
    if (right <= left) continue;
    spread(k, left, right);
    left = right;
  }
  const largestSlope = Math.max(abs(2 * low - 1), abs(2 * high - 1)) / (2 * s * s);
  const lossError = 2 ** -48 * (1 + largestSlope + 1 / (s * s) - Math.log(q));

  const remove = new Float64Array(masses.length);
  const add = new Float64Array(masses.length);
  for (let i = 0; i < masses.length; i++) {
    const loss = (first + i) * step;
    const grown = 1 + 2 * lossError + UNIT * (8 + 2 * abs(loss));
    remove[i] = masses[i] * exp(loss) * grown;
    add[masses.length - 1 - i] = masses[i];
  }
  // What is cut off goes up: to infinity where the loss is largest, and at the other end to the second grid point, which
  // lies above the cut (the first one lies below it).
  remove[1] += tail;
  add[1] += tail;
  return {
    remove: { first, masses: remove, infinity: tail },
    add: { first: -last, masses: add, infinity: tail },
    lossError,
  };

  /** Spreads the outcomes in [left, right], whose losses lie between grid points k and k + 1, over those two. */
  function spread(k: number, left: number, right: number): void {
    const square = s * s;
    const above = pointOf((k + 1) * step, s, q);
    const below = pointOf(k * step, s, q);
    const whole = expm1((above - below) / square);
    // Below the least loss ln(1-q) there is no outcome; W_k is then 1 - q - `missing` * q e^(t at `above`).
    const unbounded = below === Number.NEGATIVE_INFINITY;
    const missing = unbounded
      ? (Math.max(0, -expm1(k * step - Math.log1p(-q))) * (1 - q)) / (q * exp((2 * above - 1) / (2 * square)))
      : 0;
    let cell = left;
    while (cell < right) {
      const slope = Math.max((abs(cell) / s + 1) / s, 1 / square);
      const end = Math.min(right, cell + (2 * CELL) / (slope + (2 * CELL) / s));
      const half = (end - cell) / 2;
      let toUpper = 0;
      let toLower = 0;
      for (let node = 0; node < NODES.length; node++) {
        const y = (cell + half * NODES[node]) / s;
        const density = WEIGHTS[node] * exp((-y * y) / 2);
        // Distances from the ends are taken from the ends and not from y, where they would cancel.
        const toAbove = (above - end + half * NODES[NODES.length - 1 - node]) / square;
        const rest = -expm1(-toAbove);
        if (unbounded) {
          toUpper += density * ((missing + exp(-toAbove)) / (1 + missing));
          toLower += density * (rest / (1 + missing));
        } else {
          toUpper += density * (expm1((cell - below + half * NODES[node]) / square) / whole);
          toLower += density * (rest * (1 + 1 / whole));
        }
      }
      const reached = Math.max(abs(cell), abs(end)) / s;
      const scale = (half / (s * Math.sqrt(2 * Math.PI))) * (1 + UNIT * (256 + 8 * reached * reached));
      masses[k + 1 - first] += toUpper * scale;
      masses[k - first] += toLower * scale;
      cell = end;
    }
  }
}

/** Where the loss ln W equals `loss`, or -Infinity where it is above that everywhere. */
function pointOf(loss: number, s: number, q: number): number {
  let slope = loss;
  if (q < 1) {
    if (loss > 1) slope = loss - Math.log(q) + Math.log1p(-(1 - q) * exp(-loss));
    else if (loss >= 0) slope = Math.log1p(expm1(loss) / q);
    else {
      const odds = (exp(loss) - (1 - q)) / q;
      if (odds <= 0) return Number.NEGATIVE_INFINITY;
      slope = Math.log(odds);
    }
  }
  return s * s * slope + 0.5;
}

/** The outcomes kept, [low, high], and the grid points that enclose their losses. */
function reach(
  release: Release,
  step: number,
  tail: number,
): { first: number; last: number; low: number; high: number } {
  const { noiseMultiplier: s, samplingRate: q } = release;
  // The upper tail of N(0, 1) at y is at most e^(-y^2/2) / 2.
  const y = Math.sqrt(-2 * Math.log(tail));
  const low = -y * s;
  const high = 1 + y * s;
  let first = Math.floor(lossAt(low, s, q) / step);
  while (pointOf(first * step, s, q) > low) first--;
  let last = Math.ceil(lossAt(high, s, q) / step);
  while (pointOf(last * step, s, q) < high) last++;
  return { first, last: Math.max(last, first + 1), low, high };
}

function lossAt(x: number, s: number, q: number): number {
  const slope = (2 * x - 1) / (2 * s * s);
  return slope > 30 ? slope + Math.log(q + (1 - q) * exp(-slope)) : Math.log1p(q * expm1(slope));
}
