/**
 * The integers modulo 2^bits, 16 <= bits <= 32, and vectors of them in bytes: `dimension` integers of `bits` bits, little
 * endian, without gaps, the last byte padded with zeros. A vector has exactly one encoding.
 *
 * Inside, coordinates are 32-bit words with wrap-around; 2^bits divides 2^32, so the low bits of a sum of words are the
 * sum of the low bits.
 */
import { SecaggError } from '../../src/errors.ts';

export const MIN_BITS = 16;
export const MAX_BITS = 32;
/** As many coordinates as a message of the protocol can hold. */
export const MAX_DIMENSION = 1 << 20;

/** Bytes of a packed vector. */
export function packedBytes(dimension: number, bits: number): number {
  return Math.ceil((dimension * bits) / 8);
}

/** @throws SecaggError SECAGG_RANGE unless every value is an integer with |x| < 2^(bits-1). */
export function toRing(values: Float64Array, bits: number): Uint32Array<ArrayBuffer> {
  const half = 2 ** (bits - 1);
  const words = new Uint32Array(values.length);
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    if (!(value > -half && value < half) || !Number.isInteger(value)) {
      throw new SecaggError('SECAGG_RANGE', `A value is not an integer within 2^${bits - 1}.`, { where: 'values' });
    }
    words[at] = value;
  }
  return words;
}

/** The representative in [-2^(bits-1), 2^(bits-1)) of each coordinate's low bits. */
export function fromRing(words: Uint32Array, bits: number): Float64Array {
  const unused = 32 - bits;
  const values = new Float64Array(words.length);
  // The shift to the right is arithmetic: it reads the upper bit as the sign, for 32 bits too.
  for (let at = 0; at < words.length; at++) values[at] = (words[at] << unused) >> unused;
  return values;
}

/** The low `bits` bits of every word. */
export function packVector(words: Uint32Array, bits: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(packedBytes(words.length, bits));
  const high = bits - 16;
  const highMask = 2 ** high - 1;
  let at = 0;
  let held = 0;
  let count = 0;
  // Two halves of at most 16 bits each, so that what is held never exceeds 23 bits.
  for (const word of words) {
    held |= (word & 0xffff) << count;
    out[at] = held;
    out[at + 1] = held >>> 8;
    at += 2;
    held >>>= 16;
    held |= ((word >>> 16) & highMask) << count;
    count += high;
    while (count >= 8) {
      out[at++] = held;
      held >>>= 8;
      count -= 8;
    }
  }
  if (count > 0) out[at] = held;
  return out;
}

/** @throws SecaggError SECAGG_RANGE for bytes of another length, or with padding that is not zero. */
export function unpackVector(bytes: Uint8Array, dimension: number, bits: number): Uint32Array<ArrayBuffer> {
  if (bytes.length !== packedBytes(dimension, bits)) {
    throw new SecaggError('SECAGG_RANGE', `A packed vector is not ${packedBytes(dimension, bits)} bytes long.`, {
      where: 'values',
    });
  }
  const words = new Uint32Array(dimension);
  const high = bits - 16;
  const highMask = 2 ** high - 1;
  let at = 0;
  let held = 0;
  let count = 0;
  for (let index = 0; index < dimension; index++) {
    held |= (bytes[at] | (bytes[at + 1] << 8)) << count;
    at += 2;
    const low = held & 0xffff;
    held >>>= 16;
    while (count < high) {
      held |= bytes[at++] << count;
      count += 8;
    }
    words[index] = low | ((held & highMask) << 16);
    held >>>= high;
    count -= high;
  }
  if (held !== 0) {
    throw new SecaggError('SECAGG_RANGE', 'A packed vector is not padded with zeros.', { where: 'values' });
  }
  return words;
}
