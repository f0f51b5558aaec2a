/**
 * Seeded randomness of the simulator: xoshiro128** 1.1 of Blackman and Vigna, "Scrambled Linear Pseudorandom Number
 * Generators", ACM TOMS 47(4), 2021 (reference code at prng.di.unimi.it), its state filled by SplitMix32.
 *
 * Limit: predictable by design. It makes data and never noise or keys.
 */
import type { RandomSource } from '../random.ts';

export interface SimulatorRandom extends RandomSource {
  /** Uniform in [0, 1) with 32 bits. */
  uniform(): number;
  /** Uniform integer in [0, n), n at most 2^31; the bias of the multiplication is below n / 2^32. */
  below(n: number): number;
  /** Standard normal (Marsaglia's polar method). */
  normal(): number;
  /** Log-normal with the given median and standard deviation of the logarithm. */
  logNormal(median: number, sigma: number): number;
  /** Exponential with the given mean. */
  exponential(mean: number): number;
  chance(probability: number): boolean;
}

/** One independent stream per (seed, purpose): `purpose` names what the stream is for, e.g. `bank a customers`. */
export function seededRandom(seed: number, purpose: string): SimulatorRandom {
  let mixed = seed >>> 0;
  mixed = splitMix(mixed ^ (Math.floor(seed / 2 ** 32) >>> 0));
  for (let at = 0; at < purpose.length; at++) mixed = splitMix(mixed ^ purpose.charCodeAt(at));
  let a = splitMix(mixed);
  let b = splitMix(a);
  let c = splitMix(b);
  let d = splitMix(c) | 1;
  let spare = Number.NaN;

  function next(): number {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  }

  function uniform(): number {
    return next() * 2 ** -32;
  }

  function normal(): number {
    if (!Number.isNaN(spare)) {
      const value = spare;
      spare = Number.NaN;
      return value;
    }
    for (;;) {
      const u = 2 * uniform() - 1;
      const v = 2 * uniform() - 1;
      const s = u * u + v * v;
      if (s >= 1 || s === 0) continue;
      const scale = Math.sqrt((-2 * Math.log(s)) / s);
      spare = v * scale;
      return u * scale;
    }
  }

  return {
    nextUint32: next,
    fill(out) {
      for (let at = 0; at < out.length; at++) out[at] = next() >>> 24;
    },
    uniform,
    below: (n) => Math.floor(uniform() * n),
    normal,
    logNormal: (median, sigma) => median * Math.exp(sigma * normal()),
    exponential: (mean) => -mean * Math.log(1 - uniform()),
    chance: (probability) => uniform() < probability,
  };
}

/** One step of SplitMix32: a bijection of 32-bit words that spreads every bit (constants of Stafford's variant). */
function splitMix(word: number): number {
  let z = (word + 0x9e3779b9) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) >>> 0;
}
