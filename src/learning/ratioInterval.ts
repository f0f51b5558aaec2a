/**
 * Intervals of ratios of noisy sums (Fieller 1954), stable where the denominator is hardly larger than its own noise.
 *
 * With n and d of known covariance, {r : (n - r d)^2 <= z^2 Var(n - r d)} holds the true ratio at the rate of z; where n
 * or d is not linear in the cells its gradient at the observed cells stands for it (delta method).
 */

/** A value and its interval; null where the noise leaves nothing to say. */
export type Measure = { estimate: number; low: number; high: number } | null;

/** n / d as functions of the same independent cells. */
export interface Ratio {
  readonly n: number;
  readonly d: number;
  /** Derivative of n and of d by each cell. */
  readonly byCell: (cell: number) => { readonly n: number; readonly d: number };
}

/**
 * @param variance of each cell, >= 0.
 * @param zLow,zHigh normal quantiles of the lower and the upper end.
 * @returns null when d is not positive beyond its noise, so that no bounded interval has the rate.
 */
export function ratioInterval(ratio: Ratio, variance: Float64Array, zLow: number, zHigh: number): Measure {
  const { n, d, byCell } = ratio;
  let nn = 0;
  let nd = 0;
  let dd = 0;
  for (let cell = 0; cell < variance.length; cell++) {
    const by = byCell(cell);
    nn += variance[cell] * by.n * by.n;
    nd += variance[cell] * by.n * by.d;
    dd += variance[cell] * by.d * by.d;
  }
  const end = (z: number, side: -1 | 1): number | null => {
    const a = d * d - z * z * dd;
    if (!(d > 0 && a > 0)) return null;
    const b = n * d - z * z * nd;
    const c = n * n - z * z * nn;
    // At n / d the quadratic is not positive, so it has real roots; rounding may say otherwise.
    return (b + side * Math.sqrt(Math.max(0, b * b - a * c))) / a;
  };
  const low = end(zLow, -1);
  const high = end(zHigh, 1);
  return low === null || high === null ? null : { estimate: n / d, low, high };
}

/** The part of a measure that its range allows. */
export function within(measure: Measure, least: number, most: number): Measure {
  if (measure === null) return null;
  const clamp = (value: number) => Math.min(most, Math.max(least, value));
  return { estimate: clamp(measure.estimate), low: clamp(measure.low), high: clamp(measure.high) };
}
