/** Foreign bytes before SEAL: the layouts are the library's own, and everything else is refused with a stable code. */
import { beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { inspectPublicKey, openEncryption, type SecretKey } from '../../src/encryption/encryption.ts';
import { checkCiphertext, checkPublicKey, publicKeyShape, uploadShape } from '../../src/encryption/preamble.ts';
import { PRESETS } from '../../src/encryption/presets.ts';
import { Scope, sealRuntime } from '../../src/encryption/seal.ts';
import {
  ciphertextBytes,
  plaintextPreamble,
  SEEDED_FIELDS,
  seededBytes,
  seededPreamble,
  seedPreamble,
} from '../../src/encryption/sealBytes.ts';
import { readFrame } from '../../src/encryption/wire.ts';
import type { EncryptionError } from '../../src/errors.ts';
import { headerOf, modelOf } from './support.ts';

const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe.each(Object.values(PRESETS))('preset $name', (preset) => {
  let key: SecretKey;
  let ciphertext: Uint8Array;

  beforeAll(async () => {
    const encryption = await openEncryption(preset.name);
    key = encryption.createKeys();
    const request = encryption.encryptRequest(key, headerOf(key, modelOf([1]), 'row', 1), [[[0, 1]]]);
    ciphertext = readFrame('request', request).parts[0].slice();
  });

  test('what the library writes is exactly the layout written here', async () => {
    expect(ciphertext.length).toBe(seededBytes(uploadShape(preset)));
    expect(hexOf(ciphertext.subarray(0, 113))).toBe(hexOf(seededPreamble(uploadShape(preset))));
    expect(hexOf(ciphertext.slice(-81, -64))).toBe(hexOf(seedPreamble()));
    expect(hexOf(key.publicKey.subarray(0, 113))).toBe(hexOf(seededPreamble(publicKeyShape(preset))));
    expect(hexOf(key.exposeSealBytes().subarray(0, 88))).toBe(hexOf(plaintextPreamble(publicKeyShape(preset))));
    const { seal, context } = await sealRuntime(preset.name);
    using scope = new Scope();
    const full = scope.own(new seal.Ciphertext());
    full.loadFromArray(context, ciphertext);
    const saved: Uint8Array = full.saveToArray(seal.ComprModeType.none);
    const residues = new BigUint64Array(saved.slice(113).buffer);
    expect(hexOf(saved)).toBe(hexOf(ciphertextBytes(uploadShape(preset), residues, true)));
  });

  test('honest bytes pass', async () => {
    expect(() => checkCiphertext(ciphertext, preset, 'ciphertext 0')).not.toThrow();
    expect(checkPublicKey(key.publicKey)).toBe(preset);
    expect(await inspectPublicKey(key.publicKey)).toEqual({ keyId: key.keyId, preset: preset.name });
  });

  test('every byte of the preamble and of the seed header matters', () => {
    const positions = [...Array(113).keys(), ...Array.from({ length: 17 }, (_, i) => ciphertext.length - 81 + i)];
    for (const at of positions) {
      const bytes = ciphertext.slice();
      bytes[at] ^= 1;
      const field = SEEDED_FIELDS.findLast((one) => one.at <= at)!.at;
      const isParameter = at < 113 && field >= 16 && field < 89;
      expect([at, codeOf(() => checkCiphertext(bytes, preset, 'ciphertext 0'))]).toEqual([
        at,
        isParameter ? 'CIPHERTEXT_PARAMETERS' : 'CIPHERTEXT_MALFORMED',
      ]);
      if (at >= 113) continue;
      const publicKey = key.publicKey.slice();
      publicKey[at] ^= 1;
      expect([at, codeOf(() => checkPublicKey(publicKey))]).toEqual([at, 'PUBLIC_KEY_MALFORMED']);
    }
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, 0, -1, 1e-300, 2 ** 61])('scale %d is refused', (scale) => {
    const bytes = ciphertext.slice();
    new DataView(bytes.buffer).setFloat64(73, scale, true);
    expect(codeOf(() => checkCiphertext(bytes, preset, 'ciphertext 0'))).toBe('CIPHERTEXT_PARAMETERS');
  });

  test('compressed, unseeded and foreign ciphertexts are refused', async () => {
    const { seal, context } = await sealRuntime(preset.name);
    using scope = new Scope();
    const full = scope.own(new seal.Ciphertext());
    full.loadFromArray(context, ciphertext);
    for (const mode of [seal.ComprModeType.none, seal.ComprModeType.zlib, seal.ComprModeType.zstd]) {
      expect(codeOf(() => checkCiphertext(full.saveToArray(mode), preset, 'c'))).toBe('CIPHERTEXT_MALFORMED');
    }
    expect(codeOf(() => checkCiphertext(key.publicKey, preset, 'c'))).toBe('CIPHERTEXT_MALFORMED');
    const other = preset.name === 'standard' ? PRESETS.conservative : PRESETS.standard;
    expect(codeOf(() => checkCiphertext(ciphertext, other, 'c'))).toBe('CIPHERTEXT_MALFORMED');
  });

  test('a residue at or above its prime is refused', () => {
    for (const prime of [0, 1]) {
      const bytes = ciphertext.slice();
      const at = 113 + 8 * (prime * preset.degree + 5);
      new DataView(bytes.buffer).setBigUint64(at, preset.primes[prime] - 1n, true);
      expect(codeOf(() => checkCiphertext(bytes, preset, 'c'))).toBe('accepted');
      new DataView(bytes.buffer).setBigUint64(at, preset.primes[prime], true);
      expect(codeOf(() => checkCiphertext(bytes, preset, 'c'))).toBe('CIPHERTEXT_MALFORMED');
    }
  });

  test('degenerate public keys are refused: zero, constant, zero at one prime', () => {
    const words = 3 * preset.degree;
    const zeroed = (from: number, to: number, value: bigint) => {
      const bytes = key.publicKey.slice();
      const view = new DataView(bytes.buffer);
      for (let i = from; i < to; i++) view.setBigUint64(113 + 8 * i, value, true);
      return bytes;
    };
    expect(codeOf(() => checkPublicKey(zeroed(0, words, 0n)))).toBe('PUBLIC_KEY_DEGENERATE');
    expect(codeOf(() => checkPublicKey(zeroed(0, words, 5n)))).toBe('PUBLIC_KEY_DEGENERATE');
    expect(codeOf(() => checkPublicKey(zeroed(2 * preset.degree, words, 0n)))).toBe('PUBLIC_KEY_DEGENERATE');
  });

  test.each([0n, 5n])('a ciphertext whose first polynomial is %d everywhere is refused', (value) => {
    for (const prime of [0, 1]) {
      const bytes = ciphertext.slice();
      const view = new DataView(bytes.buffer);
      const first = prime * preset.degree;
      for (let i = first; i < first + preset.degree; i++) view.setBigUint64(113 + 8 * i, value, true);
      expect(codeOf(() => checkCiphertext(bytes, preset, 'c'))).toBe('CIPHERTEXT_MALFORMED');
    }
  });

  test('mutated and truncated bytes never get past with another meaning (property)', () => {
    const codes = ['CIPHERTEXT_MALFORMED', 'CIPHERTEXT_PARAMETERS'];
    fc.assert(
      fc.property(
        fc.nat(ciphertext.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.option(fc.nat(ciphertext.length)),
        (at, flip, cut) => {
          const bytes = ciphertext.slice(0, cut ?? ciphertext.length);
          if (at < bytes.length) bytes[at] ^= flip;
          const code = codeOf(() => checkCiphertext(bytes, preset, 'c'));
          // A changed residue below its prime, or a changed seed, is another valid ciphertext.
          if (code !== 'accepted') expect(codes).toContain(code);
          else expect(bytes.length === ciphertext.length && at >= 113).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });
});

test.each([0, 1, 98_497, 98_499, 1_000_000])('a public key of %d bytes is refused', (length) => {
  expect(codeOf(() => checkPublicKey(new Uint8Array(length)))).toBe('PUBLIC_KEY_MALFORMED');
});

function codeOf(step: () => unknown): string {
  try {
    step();
  } catch (error) {
    return (error as EncryptionError).code;
  }
  return 'accepted';
}
