/**
 * Exact non-negative rationals for noise parameters.
 *
 * A variance that is a float somewhere is a variance nobody can check, so the mechanisms take num/den and decide on
 * integers (Canonne, Kamath, Steinke 2020, section 5). Rounding is always up: more noise, never less.
 */
import { PrivacyError } from '../errors.ts';

/** num / den with num >= 0 and den > 0; not necessarily in lowest terms. */
export interface Rational {
  readonly num: bigint;
  readonly den: bigint;
}

// A power of two, so that a double times it is exact.
const DENOMINATOR = 1024n;

/**
 * The smallest multiple of 1/1024 that is at least `value`.
 *
 * @param value finite, in [0, 2^40].
 */
export function rationalAbove(value: number): Rational {
  if (!(value >= 0 && value <= 2 ** 40)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'a noise parameter must lie in [0, 2^40]', { where: 'rationalAbove' });
  }
  return { num: BigInt(Math.ceil(value * Number(DENOMINATOR))), den: DENOMINATOR };
}

export function squareOf(value: Rational): Rational {
  return { num: value.num * value.num, den: value.den * value.den };
}

/** Nearest double, for reports and for penalties; never for a decision that privacy rests on. */
export function approximately(value: Rational): number {
  const whole = value.num / value.den;
  return Number(whole) + Number(value.num - whole * value.den) / Number(value.den);
}

/** `num/den`, the form in which a parameter is logged and audited. */
export function rationalText(value: Rational): string {
  return `${value.num}/${value.den}`;
}

/** floor(sqrt(value)), exact, for value >= 0. */
export function integerSqrt(value: bigint): bigint {
  let root = BigInt(Math.floor(Math.sqrt(Number(value))));
  while (root * root > value) root -= 1n;
  while ((root + 1n) * (root + 1n) <= value) root += 1n;
  return root;
}
