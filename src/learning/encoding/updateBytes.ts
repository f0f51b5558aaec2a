/**
 * How many bytes the numbers of one update take, packed, at several precisions: what the encoding saves on the wire.
 *
 * Limit: payload only; an envelope adds about 200 bytes. One bit a number (signs, Bernstein et al. 2018, arXiv
 * 1802.04434) is for comparison: signs of a bank's sum are not private, and a sum of noised signs would need far more
 * noise.
 */
export interface UpdateBytes {
  readonly float32: number;
  readonly bits20: number;
  readonly bits16: number;
  readonly bits1: number;
}

export function updateBytes(dimension: number): UpdateBytes {
  return {
    float32: 4 * dimension,
    bits20: packedBytes(dimension, 20),
    bits16: packedBytes(dimension, 16),
    bits1: packedBytes(dimension, 1),
  };
}

/** Bytes of so many numbers of so many bits, one after the other. */
export function packedBytes(dimension: number, bits: number): number {
  return Math.ceil((dimension * bits) / 8);
}
