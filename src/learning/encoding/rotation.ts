/**
 * A public random rotation that spreads a vector's length evenly over its coordinates, so that few bits hold them all.
 *
 * Source: the randomized Hadamard transform (Ailon, Chazelle, SIAM J. Comput. 2009; for private sums Kairouz, Liu,
 * Steinke 2021, arXiv 2102.06387, section 4). A transform needs a power of two P; instead of padding, which could
 * nearly double what is sent, two transforms are taken over overlapping windows, [0, P) and then [d - P, d) with P the
 * largest power of two <= d, each after random signs. Both are orthogonal, so their composition is, and every
 * coordinate of the result is spread over at least P others: a vector of norm r has coordinates of about r / sqrt(P),
 * Gaussian in law.
 *
 * The signs are public: SHA-256 of a seed and a counter. They hide nothing and are fixed before any record is read.
 *
 * Rounding. One stage of a transform is an addition and a subtraction, relative error 2^-53 each, so it changes the
 * result by at most 2^-53 of its norm in L2, and normalising adds three roundings: `rotationError` bounds the whole,
 * forward or back. Limit: d <= 2^16.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';
import { LearningError } from '../../errors.ts';

/** Longest vector that is rotated. */
export const MAX_ROTATED = 65_536;

export interface Rotation {
  /** A new vector of the same length and norm. */
  apply(vector: Float64Array): Float64Array;
  /** The inverse of `apply`. */
  undo(vector: Float64Array): Float64Array;
}

/** @param dimension 1 to 65,536. @param seed public text: another seed gives an independent rotation. */
export function rotationOf(dimension: number, seed: string): Rotation {
  if (!(Number.isInteger(dimension) && dimension >= 1 && dimension <= MAX_ROTATED)) {
    throw new LearningError('TRAINING_INPUT', `a vector to rotate has 1 to ${MAX_ROTATED} coordinates`, {
      where: 'dimension',
    });
  }
  const window = windowOf(dimension);
  const starts = window === dimension ? [0] : [0, dimension - window];
  const signs = starts.map((_, i) => signsOf(window, `${seed}#${i}`));
  return {
    apply(vector) {
      const out = copyOf(vector, dimension);
      for (const [i, start] of starts.entries()) {
        const part = out.subarray(start, start + window);
        for (let k = 0; k < window; k++) part[k] *= signs[i][k];
        transform(part);
      }
      return out;
    },
    undo(vector) {
      const out = copyOf(vector, dimension);
      for (let i = starts.length - 1; i >= 0; i--) {
        const part = out.subarray(starts[i], starts[i] + window);
        transform(part);
        for (let k = 0; k < window; k++) part[k] *= signs[i][k];
      }
      return out;
    },
  };
}

/** P: over how many coordinates a rotation spreads at least; the largest power of two <= dimension. */
export function windowOf(dimension: number): number {
  return 2 ** Math.floor(Math.log2(dimension));
}

/** Largest L2 distance between the computed and the exact rotation of a vector, as a share of the vector's norm. */
export function rotationError(dimension: number): number {
  // Per window: one rounding a stage, three for the factor; twice that covers the growth of the norm by the errors so
  // far.
  return 2 * 2 * (Math.log2(windowOf(dimension)) + 3) * 2 ** -53;
}

/** The normalised Hadamard transform, in place; its own inverse. */
function transform(part: Float64Array): void {
  const { length } = part;
  for (let half = 1; half < length; half *= 2) {
    for (let block = 0; block < length; block += 2 * half) {
      for (let i = block; i < block + half; i++) {
        const a = part[i];
        const b = part[i + half];
        part[i] = a + b;
        part[i + half] = a - b;
      }
    }
  }
  const factor = 1 / Math.sqrt(length);
  for (let i = 0; i < length; i++) part[i] *= factor;
}

function signsOf(count: number, seed: string): Int8Array {
  const signs = new Int8Array(count);
  for (let at = 0, counter = 0; at < count; counter++) {
    for (const byte of sha256(utf8ToBytes(`veilrisk/rotation/v1#${seed}#${counter}`))) {
      for (let bit = 0; bit < 8 && at < count; bit++) signs[at++] = (byte >> bit) & 1 ? -1 : 1;
    }
  }
  return signs;
}

function copyOf(vector: Float64Array, dimension: number): Float64Array {
  if (vector.length !== dimension) {
    throw new LearningError('TRAINING_INPUT', `there must be ${dimension} numbers`, { where: 'rotation' });
  }
  return Float64Array.from(vector);
}
