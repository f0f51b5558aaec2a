/**
 * Calibration from a noisy score histogram: expected against observed positives, in the large, by slope, and in groups.
 *
 * The expected positives of a bin need its mean probability; a bin's middle is corrected for the bin's width as in
 * Sheppard's corrections (Sheppard 1898), which is linear in the cells and exact up to the fourth power of the width.
 * Slope: logistic regression of the label on the logit (Cox 1958), as an estimating equation linear in the cells with
 * the sandwich variance (Huber 1967). Limit: the open outer bins count as if they were as wide as their neighbours.
 */
import { type Measure, ratioInterval, within } from './ratioInterval.ts';
import { calibratedLogit } from './score.ts';
import { gridLogit, SCORE_BINS, SCORECARD_GRID, type ScoreGrid } from './scoreHistogram.ts';

export interface CalibrationGroup {
  /** Probabilities where the group begins and ends (the outer groups are open), and their mean over its records. */
  from: number;
  to: number;
  predicted: number;
  /** Share of positives among its records. */
  observed: Measure;
}

export interface Calibration {
  /** Observed over expected positives: 1 is right, above 1 the model underestimates the risk. */
  inTheLarge: Measure;
  /** 1 is right; below 1 the model's scores are too far apart. */
  slope: Measure;
  /** Eight groups of eight bins, ascending. */
  groups: CalibrationGroup[];
}

const GROUP_BINS = 8;
const NEWTON_STEPS = 25;
/** A slope known to less than this share of itself is not reported: the linearisation of its interval would not hold. */
const WIDEST = 0.5;

/** Where a grid lies and how its logits become probabilities. */
export interface ScoreScale {
  /** Of the model, or the centre of a dense one; the grid is laid about it. */
  readonly intercept: number;
  /** Default: that of scorecards. */
  readonly grid?: ScoreGrid;
  /** Of the plan: 1 when no residual was clipped. */
  readonly residualBound: number;
}

const probability = (logit: number) => 1 / (1 + Math.exp(-logit));

/** @param z normal quantile of both ends. */
export function calibrationOf(cells: Float64Array, variance: Float64Array, scale: ScoreScale, z: number): Calibration {
  const { intercept, residualBound, grid = SCORECARD_GRID } = scale;
  const at = (position: number) => calibratedLogit(intercept + gridLogit(position, grid), residualBound);
  const predicted = meanProbabilities(at);
  return {
    inTheLarge: within(observedOverExpected(cells, variance, predicted, z), 0, Number.MAX_VALUE),
    slope: slopeOf(cells, variance, { at, centre: calibratedLogit(intercept, residualBound), reach: grid.reach }, z),
    groups: Array.from({ length: SCORE_BINS / GROUP_BINS }, (_, group) => {
      const first = group * GROUP_BINS;
      const next = first + GROUP_BINS;
      const inside = (cell: number) => cell % SCORE_BINS >= first && cell % SCORE_BINS < next;
      const from = probability(at(first));
      const to = probability(at(next));
      let positives = 0;
      let records = 0;
      let expected = 0;
      for (let bin = first; bin < next; bin++) {
        const count = cells[bin] + cells[SCORE_BINS + bin];
        positives += cells[SCORE_BINS + bin];
        records += count;
        expected += count * predicted[bin];
      }
      const byCell = (cell: number) => {
        const d = inside(cell) ? 1 : 0;
        return { n: cell >= SCORE_BINS ? d : 0, d };
      };
      const observed = within(ratioInterval({ n: positives, d: records, byCell }, variance, z, z), 0, 1);
      // Where noise outweighs the records their mean would be anywhere; the middle of the group is public.
      const mean = observed === null ? (from + to) / 2 : Math.min(to, Math.max(from, expected / records));
      return { from, to, predicted: mean, observed };
    }),
  };
}

/** What a record of each bin adds to the expected positives: 2 p(middle) - mean of p over the bin. */
function meanProbabilities(logitAt: (position: number) => number): Float64Array {
  const at = (position: number) => probability(logitAt(position));
  return Float64Array.from({ length: SCORE_BINS }, (_, bin) => {
    const middle = at(bin + 0.5);
    // Simpson's rule; the bin is narrow.
    return 2 * middle - (at(bin) + 4 * middle + at(bin + 1)) / 6;
  });
}

function observedOverExpected(
  cells: Float64Array,
  variance: Float64Array,
  predicted: Float64Array,
  z: number,
): Measure {
  let observed = 0;
  let expected = 0;
  for (let bin = 0; bin < SCORE_BINS; bin++) {
    observed += cells[SCORE_BINS + bin];
    expected += predicted[bin] * (cells[bin] + cells[SCORE_BINS + bin]);
  }
  const byCell = (cell: number) => ({ n: cell >= SCORE_BINS ? 1 : 0, d: predicted[cell % SCORE_BINS] });
  return ratioInterval({ n: observed, d: expected, byCell }, variance, z, z);
}

/** Newton's method on the two score equations; null when it finds no solution or one that says too little. */
function slopeOf(
  cells: Float64Array,
  variance: Float64Array,
  { at, centre, reach }: { at: (position: number) => number; centre: number; reach: number },
  z: number,
): Measure {
  // Label = 1 with probability(level + slope * x) at distance x from the centre.
  let level = centre;
  let slope = 1;
  for (let step = 0; step < NEWTON_STEPS; step++) {
    let [s0, s1, h00, h01, h11, m00, m01, m11] = [0, 0, 0, 0, 0, 0, 0, 0];
    for (let bin = 0; bin < SCORE_BINS; bin++) {
      const x = at(bin + 0.5) - centre;
      const p = probability(level + slope * x);
      const negatives = cells[bin];
      const positives = cells[SCORE_BINS + bin];
      // Far bins hold few records and as much noise as any other.
      const trust = Math.exp(-((x / reach) ** 2));
      const score = trust * (positives * (1 - p) - negatives * p);
      const weight = trust * (positives + negatives) * p * (1 - p);
      const noise = trust * trust * (variance[SCORE_BINS + bin] * (1 - p) ** 2 + variance[bin] * p * p);
      s0 += score;
      s1 += score * x;
      h00 += weight;
      h01 += weight * x;
      h11 += weight * x * x;
      m00 += noise;
      m01 += noise * x;
      m11 += noise * x * x;
    }
    const determinant = h00 * h11 - h01 * h01;
    if (!(h00 > 0 && determinant > 0)) return null;
    const levelStep = (h11 * s0 - h01 * s1) / determinant;
    const slopeStep = (h00 * s1 - h01 * s0) / determinant;
    level += Math.max(-2, Math.min(2, levelStep));
    slope += Math.max(-1, Math.min(1, slopeStep));
    if (Math.abs(levelStep) + Math.abs(slopeStep) < 1e-9) {
      const spread = Math.sqrt(h00 * h00 * m11 - 2 * h00 * h01 * m01 + h01 * h01 * m00) / determinant;
      const half = z * spread;
      return half < WIDEST * slope ? { estimate: slope, low: slope - half, high: slope + half } : null;
    }
  }
  return null;
}
