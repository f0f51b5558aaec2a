/**
 * From released sufficient statistics to an additive model: ridge regression whose penalty follows from the noise.
 *
 * First each field by itself: the penalised least-squares profile of y - mean(y) over its bins, shrunk by how much of it
 * the noise explains (positive-part James-Stein; Efron, Morris 1973). Then one ridge regression on the K profiles with
 * the inner products that the cross tables give. At large noise the inner products are shrunk to nothing and the
 * profiles stand as they are; without noise this is the ordinary ridge estimate on the profiles.
 *
 * The penalty of the regression is AdaSSP's (Wang 2018, algorithm 2, step 4): the spectral norm that the noise left in
 * the inner products can have. Post-processing: sees released sums and public facts only.
 */
import type { Statistics } from './adassp.ts';
import { type ModelShape, offsetsOf } from './binned.ts';
import { choleskySolve } from './cholesky.ts';
import { fieldMean, precision } from './fieldSums.ts';
import type { AdditiveModel } from './site.ts';
import { shrinkage, smoothingEnergy, smoothingSolve, solvedNoise } from './smoothing.ts';

/** Public groups of the bins of each field, for the cross tables. */
export interface Groups {
  /** Group of each bin within its field, one-hot order. */
  readonly groupOf: Int32Array;
  /** Groups of each field. */
  readonly sizes: readonly number[];
  /** Where the table of each pair k < l starts (pairs in lexicographic order); entry a * sizes[l] + b. */
  readonly starts: Int32Array;
  /** Entries of all tables. */
  readonly pairs: number;
}

/** Standard deviations of the noise in each coordinate of the statistics, summed over banks; 0 without privacy. */
export interface StatisticsNoise {
  readonly counts: number;
  readonly labels: number;
  readonly crosses: number;
}

const ORDERED_GROUPS = 3;
const OTHER_GROUPS = 4;
// Penalties in units of the noise of X^T y. Fixed on public data (Adult, Telco, Taiwan, ULB), the same for every bank.
const RIDGE_SHARE = 5;
const SMOOTH_SHARE = 50;
// The bins of the field whose neighbours are pulled together with exactly SMOOTH_SHARE.
const REFERENCE_BINS = 32;
const SHRINKAGE = 0.5;
// No base rate is believed outside [RAREST, 1 - RAREST], whatever the noise says.
const RAREST = 1e-4;

/** Ordered bins in three ranges and `missing`; a vocabulary in up to four runs of its public order. */
export function groupsOf(shape: ModelShape): Groups {
  const { offsets, total } = offsetsOf(shape.sizes);
  const groupOf = new Int32Array(total);
  const sizes = shape.sizes.map((size, k) => {
    const ordered = shape.ordered[k];
    const span = ordered > 0 ? ordered : size;
    const ranges = Math.min(ordered > 0 ? ORDERED_GROUPS : OTHER_GROUPS, span);
    for (let bin = 0; bin < size; bin++) {
      groupOf[offsets[k] + bin] = bin < span ? Math.floor((bin * ranges) / span) : ranges + (bin - span);
    }
    return ranges + (size - span);
  });
  const starts: number[] = [];
  let pairs = 0;
  for (let k = 0; k < sizes.length; k++) {
    for (let l = k + 1; l < sizes.length; l++) {
      starts.push(pairs);
      pairs += sizes[k] * sizes[l];
    }
  }
  return { groupOf, sizes, starts: Int32Array.from(starts), pairs };
}

/** The model that released statistics give. */
export function solve(released: Statistics, noise: StatisticsNoise, shape: ModelShape, groups: Groups): AdditiveModel {
  const { sizes } = shape;
  const counts = released.counts.map((count) => Math.max(0, count));
  const records = Math.max(1, fieldMean(released.counts, sizes));
  const rateNoise = noise.labels / 2 / Math.sqrt(precision(sizes)) / records;
  const least = Math.min(0.25, Math.max(RAREST, rateNoise));
  const mean = Math.min(0.5 - least, Math.max(least - 0.5, fieldMean(released.labels, sizes) / 2 / records));
  // X^T (y - mean(y)).
  const centred = released.labels.map((sum, i) => sum / 2 - mean * counts[i]);
  const profiles = fieldProfiles(centred, counts, noise.labels / 2, shape);
  const factors = combine(profiles, centred, counts, released.crosses, noise.crosses, shape, groups);
  // Least squares on y moves p; to first order around the base rate the logit moves 1 / (p (1 - p)) times as far.
  const rate = 0.5 + mean;
  const slope = 1 / (rate * (1 - rate));
  return {
    intercept: Math.log(rate / (1 - rate)),
    // Adding 0 turns -0 into 0, which JSON cannot tell apart.
    weights: profiles.map((profile, k) => profile.map((value) => value * factors[k] * slope + 0)),
  };
}

