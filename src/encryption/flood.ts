/**
 * The noise flood: exact samples of the discrete Gaussian with deviation 2^b.
 *
 * Source: C. Karney, "Sampling exactly from the normal distribution", ACM TOMS 42 (2016), section 5, algorithm D with
 * integer deviation and mean zero; algorithms B and C are its Bernoulli trials. Only comparisons of uniform digits
 * decide, there is no floating point, and a comparison draws further digits until it is settled, so the distribution
 * is exactly P(m) proportional to exp(-m^2 / 2^(2b+1)) on the integers.
 * Limit: the running time depends on the sample (rejections); it depends on nothing secret of the model.
 */
import { EncryptionError } from '../errors.ts';
import type { RandomSource } from '../random.ts';

/** A real in [0, 1) as 32-bit digits, most significant first; digits are drawn when first needed. */
interface LazyReal {
  readonly digits: number[];
  /** False when the real is exactly its digits (zeros follow), true when further digits are still random. */
  readonly open: boolean;
}

/**
 * @param bits log2 of the standard deviation, integer 0 to 128
 * @returns one exact sample
 */
export function discreteGaussianPowerOfTwo(bits: number, random: RandomSource): bigint {
  if (!Number.isInteger(bits) || bits < 0 || bits > 128) {
    throw new EncryptionError('ENCRYPTION_PARAMETER', 'the flood deviation must be 2^0 to 2^128', { where: 'flood' });
  }
  for (;;) {
    const k = sampleK(random);
    if (!halves(k * (k - 1), random)) continue;
    const negative = (random.nextUint32() & 1) === 1;
    const fraction = uniformFraction(bits, random);
    if (negative && k === 0 && fraction.value === 0n) continue;
    let accepted = true;
    for (let trial = 0; accepted && trial <= k; trial++) accepted = bernoulliExp(k, fraction.real, random);
    if (!accepted) continue;
    const magnitude = (BigInt(k) << BigInt(bits)) + fraction.value;
    return negative ? -magnitude : magnitude;
  }
}

/** k >= 0 with probability exp(-k/2) (1 - exp(-1/2)): step D1. */
function sampleK(random: RandomSource): number {
  let k = 0;
  while (bernoulliExpHalf(random)) k++;
  return k;
}

/** True with probability exp(-n/2): step D2. */
function halves(n: number, random: RandomSource): boolean {
  for (let i = 0; i < n; i++) if (!bernoulliExpHalf(random)) return false;
  return true;
}

/** True with probability exp(-1/2): the length of the descending run of uniforms that starts below 1/2 is even. */
function bernoulliExpHalf(random: RandomSource): boolean {
  let before: LazyReal = { digits: [0x8000_0000], open: false };
  for (let run = 0; ; run++) {
    const next: LazyReal = { digits: [], open: true };
    if (!isBelow(next, before, random)) return run % 2 === 0;
    before = next;
  }
}

/** True with probability exp(-x (2k + x) / (2k + 2)): algorithm B, with algorithm C for its inner choice. */
function bernoulliExp(k: number, x: LazyReal, random: RandomSource): boolean {
  let before = x;
  for (let run = 0; ; run++) {
    const next: LazyReal = { digits: [], open: true };
    if (!isBelow(next, before, random)) return run % 2 === 0;
    const side = uniformBelow(2 * k + 2, random);
    if (side > 2 * k || (side === 2 * k && !isBelow({ digits: [], open: true }, x, random))) return run % 2 === 0;
    before = next;
  }
}

function isBelow(a: LazyReal, b: LazyReal, random: RandomSource): boolean {
  for (let at = 0; ; at++) {
    if (!b.open && at >= b.digits.length) return false;
    const left = digit(a, at, random);
    const right = digit(b, at, random);
    if (left !== right) return left < right;
  }
}

function digit(real: LazyReal, at: number, random: RandomSource): number {
  if (at < real.digits.length) return real.digits[at];
  const drawn = random.nextUint32();
  real.digits.push(drawn);
  return drawn;
}

/** A uniform fraction j / 2^bits, both as the integer j and as digits. */
function uniformFraction(bits: number, random: RandomSource): { value: bigint; real: LazyReal } {
  const digits: number[] = [];
  let value = 0n;
  for (let left = bits; left > 0; left -= 32) {
    const take = Math.min(32, left);
    const word = random.nextUint32() >>> (32 - take);
    digits.push(take === 32 ? word : word * 2 ** (32 - take));
    value = (value << BigInt(take)) | BigInt(word);
  }
  return { value, real: { digits, open: false } };
}

/** Uniform in [0, n) by rejection. @param n 1 to 2^31 */
function uniformBelow(n: number, random: RandomSource): number {
  const limit = 2 ** 32 - (2 ** 32 % n);
  for (;;) {
    const word = random.nextUint32();
    if (word < limit) return word % n;
  }
}
