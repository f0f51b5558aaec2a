/** Vectors in the ring and in bytes. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { fromRing, packedBytes, packVector, toRing, unpackVector } from '../../federated/secagg/ring.ts';

const bits = fc.integer({ min: 16, max: 32 });
const vector = bits.chain((width) =>
  fc.record({
    width: fc.constant(width),
    values: fc.array(fc.integer({ min: -(2 ** (width - 1)) + 1, max: 2 ** (width - 1) - 1 }), {
      minLength: 1,
      maxLength: 40,
    }),
  }),
);

describe('a packed vector', () => {
  test('has these bytes', () => {
    // 20 bits: 0x12345, 0xfffff (-1), 0x80001. Little endian, each after the other without a gap.
    const words = toRing(Float64Array.of(0x12345, -1, -0x7ffff), 20);
    expect(Buffer.from(packVector(words, 20)).toString('hex')).toBe('4523f1ffff010008');
    expect(Buffer.from(packVector(toRing(Float64Array.of(1, -2), 16), 16)).toString('hex')).toBe('0100feff');
    expect(Buffer.from(packVector(toRing(Float64Array.of(1, -2), 32), 32)).toString('hex')).toBe('01000000feffffff');
    expect(Buffer.from(packVector(toRing(Float64Array.of(1, 1), 17), 17)).toString('hex')).toBe('0100020000');
  });

  test('comes back', () => {
    fc.assert(
      fc.property(vector, ({ width, values }) => {
        const packed = packVector(toRing(Float64Array.from(values), width), width);
        expect(packed.length).toBe(packedBytes(values.length, width));
        expect([...fromRing(unpackVector(packed, values.length, width), width)]).toEqual(
          values.map((value) => value || 0),
        );
      }),
    );
  });

  test('has one encoding: any bytes of its length come back, or are refused for their padding', () => {
    fc.assert(
      fc.property(bits, fc.integer({ min: 1, max: 9 }), fc.infiniteStream(fc.nat(255)), (width, dimension, stream) => {
        const bytes = Uint8Array.from([...stream.take(packedBytes(dimension, width))]);
        const padding = bytes.length * 8 - dimension * width;
        const clean = padding === 0 || bytes[bytes.length - 1] >>> (8 - padding) === 0;
        if (clean) expect(packVector(unpackVector(bytes, dimension, width), width)).toEqual(bytes);
        else
          expect(() => unpackVector(bytes, dimension, width)).toThrow(
            expect.objectContaining({ code: 'SECAGG_RANGE' }),
          );
      }),
      { numRuns: 500 },
    );
  });

  test('of another length is refused', () => {
    for (const length of [0, 4, 6]) {
      expect(() => unpackVector(new Uint8Array(length), 2, 20)).toThrow(
        expect.objectContaining({ code: 'SECAGG_RANGE' }),
      );
    }
  });
});

describe('the ring', () => {
  test.each([2 ** 19, -(2 ** 19), 0.5, Number.NaN, Number.POSITIVE_INFINITY])('refuses %p in 20 bits', (value) => {
    expect(() => toRing(Float64Array.of(0, value), 20)).toThrow(expect.objectContaining({ code: 'SECAGG_RANGE' }));
  });

  test('wraps sums around, and gives the centred representative', () => {
    fc.assert(
      fc.property(
        bits,
        fc.array(fc.integer({ min: -(2 ** 15) + 1, max: 2 ** 15 - 1 }), { minLength: 1 }),
        (width, xs) => {
          const total = new Uint32Array(1);
          for (const x of xs)
            total[0] += unpackVector(packVector(toRing(Float64Array.of(x), width), width), 1, width)[0];
          const modulus = 2 ** width;
          const sum = xs.reduce((all, x) => all + x, 0);
          const centred = ((((sum + modulus / 2) % modulus) + modulus) % modulus) - modulus / 2;
          expect(fromRing(total, width)[0]).toBe(centred);
        },
      ),
    );
  });
});