/** Penalised least-squares effect of each field by itself, of mean zero over the counts. */
function fieldProfiles(centred: Float64Array, counts: Float64Array, noise: number, shape: ModelShape): number[][] {
  const { offsets } = offsetsOf(shape.sizes);
  return shape.sizes.map((size, k) => {
    const ordered = shape.ordered[k];
    const sums = centred.subarray(offsets[k], offsets[k] + size);
    const diagonal = counts.subarray(offsets[k], offsets[k] + size);
    const smooth = ((1 + SMOOTH_SHARE * noise) * ordered) / REFERENCE_BINS;
    const penalty = { ridge: 1 + RIDGE_SHARE * noise, smooth };
    const profile = smoothingSolve(sums, diagonal, ordered, penalty);
    let factor = 1;
    if (noise > 0) {
      const energy = smoothingEnergy(profile, diagonal, ordered, penalty);
      const explained = SHRINKAGE * noise ** 2 * solvedNoise(diagonal, ordered, penalty).energy;
      factor = shrinkage(energy, explained);
    }
    let weighted = 0;
    let mass = 0;
    profile.forEach((value, bin) => {
      weighted += diagonal[bin] * value;
      mass += diagonal[bin];
    });
    const mean = mass > 0 ? weighted / mass : 0;
    return Array.from(profile, (value) => factor * (value - mean));
  });
}

/**
 * The factor of each profile: ridge regression of y on the profiles, all in units of a profile's own length.
 *
 * The diagonal is profile . X^T y rather than profile . X^T X profile, which differ by the profile's own penalty: so a
 * field that overlaps with no other keeps factor 1, and no penalty is counted twice.
 */
function combine(
  profiles: readonly (readonly number[])[],
  centred: Float64Array,
  counts: Float64Array,
  crosses: Float64Array,
  noise: number,
  shape: ModelShape,
  groups: Groups,
): Float64Array {
  const fields = profiles.length;
  const { offsets } = offsetsOf(shape.sizes);
  const lengths = profiles.map((profile, k) =>
    Math.sqrt(
      Math.max(
        0,
        profile.reduce((sum, value, bin) => sum + value * centred[offsets[k] + bin], 0),
      ),
    ),
  );
  const active = lengths.flatMap((length, k) => (length > 0 ? [k] : []));
  const factors = new Float64Array(fields).fill(1);
  if (crosses.length === 0 || active.length < 2) return factors;
  const levels = profiles.map((profile, k) => groupLevels(profile, counts.subarray(offsets[k]), groups, offsets[k], k));
  const size = active.length;
  const matrix = new Float64Array(size * size);
  let energy = 0;
  let explained = 0;
  active.forEach((k, i) => {
    for (let j = i + 1; j < size; j++) {
      const l = active[j];
      const scale = lengths[k] * lengths[l];
      const start = groups.starts[(k * (2 * fields - k - 1)) / 2 + (l - k - 1)];
      const inner = innerProduct(crosses.subarray(start), levels[k], levels[l]) / scale;
      // Beyond 1 only noise can bring it.
      const bounded = Math.max(-1, Math.min(1, inner));
      matrix[i * size + j] = matrix[j * size + i] = bounded;
      energy += bounded ** 2;
      explained += noise ** 2 * ((squaredLength(levels[k]) * squaredLength(levels[l])) / scale ** 2);
    }
  });
  const kept = shrinkage(energy, explained);
  for (let i = 0; i < matrix.length; i++) matrix[i] *= kept;
  const target = Float64Array.from(active, (k) => lengths[k]);
  const rms = Math.sqrt(explained / ((size * (size - 1)) / 2));
  let penalty = kept * 2 * rms * Math.sqrt(size);
  for (;;) {
    const penalised = Float64Array.from(matrix, (value, at) => (at % (size + 1) === 0 ? 1 + penalty : value));
    const solution = choleskySolve(penalised, target);
    if (solution !== null) {
      // Times 1 + penalty: the penalty tames the inner products and is not meant to shrink every field once more.
      active.forEach((k, i) => {
        factors[k] = (solution[i] * (1 + penalty)) / lengths[k];
      });
      return factors;
    }
    penalty = 0.05 + 1.5 * penalty;
  }
}

/** Mean of the profile over the bins of each group, weighted by their counts. */
function groupLevels(
  profile: readonly number[],
  counts: Float64Array,
  groups: Groups,
  offset: number,
  field: number,
): Float64Array {
  const sums = new Float64Array(groups.sizes[field]);
  const masses = new Float64Array(groups.sizes[field]);
  profile.forEach((value, bin) => {
    const group = groups.groupOf[offset + bin];
    sums[group] += counts[bin] * value;
    masses[group] += counts[bin];
  });
  return sums.map((sum, group) => (masses[group] > 0 ? sum / masses[group] : 0));
}

function innerProduct(table: Float64Array, rows: Float64Array, columns: Float64Array): number {
  let sum = 0;
  for (let a = 0; a < rows.length; a++) {
    for (let b = 0; b < columns.length; b++) sum += table[a * columns.length + b] * rows[a] * columns[b];
  }
  return sum;
}

function squaredLength(vector: Float64Array): number {
  return vector.reduce((sum, value) => sum + value * value, 0);
}
