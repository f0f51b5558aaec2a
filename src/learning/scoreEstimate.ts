/**
 * What a noisy score histogram says about a model: AUC, KS, calibration and base rate, each with an interval of at
 * least 95 % that includes the known noise and the sampling of the records.
 *
 * Every measure is a ratio of polynomials in the 128 cells; its interval is Fieller's (ratioInterval.ts). Without noise
 * that of the AUC is the interval of DeLong et al. 1988. A cell of c records counts with variance sigma^2 + m c: the noise,
 * and a Poisson number of customers of up to m records each. For m = 1 that is exact; above, it bounds the variance of
 * every linear combination of cells, however a customer's records are spread (Cauchy-Schwarz).
 *
 * Negative cells stay negative: clipping them would add positives where there are none. Only inside a variance is a count
 * taken as at least 0, which widens an interval by less than .4 sigma against sigma^2 a cell.
 * A measure is null where no bounded interval has the rate; over many evaluations null counts as holding the truth.
 * Limits: records are taken as a sample of those the model is used on; the mean absolute calibration error (ECE) is left
 * out, because a mean of absolute noisy differences is mostly noise.
 */
import { LearningError } from '../errors.ts';
import { type Measure, ratioInterval, within } from './ratioInterval.ts';
import { type Calibration, calibrationOf, type ScoreScale } from './scoreCalibration.ts';
import { SCORE_BINS, SCORE_CELLS } from './scoreHistogram.ts';

export interface ScoreEstimates {
  /** Records in the histogram; its interval is that of the noise alone. */
  records: Measure;
  /** Share of positives. */
  baseRate: Measure;
  /** Probability that a positive scores above a negative, ties half; ties are what shares a bin. */
  auc: Measure;
  /** Largest distance of the two score distributions at an edge; the interval has at least the rate. */
  ks: Measure;
  calibration: Calibration;
}

/** Normal quantile of .975. */
const Z = 1.959963984540054;
/** Normal quantile of 1 - .025 / 63 (Bonferroni): the lower end of KS holds at every edge at once. */
const Z_EVERY_EDGE = 3.3568;

/**
 * @param histogram noisy sum of score histograms: 64 cells of label 0, then 64 of label 1.
 * @param facts variance of the noise in each cell of that sum, intercept and residual bound of the model, which place the
 *   grid, and how many records a customer may have.
 */
export function estimate(
  histogram: ArrayLike<number>,
  facts: ScoreScale & { readonly noiseVariance: number; readonly maxRecordsPerSubject: number },
): ScoreEstimates {
  const cells = Float64Array.from(histogram);
  if (cells.length !== SCORE_CELLS || !cells.every(Number.isFinite) || !(facts.noiseVariance >= 0)) {
    throw new LearningError('TRAINING_INPUT', `a score histogram has ${SCORE_CELLS} finite cells`, {
      where: 'histogram',
    });
  }
  const variance = cells.map((cell) => facts.noiseVariance + facts.maxRecordsPerSubject * Math.max(0, cell));
  const sums = sumsOf(cells);
  const { positives, records } = sums;
  const byCell = (cell: number) => ({ n: cell >= SCORE_BINS ? 1 : 0, d: 1 });
  const spread = Z * Math.sqrt(SCORE_CELLS * facts.noiseVariance);
  return {
    records: within({ estimate: records, low: records - spread, high: records + spread }, 0, Number.MAX_VALUE),
    baseRate: within(ratioInterval({ n: positives, d: records, byCell }, variance, Z, Z), 0, 1),
    auc: within(aucInterval(cells, variance, sums), 0, 1),
    ks: within(ksInterval(variance, sums), 0, 1),
    calibration: calibrationOf(cells, variance, facts, Z),
  };
}

interface Sums {
  readonly positives: number;
  readonly negatives: number;
  readonly records: number;
  /** Records of each label in the bins before `bin`; 65 entries. */
  readonly negativesBelow: Float64Array;
  readonly positivesBelow: Float64Array;
}

function sumsOf(cells: Float64Array): Sums {
  const negativesBelow = new Float64Array(SCORE_BINS + 1);
  const positivesBelow = new Float64Array(SCORE_BINS + 1);
  for (let bin = 0; bin < SCORE_BINS; bin++) {
    negativesBelow[bin + 1] = negativesBelow[bin] + cells[bin];
    positivesBelow[bin + 1] = positivesBelow[bin] + cells[SCORE_BINS + bin];
  }
  const negatives = negativesBelow[SCORE_BINS];
  const positives = positivesBelow[SCORE_BINS];
  return { positives, negatives, records: positives + negatives, negativesBelow, positivesBelow };
}

/** Pairs won over pairs, ties half (the trapezoid under the ROC curve). */
function aucInterval(cells: Float64Array, variance: Float64Array, sums: Sums): Measure {
  const { positives, negatives, negativesBelow, positivesBelow } = sums;
  if (!(positives > 0 && negatives > 0)) return null;
  let wins = 0;
  const byCell = Array.from(cells, (_, cell) => {
    const bin = cell % SCORE_BINS;
    const beaten = (negativesBelow[bin] + negativesBelow[bin + 1]) / 2;
    const beating = positives - (positivesBelow[bin] + positivesBelow[bin + 1]) / 2;
    if (cell < SCORE_BINS) return { n: beating, d: positives };
    wins += cells[cell] * beaten;
    return { n: beaten, d: negatives };
  });
  return ratioInterval({ n: wins, d: positives * negatives, byCell: (cell) => byCell[cell] }, variance, Z, Z);
}

/**
 * The largest of 63 distances. It is at least each of them, so the largest lower end that holds at all edges at once is
 * one of its own; and it is one of them, so the largest upper end is too.
 */
function ksInterval(variance: Float64Array, sums: Sums): Measure {
  const { positives, negatives, negativesBelow, positivesBelow } = sums;
  if (!(positives > 0 && negatives > 0)) return null;
  let low = Number.NEGATIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  let best = { estimate: 0, certain: Number.NEGATIVE_INFINITY };
  for (let edge = 1; edge < SCORE_BINS; edge++) {
    const below = { negatives: negativesBelow[edge], positives: positivesBelow[edge] };
    const byCell = (cell: number) => {
      const inside = cell % SCORE_BINS < edge ? 1 : 0;
      if (cell < SCORE_BINS) return { n: inside * positives - below.positives, d: positives };
      return { n: below.negatives - inside * negatives, d: negatives };
    };
    const n = below.negatives * positives - below.positives * negatives;
    const at = ratioInterval({ n, d: positives * negatives, byCell }, variance, Z_EVERY_EDGE, Z);
    if (at === null) return null;
    low = Math.max(low, at.low);
    high = Math.max(high, at.high);
    // The largest of noisy distances is too large; the one that is surest to be large is so by much less.
    const certain = at.estimate - (at.high - at.estimate) / Z;
    if (certain > best.certain) best = { estimate: at.estimate, certain };
  }
  return { estimate: best.estimate, low: Math.min(low, best.estimate), high };
}
