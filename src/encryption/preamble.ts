/**
 * The check of foreign bytes before SEAL sees any of them.
 *
 * SEAL's own loader decompresses before it validates (32 KB of zstd take 8 seconds and 4 GB), accepts any scale, NaN
 * included, and an all-zero public key. Here an upload must be, byte for byte, the only preamble an honest caller of
 * this preset can produce, have exactly its length, and hold residues below their primes.
 * Limit: the residues of a ciphertext are not, and cannot be, checked for the size of their noise (THREATS.md).
 */
import { EncryptionError, type EncryptionErrorCode } from '../errors.ts';
import type { Preset } from './presets.ts';
import { PRESETS } from './presets.ts';
import {
  CIPHERTEXT_PREAMBLE_BYTES,
  type PolynomialShape,
  SEED_TRAILER_BYTES,
  SEEDED_FIELDS,
  seededBytes,
  seededPreamble,
  seedPreamble,
} from './sealBytes.ts';

/** A polynomial whose residues are zero, or repeat their neighbour, more often than one in this many is not random. */
const DEGENERATE_ONE_IN = 64;
/** Of a ciphertext, of which a request may hold thousands, every eighth residue is looked at. */
const CIPHERTEXT_STEP = 8;

/** Shape of an uploaded ciphertext: NTT form, two data primes, scale 2^inputBits. */
export function uploadShape(preset: Preset): PolynomialShape {
  return { parmsId: preset.uploadParmsId, degree: preset.degree, primes: 2, scale: 2 ** preset.inputBits };
}

/** Shape of a public key: NTT form, all three primes, scale 1. */
export function publicKeyShape(preset: Preset): PolynomialShape {
  return { parmsId: preset.keyParmsId, degree: preset.degree, primes: 3, scale: 1 };
}

/**
 * @param where names the ciphertext in the refusal
 * @throws EncryptionError CIPHERTEXT_MALFORMED (not an uncompressed seeded ciphertext, residues out of range, or a first
 *   polynomial that is zero or constant), CIPHERTEXT_PARAMETERS (of another preset, level or scale)
 */
export function checkCiphertext(bytes: Uint8Array, preset: Preset, where: string): void {
  const shape = uploadShape(preset);
  checkSeeded(bytes, shape, preset, where, 'CIPHERTEXT_MALFORMED', 'CIPHERTEXT_PARAMETERS');
  if (isDegenerate(bytes, shape, CIPHERTEXT_STEP)) {
    throw new EncryptionError('CIPHERTEXT_MALFORMED', 'the ciphertext is not a random polynomial', {
      where,
      fix: 'Encrypt with the SDK.',
    });
  }
}

/**
 * Finds the preset by length and checks everything against it.
 *
 * @throws EncryptionError PUBLIC_KEY_MALFORMED, PUBLIC_KEY_DEGENERATE
 */
export function checkPublicKey(bytes: Uint8Array): Preset {
  const preset = Object.values(PRESETS).find((one) => seededBytes(publicKeyShape(one)) === bytes.length);
  if (preset === undefined) {
    throw new EncryptionError('PUBLIC_KEY_MALFORMED', 'a public key has another length', {
      where: `${bytes.length} bytes`,
      fix: 'Send the uncompressed, seeded public key of a preset, as the SDK makes it.',
    });
  }
  const shape = publicKeyShape(preset);
  checkSeeded(bytes, shape, preset, 'public key', 'PUBLIC_KEY_MALFORMED', 'PUBLIC_KEY_MALFORMED');
  if (isDegenerate(bytes, shape, 1)) {
    throw new EncryptionError('PUBLIC_KEY_DEGENERATE', 'the public key is not a random polynomial', {
      where: 'public key',
      fix: 'Create a new key pair.',
    });
  }
  return preset;
}

function checkSeeded(
  bytes: Uint8Array,
  shape: PolynomialShape,
  preset: Preset,
  where: string,
  malformed: EncryptionErrorCode,
  parameters: EncryptionErrorCode,
): void {
  const refuse = (code: EncryptionErrorCode, field: string) => {
    throw new EncryptionError(code, `${field} is not that of a seeded object of preset ${preset.name}`, {
      where,
      fix: 'Encrypt with the SDK, at the preset of the registered key, without compression.',
    });
  };
  if (bytes.length !== seededBytes(shape)) refuse(malformed, 'the length');
  const expected = seededPreamble(shape);
  for (let at = 0; at < expected.length; at++) {
    if (bytes[at] === expected[at]) continue;
    // Safe: the first field is at 0.
    const field = SEEDED_FIELDS.findLast((one) => one.at <= at)!;
    const isParameter = field.at >= 16 && field.at < 89;
    refuse(isParameter ? parameters : malformed, `the ${field.name}`);
  }
  const trailer = seedPreamble();
  const trailerAt = bytes.length - SEED_TRAILER_BYTES;
  if (trailer.some((byte, at) => bytes[trailerAt + at] !== byte)) refuse(malformed, 'the seed');
  if (!residuesBelow(bytes, shape, preset)) refuse(malformed, 'a residue');
}

function residuesBelow(bytes: Uint8Array, shape: PolynomialShape, preset: Preset): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset + CIPHERTEXT_PREAMBLE_BYTES);
  let at = 0;
  for (let prime = 0; prime < shape.primes; prime++) {
    const high = Number(preset.primes[prime] >> 32n);
    const low = Number(preset.primes[prime] & 0xffffffffn);
    for (let i = 0; i < shape.degree; i++, at += 8) {
      const word = view.getUint32(at + 4, true);
      if (word > high || (word === high && view.getUint32(at, true) >= low)) return false;
    }
  }
  return true;
}

function isDegenerate(bytes: Uint8Array, shape: PolynomialShape, step: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset + CIPHERTEXT_PREAMBLE_BYTES);
  for (let prime = 0; prime < shape.primes; prime++) {
    let suspicious = 0;
    let before = -1;
    for (let i = 0; i < shape.degree; i += step) {
      const at = 8 * (prime * shape.degree + i);
      // The low 32 bits of a residue of a 17 to 55 bit prime repeat or vanish by chance once in 2^17 at most.
      const low = view.getUint32(at, true);
      if (low === 0 || low === before) suspicious++;
      before = low;
    }
    if (suspicious > shape.degree / step / DEGENERATE_ONE_IN) return true;
  }
  return false;
}
