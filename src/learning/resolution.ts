/**
 * The resolution at which sums are released and a model is learnt: knots of a line for fields of many ordered bins.
 *
 * Noise is per released number, so a sum over many fine bins carries the noise of all of them. A field of many ordered
 * bins is therefore released as sums against hat functions (the basis of piecewise-linear functions) and learnt as a line
 * through its knots: 10 knots for 32 bins carry half the noise in every smooth shape. It is a strategy matrix in the
 * sense of Li et al., "The matrix mechanism", VLDB Journal 2015. The model that comes out has a weight for every bin.
 *
 * Exactness: the weights of a bin are two multiples of 1/8 that sum to 1, so its row measures at most 1 in L2 and the
 * sensitivity in units of 1/8 is 8 times that of bins. Public: shape and knots are all it depends on.
 */
import { LearningError } from '../errors.ts';
import { type ModelShape, offsetsOf } from './binned.ts';

/** One record counts as so many units in a released sum, where the plan has knots. */
const KNOT_UNIT = 8;
/** A field is learnt through knots when it has at least so many ordered bins for each. */
const BINS_PER_KNOT = 2;

export interface Resolution {
  /** Shape of what is released and learnt: `ordered` counts knots where a field has them. */
  readonly shape: ModelShape;
  /** Numbers of a release. */
  readonly total: number;
  /** Sums over bins, exact integers, as sums to release: exact integers, `unitOf(knots)` for each of theirs. */
  reduce(sums: Float64Array): Float64Array;
  /** Weights at the knots as weights of every bin. */
  expand(weights: readonly (readonly number[])[]): number[][];
}

/** Units in which a release counts one record. @param knots of the plan; 0 releases every bin. */
export function unitOf(knots: number): number {
  return knots === 0 ? 1 : KNOT_UNIT;
}

/** @param shape of the contract. @param knots of a field of many ordered bins, >= 2; 0 keeps every bin. */
export function resolutionOf(shape: ModelShape, knots: number): Resolution {
  const unit = unitOf(knots);
  const ordered = shape.ordered.map((bins) => (knots > 0 && bins >= BINS_PER_KNOT * knots ? knots : bins));
  const sizes = shape.sizes.map((size, k) => size - shape.ordered[k] + ordered[k]);
  const bins = offsetsOf(shape.sizes).total;
  const { offsets, total } = offsetsOf(sizes);
  /** Per bin: the knot at or before it, and the units that go to the next one. */
  const knotOf = new Int32Array(bins);
  const next = new Uint8Array(bins);
  let bin = 0;
  shape.sizes.forEach((size, k) => {
    for (let j = 0; j < size; j++, bin++) {
      if (ordered[k] === shape.ordered[k]) knotOf[bin] = offsets[k] + j;
      else if (j >= shape.ordered[k]) knotOf[bin] = offsets[k] + ordered[k] + (j - shape.ordered[k]);
      else {
        const units = Math.round((j * (ordered[k] - 1) * unit) / (shape.ordered[k] - 1));
        knotOf[bin] = offsets[k] + Math.floor(units / unit);
        next[bin] = units % unit;
      }
    }
  });
  return {
    shape: { sizes, ordered },
    total,
    reduce(sums) {
      if (sums.length !== bins) throw wrongLength(bins);
      const released = new Float64Array(total);
      for (let i = 0; i < bins; i++) {
        released[knotOf[i]] += (unit - next[i]) * sums[i];
        if (next[i] > 0) released[knotOf[i] + 1] += next[i] * sums[i];
      }
      return released;
    },
    expand(weights) {
      const flat = weights.flat();
      if (flat.length !== total) throw wrongLength(total);
      let at = 0;
      return shape.sizes.map((size) =>
        Array.from({ length: size }, () => {
          const i = at++;
          if (next[i] === 0) return flat[knotOf[i]];
          return ((unit - next[i]) * flat[knotOf[i]] + next[i] * flat[knotOf[i] + 1]) / unit;
        }),
      );
    },
  };
}

function wrongLength(length: number): LearningError {
  return new LearningError('TRAINING_INPUT', `there must be ${length} numbers`, { where: 'resolution' });
}
