/**
 * X25519 (RFC 7748) over raw 32-byte keys, and HKDF-SHA256 (RFC 5869) over the whole shared secret.
 *
 * A public key is taken only in its one canonical encoding and only if it is not of low order, so that two encodings of
 * one key are seen as the duplicate they are and no shared secret is known to everybody (RFC 7748, section 6.1).
 * Limit: KeyObjects hold copies of secret keys that cannot be wiped; they are made per use and dropped.
 */
import { createPrivateKey, createPublicKey, diffieHellman, hkdfSync, type KeyObject } from 'node:crypto';
import { SecaggError } from '../../src/errors.ts';

export const KEY_BYTES = 32;

// RFC 8410, sections 4 and 7: the DER of both forms of a key is a fixed prefix and the 32 raw bytes.
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');

// The u-coordinates of order dividing 8 below p = 2^255 - 19 (https://cr.yp.to/ecdh.html, "validate"), little endian.
const LOW_ORDER = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  `ec${'ff'.repeat(30)}7f`,
]);

/** @param secret 32 bytes, any. */
export function privateKey(secret: Uint8Array): KeyObject {
  const der = Buffer.concat([PKCS8_PREFIX, secret]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  der.fill(0);
  return key;
}

export function publicKeyOf(secret: Uint8Array): Uint8Array<ArrayBuffer> {
  const spki = createPublicKey(privateKey(secret)).export({ format: 'der', type: 'spki' });
  return new Uint8Array(spki.subarray(SPKI_PREFIX.length));
}

/** @throws SecaggError SECAGG_KEYS unless `key` is a canonical encoding of a point that is not of low order. */
export function checkPublicKey(key: Uint8Array, where: string): void {
  const fits = key.length === KEY_BYTES && isCanonical(key) && !LOW_ORDER.has(Buffer.from(key).toString('hex'));
  if (!fits) throw new SecaggError('SECAGG_KEYS', 'A public key is not a usable X25519 key.', { where });
}

/** Below p = 2^255 - 19, little endian. */
function isCanonical(key: Uint8Array): boolean {
  if (key[31] > 0x7f) return false;
  if (key[31] < 0x7f || key[0] < 0xed) return true;
  for (let at = 1; at < 31; at++) if (key[at] !== 0xff) return true;
  return false;
}

/** X25519. @returns 32 bytes, to be wiped. @throws SecaggError SECAGG_KEYS when they are all zero. */
export function sharedSecret(secret: KeyObject, peer: Uint8Array): Uint8Array<ArrayBuffer> {
  let shared: Buffer;
  try {
    const publicKey = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, peer]), format: 'der', type: 'spki' });
    shared = diffieHellman({ privateKey: secret, publicKey });
  } catch (cause) {
    // OpenSSL refuses an all-zero result by itself; the check below does not rely on it.
    throw new SecaggError('SECAGG_KEYS', 'Two X25519 keys agree on no secret.', { where: 'public key', cause });
  }
  if (shared.every((byte) => byte === 0)) {
    throw new SecaggError('SECAGG_KEYS', 'Two X25519 keys agree on no secret.', { where: 'public key' });
  }
  const bytes = new Uint8Array(shared);
  shared.fill(0);
  return bytes;
}

/** HKDF-SHA256 over the X25519 shared secret. @returns 32 bytes. @throws as `sharedSecret`. */
export function sharedKey(secret: KeyObject, peer: Uint8Array, salt: Uint8Array, info: Uint8Array): Uint8Array {
  const shared = sharedSecret(secret, peer);
  const key = derivedKey(shared, salt, info);
  shared.fill(0);
  return key;
}

/** HKDF-SHA256. @returns 32 bytes. */
export function derivedKey(secret: Uint8Array, salt: Uint8Array, info: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, salt, info, KEY_BYTES));
}
