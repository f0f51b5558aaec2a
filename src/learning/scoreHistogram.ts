/**
 * Score-by-label histograms on a public grid: what a bank releases to evaluate a finished model.
 *
 * 64 bins a label (design page privacy.md, section 8). The grid is a function of the model alone, so it is public before
 * any record is read: steps even in asinh(x / scale) of the logit's distance x from a centre of the model. Fine where
 * most records are, coarse in the tails.
 *
 * Scorecards: the centre is the intercept, which is the mean logit of a finished one. The grid starts 4 below it, because
 * bins below every positive add noise and tell nothing, and ends 8 above it, where a rare event's records are. Dense
 * models: the last bias says little (on ULB it is 9 above the mean logit, in the bin above all records), so the centre is
 * the logit at the middle of the features (`scoreCentre` in sgd/model.ts), up to 4 from the mean logit on the same data;
 * the grid is wider and less fine. It ends 20 above the centre, because positives of a rare event lie far up (on ULB 20
 * above a base of -13), and in an open bin less of them would be expected than the model says.
 * On Adult, Taiwan, Telco and ULB the AUC of the histogram is within .001 of that of a scorecard's scores; of a dense
 * model's within .003, on ULB with its few positives within .006.
 *
 * GUARANTEES.md: "Federated evaluation". Limit: un-noised. Only `addNoise` output may leave a node.
 */
import { LearningError } from '../errors.ts';

export const GUARANTEE = 'Federated evaluation';

/** Bins of each label; a release has twice as many integers. */
export const SCORE_BINS = 64;
export const SCORE_CELLS = 2 * SCORE_BINS;

/** In logits from the centre. */
export interface ScoreGrid {
  /** Where the steps turn from even to growing. */
  readonly scale: number;
  readonly lowest: number;
  readonly highest: number;
  /** Records about so far from the centre begin to lose weight in the slope of a calibration. */
  readonly reach: number;
}

// Fixed on the four public data sets of test/learning/scoreHistogram.test.ts and sgd/denseEvaluation.test.ts.
export const SCORECARD_GRID: ScoreGrid = { scale: 0.5, lowest: -4, highest: 8, reach: 3 };
export const DENSE_GRID: ScoreGrid = { scale: 2, lowest: -10, highest: 20, reach: 5 };

/** Logit, relative to the centre, at position `bin` of the grid; fractions lie inside a bin. */
export function gridLogit(bin: number, { scale, lowest, highest }: ScoreGrid = SCORECARD_GRID): number {
  const start = Math.asinh(lowest / scale);
  const step = (Math.asinh(highest / scale) - start) / SCORE_BINS;
  return scale * Math.sinh(start + step * bin);
}

/**
 * The 63 ascending logits between neighbouring bins of a model; the first and last bin are open outward.
 * @param intercept the centre.
 */
export function scoreEdges({ intercept }: { readonly intercept: number }, grid = SCORECARD_GRID): Float64Array {
  if (!Number.isFinite(intercept)) {
    throw new LearningError('MODEL_INVALID', 'the intercept is not a finite number', { where: 'intercept' });
  }
  return Float64Array.from({ length: SCORE_BINS - 1 }, (_, i) => intercept + gridLogit(i + 1, grid));
}

/**
 * How many records of each label fall into each bin; exact integers, un-noised.
 *
 * One record sets exactly one of the 128 cells, whatever the edges are, so m records of a customer move the vector by
 * at most m in L2.
 *
 * @param edges ascending, 63 of them; a logit equal to an edge lies in the bin above it.
 * @returns 64 cells of label 0, then 64 of label 1.
 */
export function scoreHistogram(
  logits: Float64Array,
  labels: ArrayLike<number>,
  edges: Float64Array,
): Float64Array<ArrayBuffer> {
  if (logits.length !== labels.length || edges.length !== SCORE_BINS - 1) {
    throw new LearningError('TRAINING_INPUT', `there must be a label for each score and ${SCORE_BINS - 1} edges`);
  }
  const cells = new Float64Array(SCORE_CELLS);
  for (let row = 0; row < logits.length; row++) {
    const logit = logits[row];
    const label = labels[row];
    // A sum of finite weights, taken one after the other, may be infinite but is never NaN: nobody who chooses a model can
    // make a node stop here for some records and not for others.
    if (Number.isNaN(logit) || (label !== 0 && label !== 1)) {
      throw new LearningError('TRAINING_INPUT', 'a score is not a number or a label not 0 or 1', {
        where: `row ${row}`,
      });
    }
    let bin = 0;
    for (let half = SCORE_BINS >> 1; half > 0; half >>= 1) if (logit >= edges[bin + half - 1]) bin += half;
    cells[label * SCORE_BINS + bin]++;
  }
  return cells;
}
