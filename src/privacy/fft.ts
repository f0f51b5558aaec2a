/**
 * Discrete Fourier transform of complex vectors whose length is a power of two, with a proven bound of its error.
 *
 * Source: Cooley, Tukey 1965, radix 2, decimation in time; error bound: Higham, "Accuracy and Stability of Numerical
 * Algorithms", 2nd edition, theorem 24.2:
 *   ||computed - exact||_2 <= t eta / (1 - t eta) ||exact||_2,  t = log2 N,  eta = mu + gamma_4 (sqrt 2 + mu),
 * mu the error of a root of unity, gamma_4 = 4u / (1 - 4u), u = 2^-53.
 *
 * The angle 2 pi k / N is at most pi with relative error 2u, sine and cosine are within 2u (1 ulp, V8's fdlibm), so
 * mu <= 2 pi u + 2 sqrt 2 u < 10u and eta < 16u = 2^-49.
 * Limit: N <= 2^22; not constant time.
 *
 * GUARANTEES.md: "Discrete Fourier transform"
 */
import { PrivacyError } from '../errors.ts';

export const GUARANTEE = 'Discrete Fourier transform';

const LARGEST_LENGTH = 2 ** 22;

/** N = re.length = im.length, a power of two in [2, 2^22]; overwrites both with sum_n x_n e^(-2 pi i k n / N). */
export function transform(re: Float64Array, im: Float64Array): void {
  const length = re.length;
  if (length !== im.length || length < 2 || length > LARGEST_LENGTH || (length & (length - 1)) !== 0) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'a transform takes a power of two up to 2^22', { where: 'transform' });
  }
  reverseBits(re, im);
  const { cosines, sines } = rootsOf(length);
  for (let half = 1; half < length; half *= 2) {
    const stride = length / (2 * half);
    for (let start = 0; start < length; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const c = cosines[k * stride];
        const s = sines[k * stride];
        const i = start + k;
        const j = i + half;
        const x = re[j] * c + im[j] * s;
        const y = im[j] * c - re[j] * s;
        re[j] = re[i] - x;
        im[j] = im[i] - y;
        re[i] += x;
        im[i] += y;
      }
    }
  }
}

/**
 * Adds the transform of one point, mass at `index`, to frequencies 0 .. N/2. Its error is at most 16u = 2^-49 of the
 * mass in each, which `transform` could only bound by sqrt N times as much.
 */
export function addPoint(re: Float64Array, im: Float64Array, index: number, mass: number): void {
  const length = re.length;
  const { cosines, sines } = rootsOf(length);
  for (let k = 0, at = 0; k <= length / 2; k++) {
    const sign = at < length / 2 ? mass : -mass;
    const root = at < length / 2 ? at : at - length / 2;
    re[k] += sign * cosines[root];
    im[k] -= sign * sines[root];
    at += index;
    if (at >= length) at -= length;
  }
}

/** Relative error of `transform` in the Euclidean norm, rounded up. */
export function transformError(length: number): number {
  return Math.log2(length) * 2 ** -49 * (1 + 2 ** -40);
}

function reverseBits(re: Float64Array, im: Float64Array): void {
  for (let i = 1, j = 0; i < re.length; i++) {
    let bit = re.length >> 1;
    for (; (j & bit) !== 0; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
}

interface Roots {
  cosines: Float64Array;
  sines: Float64Array;
}

// The last length used: one accounting asks for the same length four times, and keeping more would keep megabytes.
let latest: { length: number; roots: Roots } | null = null;

function rootsOf(length: number): Roots {
  if (latest?.length === length) return latest.roots;
  const roots = { cosines: new Float64Array(length / 2), sines: new Float64Array(length / 2) };
  for (let k = 0; k < length / 2; k++) {
    const angle = (2 * Math.PI * k) / length;
    roots.cosines[k] = Math.cos(angle);
    roots.sines[k] = Math.sin(angle);
  }
  latest = { length, roots };
  return roots;
}
