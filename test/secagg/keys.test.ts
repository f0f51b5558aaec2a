/** X25519 and the derivation of keys, against RFC 7748 and RFC 5869. */
import { createHmac } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { checkPublicKey, derivedKey, privateKey, publicKeyOf, sharedKey } from '../../federated/secagg/keys.ts';

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');

// RFC 7748, section 6.1.
const ALICE = bytes('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a');
const ALICE_PUBLIC = '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a';
const BOB = bytes('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb');
const BOB_PUBLIC = 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f';
const SHARED = bytes('4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742');

// https://cr.yp.to/ecdh.html, "validate": all encodings of points of low order, those not below p included.
const LOW_ORDER = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
];

describe('X25519', () => {
  test('has the public keys of RFC 7748', () => {
    expect(hex(publicKeyOf(ALICE))).toBe(ALICE_PUBLIC);
    expect(hex(publicKeyOf(BOB))).toBe(BOB_PUBLIC);
  });

  test('derives from the whole shared secret of RFC 7748, by HKDF as written out in RFC 5869', () => {
    const salt = new Uint8Array(32).fill(0xab);
    const info = bytes('0102');
    const extracted = createHmac('sha256', salt).update(SHARED).digest();
    const expanded = createHmac('sha256', extracted).update(info).update(Uint8Array.of(1)).digest();
    expect(sharedKey(privateKey(ALICE), bytes(BOB_PUBLIC), salt, info)).toEqual(new Uint8Array(expanded));
    expect(sharedKey(privateKey(BOB), bytes(ALICE_PUBLIC), salt, info)).toEqual(new Uint8Array(expanded));
  });

  test.each(LOW_ORDER)('refuses the key %s of low order, in the list and in the agreement', (key) => {
    expect(() => checkPublicKey(bytes(key), 'bank-1')).toThrow(expect.objectContaining({ code: 'SECAGG_KEYS' }));
    expect(() => sharedKey(privateKey(ALICE), bytes(key), ALICE, ALICE)).toThrow(
      expect.objectContaining({ code: 'SECAGG_KEYS' }),
    );
  });

  test('takes a key in its canonical encoding only', () => {
    const point = bytes(BOB_PUBLIC);
    checkPublicKey(point, 'bank-1');
    const highBit = point.slice();
    highBit[31] |= 0x80;
    // The same point, by RFC 7748, section 5: so without the check one key could be in a list twice.
    const agreed = (key: Uint8Array) => hex(sharedKey(privateKey(ALICE), key, ALICE, ALICE));
    expect(agreed(highBit)).toBe(agreed(point));
    // 2^255 - 19 + 9 is the base point as well as 9 is; the largest canonical encoding is p - 1, of low order; p - 2 is fine.
    const nines = bytes(`f6${'ff'.repeat(30)}7f`);
    expect(agreed(nines)).toBe(agreed(bytes(`09${'00'.repeat(31)}`)));
    for (const key of [highBit, nines, point.subarray(1), new Uint8Array(33)]) {
      expect(() => checkPublicKey(key, 'bank-1')).toThrow(expect.objectContaining({ code: 'SECAGG_KEYS' }));
    }
    checkPublicKey(bytes(`eb${'ff'.repeat(30)}7f`), 'bank-1');
  });
});

describe('HKDF-SHA256', () => {
  test('is that of RFC 5869, appendix A.1', () => {
    const okm = derivedKey(
      bytes('0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b'),
      bytes('000102030405060708090a0b0c'),
      bytes('f0f1f2f3f4f5f6f7f8f9'),
    );
    expect(hex(okm)).toBe('3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf');
  });
});
