/**
 * The per-field smoothing solve `(diag(h c + ridge) + smooth D^T D) x = g` of a scorecard round.
 *
 * D takes differences of neighbouring ordered bins, so the matrix is tridiagonal there and diagonal in a vocabulary
 * and in the `missing` bin; the Thomas algorithm (Golub, Van Loan, Matrix Computations, 4th ed., 4.3.6) is stable
 * because the matrix is symmetric and strictly diagonally dominant for ridge > 0.
 */
import { LearningError } from '../errors.ts';

export interface Penalty {
  /** Pull of every bin toward zero, > 0, in units of records. */
  readonly ridge: number;
  /** Pull of neighbouring ordered bins toward each other, >= 0, in units of records. */
  readonly smooth: number;
}

/**
 * @param diagonal h * c per bin, >= 0. @param ordered how many leading bins are ordered.
 * @returns x, same length as `gradient`.
 */
export function smoothingSolve(
  gradient: Float64Array,
  diagonal: Float64Array,
  ordered: number,
  penalty: Penalty,
): Float64Array {
  const solution = Float64Array.from(gradient);
  if (diagonal.length !== gradient.length) {
    throw new LearningError('TRAINING_INPUT', 'the smoothing solve needs a positive ridge and matching lengths');
  }
  substitute(solution, eliminate(diagonal, ordered, penalty), ordered, penalty.smooth, 0, gradient.length - 1);
  return solution;
}

/** What elimination leaves of the matrix: the pivots, and the factor with which each ordered row takes its upper one. */
interface Eliminated {
  readonly pivot: Float64Array;
  readonly factor: Float64Array;
}

function eliminate(diagonal: Float64Array, ordered: number, penalty: Penalty): Eliminated {
  const size = diagonal.length;
  if (ordered > size || !(penalty.ridge > 0) || !(penalty.smooth >= 0)) {
    throw new LearningError('TRAINING_INPUT', 'the smoothing solve needs a positive ridge and matching lengths');
  }
  const pivot = new Float64Array(size);
  const factor = new Float64Array(size);
  for (let i = 0; i < size; i++) pivot[i] = diagonal[i] + penalty.ridge;
  for (let i = 0; i + 1 < ordered; i++) {
    pivot[i] += penalty.smooth;
    pivot[i + 1] += penalty.smooth;
  }
  for (let i = 1; i < ordered; i++) {
    factor[i] = penalty.smooth / pivot[i - 1];
    pivot[i] -= factor[i] * penalty.smooth;
  }
  return { pivot, factor };
}

/** Solves in place for a right side that is zero before `from`; entries after `last` are zero and stay so. */
function substitute(
  solution: Float64Array,
  { pivot, factor }: Eliminated,
  ordered: number,
  smooth: number,
  from: number,
  last: number,
): void {
  for (let i = from + 1; i < ordered; i++) solution[i] += factor[i] * solution[i - 1];
  for (let i = last; i >= 0; i--) {
    const next = i + 1 < ordered ? smooth * solution[i + 1] : 0;
    solution[i] = (solution[i] + next) / pivot[i];
  }
}

/** x^T A x for the matrix A of the solve: how much the field says, in the solve's own units. */
export function smoothingEnergy(
  x: ArrayLike<number>,
  diagonal: Float64Array,
  ordered: number,
  penalty: Penalty,
): number {
  let energy = 0;
  for (let i = 0; i < x.length; i++) energy += (diagonal[i] + penalty.ridge) * x[i] * x[i];
  for (let i = 0; i + 1 < ordered; i++) energy += penalty.smooth * (x[i] - x[i + 1]) ** 2;
  return energy;
}

/** What the solve makes of independent noise of variance 1 in every entry of the gradient. */
export interface SolvedNoise {
  /** trace(A^-1): its expected energy, as `smoothingEnergy` measures it. */
  energy: number;
  /** Variance of each entry of the solution, the diagonal of A^-2. */
  variance: Float64Array;
}

/** One solve per bin, of one elimination. Bins that are not ordered are rows of their own. */
export function solvedNoise(diagonal: Float64Array, ordered: number, penalty: Penalty): SolvedNoise {
  const eliminated = eliminate(diagonal, ordered, penalty);
  let energy = 0;
  const variance = new Float64Array(diagonal.length);
  const column = new Float64Array(diagonal.length);
  for (let i = 0; i < ordered; i++) {
    column.fill(0);
    column[i] = 1;
    substitute(column, eliminated, ordered, penalty.smooth, i, ordered - 1);
    energy += column[i];
    for (let j = 0; j < ordered; j++) variance[j] += column[j] * column[j];
  }
  for (let i = ordered; i < diagonal.length; i++) {
    const own = 1 / eliminated.pivot[i];
    energy += own;
    variance[i] += own * own;
  }
  return { energy, variance };
}

/** Positive-part James-Stein factor (Efron, Morris 1973) for an estimate of which noise explains so much energy; in [0, 1]. */
export function shrinkage(energy: number, explained: number): number {
  return energy > 0 ? Math.max(0, 1 - explained / energy) : 0;
}
