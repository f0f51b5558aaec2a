/**
 * Exact integers on the wire: zigzag LEB128 varints, the packed form of protobuf's `repeated sint64`
 * (protobuf encoding guide, "Signed Integers" and "Packed Repeated Fields"), read and written without bigints.
 *
 * Limit: |x| <= 2^46, so that the sum over 100 sites is exact in binary64. There is no way to write a NaN, an infinity
 * or a fraction; a varint longer than it must be is refused, so every vector has exactly one encoding.
 */

import { FederationError } from '../../src/errors.ts';

export const MAX_COORDINATE = 2 ** 46;
/** Largest number of coordinates of one update. */
const MAX_DIMENSION = 1 << 20;

/** Throws MESSAGE_MALFORMED unless every value is an integer with |x| <= 2^46. */
export function encodeHistogram(values: Float64Array): Uint8Array<ArrayBuffer> {
  if (values.length > MAX_DIMENSION) throw malformed(`has more than ${MAX_DIMENSION} coordinates`);
  const out = new Uint8Array(values.length * 7);
  let at = 0;
  for (const value of values) {
    if (!Number.isSafeInteger(value) || Math.abs(value) > MAX_COORDINATE) {
      throw malformed('holds a value that is not an integer within 2^46');
    }
    // zigzag(x) = 2m + s with s = (x < 0) and m = x or -x - 1, split off seven bits at a time.
    const negative = value < 0 ? 1 : 0;
    let rest = negative ? -value - 1 : value;
    let low = (rest % 64) * 2 + negative;
    rest = Math.floor(rest / 64);
    while (rest > 0) {
      out[at++] = low | 0x80;
      low = rest % 128;
      rest = Math.floor(rest / 128);
    }
    out[at++] = low;
  }
  return out.slice(0, at);
}

/** Reads exactly `dimension` integers and nothing after them. Throws MESSAGE_MALFORMED. */
export function decodeHistogram(bytes: Uint8Array, dimension: number): Float64Array {
  if (dimension > MAX_DIMENSION || bytes.length < dimension) throw malformed('is shorter than its dimension');
  const values = new Float64Array(dimension);
  let at = 0;
  for (let index = 0; index < dimension; index++) {
    if (at >= bytes.length) throw malformed('ends too early');
    let byte = bytes[at++];
    const negative = byte & 1;
    let magnitude = (byte & 0x7f) >> 1;
    let scale = 64;
    while (byte & 0x80) {
      if (at >= bytes.length) throw malformed('ends inside an integer');
      byte = bytes[at++];
      if (byte === 0 || scale > MAX_COORDINATE) throw malformed('holds an integer that is overlong or too large');
      magnitude += (byte & 0x7f) * scale;
      scale *= 128;
    }
    const value = negative ? -magnitude - 1 : magnitude;
    if (Math.abs(value) > MAX_COORDINATE) throw malformed('holds an integer beyond 2^46');
    values[index] = value;
  }
  if (at !== bytes.length) throw malformed('is longer than its dimension');
  return values;
}

function malformed(what: string): FederationError {
  return new FederationError('MESSAGE_MALFORMED', `The histogram ${what}.`, { where: 'histogram.values' });
}
