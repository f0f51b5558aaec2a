/**
 * Tail probabilities of Student's t and of chi-square, for tests whose false-alarm rate is stated.
 *
 * Student: Abramowitz, Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4, exact for whole degrees of freedom up
 * to a rounding of 1e-15. Chi-square: Wilson, Hilferty 1931 (26.4.17), above the truth by an eighth at 1e-3 and 5 degrees
 * of freedom, closer with more.
 */
import { millsRatio } from '../../privacy/gdp.ts';

/** P(T > t) with `degrees` >= 1 degrees of freedom; at least 1e-15, so that rounding never makes a tail impossible. */
export function studentTail(t: number, degrees: number): number {
  if (t < 0) return 1 - studentTail(-t, degrees);
  const angle = Math.atan(t / Math.sqrt(degrees));
  const cosine = Math.cos(angle);
  const odd = degrees % 2 === 1;
  // Sum of cos^j with the coefficients 2/3, 2/3 4/5, ... or 1/2, 1/2 3/4, ...
  let term = odd ? cosine : 1;
  let sum = degrees === 1 ? 0 : term;
  for (let j = odd ? 3 : 2; j <= degrees - 2; j += 2) {
    term *= ((j - 1) / j) * cosine * cosine;
    sum += term;
  }
  const within = odd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
  return Math.max(1e-15, (1 - within) / 2);
}

/** P(X > x) for chi-square with `degrees` >= 1 degrees of freedom. */
export function chiSquareTail(x: number, degrees: number): number {
  const spread = 2 / (9 * degrees);
  return normalTail((Math.cbrt(Math.max(0, x) / degrees) - (1 - spread)) / Math.sqrt(spread));
}

/** P(Z > z). */
export function normalTail(z: number): number {
  if (z < 0) return 1 - normalTail(-z);
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * millsRatio(z);
}
