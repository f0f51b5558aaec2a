/**
 * The byte layouts of SEAL 4.1 objects, uncompressed: what this room writes and what it compares uploads with.
 *
 * Source: SEAL 4.1 `serialization.h` (header), `ciphertext.cpp`, `plaintext.h`, `dynarray.h`, `randomgen.h` (members);
 * FORMAT.md repeats them with offsets. All integers are little-endian. node-seal exposes no polynomial data, so
 * residues go in and out through these bytes.
 * Limit: tied to SEAL 4.1 as in node-seal 7; the tests compare every layout with what the library itself writes.
 */

const MAGIC = 0xa15e;
const HEADER_BYTES = 16;
const MAJOR = 4;
const MINOR = 1;
/** `compr_mode_type::none`. */
const UNCOMPRESSED = 0;
const SEED_BYTES = 64;
/** `prng_type::blake2xb`, the only generator SEAL is built with here. */
const BLAKE2XB = 1;

/** Header, then parms_id, NTT flag, size, N, number of primes, scale, correction factor, then the array's header. */
export const CIPHERTEXT_PREAMBLE_BYTES = 113;
export const PLAINTEXT_PREAMBLE_BYTES = 88;
/** A header, the generator's type and its seed; stands for the second polynomial. */
export const SEED_TRAILER_BYTES = HEADER_BYTES + 1 + SEED_BYTES;

export interface PolynomialShape {
  readonly parmsId: string;
  readonly degree: number;
  /** Primes at this level; each polynomial is `primes` runs of `degree` residues. */
  readonly primes: number;
  readonly scale: number;
}

/** Where each field of a seeded object starts, for a refusal that names it. In order; a field ends where the next starts. */
export const SEEDED_FIELDS = [
  { name: 'magic', at: 0 },
  { name: 'header size', at: 2 },
  { name: 'version', at: 3 },
  { name: 'compression mode', at: 5 },
  { name: 'reserved', at: 6 },
  { name: 'length', at: 8 },
  { name: 'parms_id', at: 16 },
  { name: 'NTT flag', at: 48 },
  { name: 'polynomials', at: 49 },
  { name: 'degree', at: 57 },
  { name: 'primes', at: 65 },
  { name: 'scale', at: 73 },
  { name: 'correction factor', at: 81 },
  { name: 'array header', at: 89 },
  { name: 'array length', at: 105 },
] as const;

export function seededBytes(shape: PolynomialShape): number {
  return CIPHERTEXT_PREAMBLE_BYTES + 8 * shape.primes * shape.degree + SEED_TRAILER_BYTES;
}

/** The first 113 bytes of a seeded ciphertext or public key of this shape. */
export function seededPreamble(shape: PolynomialShape): Uint8Array {
  const out = new Uint8Array(CIPHERTEXT_PREAMBLE_BYTES);
  writeCiphertextPreamble(out, shape, seededBytes(shape), shape.primes * shape.degree, true);
  return out;
}

/** The header and generator type in front of a seed: 17 bytes. */
export function seedPreamble(): Uint8Array {
  const out = new Uint8Array(HEADER_BYTES + 1);
  writeHeader(new DataView(out.buffer), 0, SEED_TRAILER_BYTES);
  out[HEADER_BYTES] = BLAKE2XB;
  return out;
}

/**
 * A ciphertext of two polynomials.
 *
 * @param residues both polynomials, each `primes` runs of `degree` residues below their prime
 * @param ntt whether the residues are in NTT form
 */
export function ciphertextBytes(shape: PolynomialShape, residues: BigUint64Array, ntt: boolean): Uint8Array {
  const out = new Uint8Array(CIPHERTEXT_PREAMBLE_BYTES + residues.byteLength);
  writeCiphertextPreamble(out, shape, out.length, residues.length, ntt);
  out.set(bytesOf(residues), CIPHERTEXT_PREAMBLE_BYTES);
  return out;
}

/** A plaintext in NTT form. @param residues `primes` runs of `degree` residues */
export function plaintextBytes(shape: PolynomialShape, residues: BigUint64Array): Uint8Array {
  const out = new Uint8Array(PLAINTEXT_PREAMBLE_BYTES + residues.byteLength);
  out.set(plaintextPreamble(shape));
  out.set(bytesOf(residues), PLAINTEXT_PREAMBLE_BYTES);
  return out;
}

/** The first 88 bytes of a plaintext, which is also how SEAL stores a secret key. */
export function plaintextPreamble(shape: PolynomialShape): Uint8Array {
  const count = shape.primes * shape.degree;
  const out = new Uint8Array(PLAINTEXT_PREAMBLE_BYTES);
  const view = new DataView(out.buffer);
  writeHeader(view, 0, PLAINTEXT_PREAMBLE_BYTES + 8 * count);
  writeHex(out, 16, shape.parmsId);
  writeCount(view, 48, count);
  view.setFloat64(56, shape.scale, true);
  writeArrayHeader(view, 64, count);
  return out;
}

/** The residues behind a preamble, copied so that they are aligned. */
export function residuesAfter(bytes: Uint8Array, preambleBytes: number, count: number): BigUint64Array {
  const copy = bytes.slice(preambleBytes, preambleBytes + 8 * count);
  return new BigUint64Array(copy.buffer, copy.byteOffset, count);
}

export function bytesOf(residues: BigUint64Array): Uint8Array {
  return new Uint8Array(residues.buffer, residues.byteOffset, residues.byteLength);
}

function writeCiphertextPreamble(out: Uint8Array, shape: PolynomialShape, total: number, stored: number, ntt: boolean) {
  const view = new DataView(out.buffer, out.byteOffset);
  writeHeader(view, 0, total);
  writeHex(out, 16, shape.parmsId);
  out[48] = ntt ? 1 : 0;
  writeCount(view, 49, 2);
  writeCount(view, 57, shape.degree);
  writeCount(view, 65, shape.primes);
  view.setFloat64(73, shape.scale, true);
  writeCount(view, 81, 1);
  writeArrayHeader(view, 89, stored);
}

function writeArrayHeader(view: DataView, at: number, count: number) {
  writeHeader(view, at, HEADER_BYTES + 8 + 8 * count);
  writeCount(view, at + HEADER_BYTES, count);
}

function writeHeader(view: DataView, at: number, total: number) {
  view.setUint16(at, MAGIC, true);
  view.setUint8(at + 2, HEADER_BYTES);
  view.setUint8(at + 3, MAJOR);
  view.setUint8(at + 4, MINOR);
  view.setUint8(at + 5, UNCOMPRESSED);
  view.setUint16(at + 6, 0, true);
  writeCount(view, at + 8, total);
}

function writeCount(view: DataView, at: number, value: number) {
  view.setUint32(at, value, true);
  view.setUint32(at + 4, 0, true);
}

function writeHex(out: Uint8Array, at: number, hex: string) {
  for (let i = 0; i < hex.length / 2; i++) out[at + i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
}
