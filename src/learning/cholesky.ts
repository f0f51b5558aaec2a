/**
 * Solves a small symmetric positive definite system by Cholesky factorisation (Golub, Van Loan, Matrix Computations,
 * 4th ed., algorithm 4.2.1). Limit: dense, n^3 / 3 operations; made for at most a few hundred unknowns.
 */

/**
 * @param matrix n * n entries, row-major, symmetric. @param target n entries.
 * @returns x with matrix x = target, or null when the matrix is not positive definite to working precision.
 */
export function choleskySolve(matrix: Float64Array, target: Float64Array): Float64Array | null {
  const n = target.length;
  const factor = Float64Array.from(matrix);
  for (let j = 0; j < n; j++) {
    let pivot = factor[j * n + j];
    for (let k = 0; k < j; k++) pivot -= factor[j * n + k] ** 2;
    if (!(pivot > matrix[j * n + j] * 1e-12)) return null;
    const root = Math.sqrt(pivot);
    factor[j * n + j] = root;
    for (let i = j + 1; i < n; i++) {
      let entry = factor[i * n + j];
      for (let k = 0; k < j; k++) entry -= factor[i * n + k] * factor[j * n + k];
      factor[i * n + j] = entry / root;
    }
  }
  const x = Float64Array.from(target);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= factor[i * n + k] * x[k];
    x[i] /= factor[i * n + i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= factor[k * n + i] * x[k];
    x[i] /= factor[i * n + i];
  }
  return x;
}
