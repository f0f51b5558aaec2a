/** The frame's golden bytes (FORMAT.md) and its parser under hostile input. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { uploadShape } from '../../src/encryption/preamble.ts';
import { PRESETS } from '../../src/encryption/presets.ts';
import { seededBytes } from '../../src/encryption/sealBytes.ts';
import {
  type FrameHeader,
  largestRequestBytes,
  readFrame,
  readFrameHeader,
  requestBytes,
  rowCounts,
  writeFrame,
} from '../../src/encryption/wire.ts';
import { EncryptionError } from '../../src/errors.ts';

const header: FrameHeader = {
  preset: 'standard',
  layout: 'row',
  transactions: 12,
  dimension: 350,
  keyId: '01'.repeat(32),
  contractHash: '02'.repeat(32),
  modelHash: '03'.repeat(32),
};

const GOLDEN_REQUEST = [
  '56524553', // magic "VRES"
  '01', // version 1
  '01', // kind: request
  '01', // preset: standard
  '01', // layout: row
  '0c000000', // 12 transactions
  '5e010000', // 350 dimensions
  '02000000', // 2 ciphertexts: 11 transactions fit one
  '00000000', // reserved
  '01'.repeat(32), // key id
  '02'.repeat(32), // contract hash
  '03'.repeat(32), // model hash
  'c2000100', // 65,730 bytes: first ciphertext
  'c2000100', // 65,730 bytes: second ciphertext
].join('');

const GOLDEN_REPLY = [
  '56524553', // magic "VRES"
  '01', // version 1
  '02', // kind: reply
  '01', // preset: standard
  '02', // layout: column
  '0c000000', // 12 transactions
  '5e010000', // 350 dimensions
  '01000000', // 1 part
  '00000000', // reserved
  '01'.repeat(32), // key id
  '02'.repeat(32), // contract hash
  '03'.repeat(32), // model hash
  '60800000', // 32,864 bytes: 12 residues of c0, 4,096 of c1
].join('');

const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const requestParts = (count: number, fill: number) =>
  Array.from({ length: count }, (_, i) => new Uint8Array(seededBytes(uploadShape(PRESETS.standard))).fill(fill + i));

describe('golden bytes', () => {
  test('request', () => {
    const bytes = writeFrame('request', header, requestParts(2, 7));
    expect(hexOf(bytes.subarray(0, 128))).toBe(GOLDEN_REQUEST);
    expect(bytes.length).toBe(128 + 2 * 65_730);
    expect(requestBytes(header)).toBe(bytes.length);
    const read = readFrame('request', bytes);
    expect(read.header).toEqual(header);
    expect(read.parts.map((part) => [part.length, part[0], part.at(-1)])).toEqual([
      [65_730, 7, 7],
      [65_730, 8, 8],
    ]);
  });

  test('reply', () => {
    const column = { ...header, layout: 'column' } as const;
    const bytes = writeFrame('reply', column, [new Uint8Array(32_864)]);
    expect(hexOf(bytes.subarray(0, 124))).toBe(GOLDEN_REPLY);
    expect(readFrame('reply', bytes).header).toEqual(column);
  });

  test('a row request of one transaction stays below 66 KB', () => {
    expect(requestBytes({ ...header, transactions: 1 })).toBeLessThanOrEqual(66_000);
  });
});

test('row ciphertexts are filled in order', () => {
  expect(rowCounts({ ...header, transactions: 25 })).toEqual([11, 11, 3]);
  expect(rowCounts({ ...header, transactions: 22 })).toEqual([11, 11]);
});

test('the largest request is the conservative column', () => {
  expect(largestRequestBytes(350)).toBe(120 + 350 * (131_266 + 4));
});

describe('hostile frames', () => {
  const good = writeFrame('request', { ...header, transactions: 1 }, requestParts(1, 0));

  test.each([
    [0, 'magic'],
    [4, 'version'],
    [5, 'kind'],
    [6, 'preset'],
    [7, 'layout'],
    [11, 'transactions'],
    [15, 'dimension'],
    [16, 'ciphertexts'],
    [20, 'reserved'],
    [120, 'ciphertext lengths'],
  ])('byte %d wrong names the %s', (at, field) => {
    const bytes = good.slice();
    bytes[at] ^= 0xff;
    expect(() => readFrame('request', bytes)).toThrow(expect.objectContaining({ code: 'FRAME_MALFORMED' }));
    expect(() => readFrame('request', bytes)).toThrow(new RegExp(`the ${field} of`));
  });

  test.each([0, 1, 119, 120, 123, 124, 65_853])('truncated to %d bytes', (length) => {
    expect(() => readFrame('request', good.subarray(0, length))).toThrow(EncryptionError);
  });

  test('a byte too many, a reply for a request, no transactions', () => {
    expect(() => readFrame('request', new Uint8Array([...good, 0]))).toThrow(/the length/);
    expect(() => readFrame('reply', good)).toThrow(/the kind/);
    const none = good.slice();
    none[8] = 0;
    expect(() => readFrame('request', none)).toThrow(/the transactions/);
  });

  test('any header either parses or is refused with the code (property)', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 120, maxLength: 160 }), fc.boolean(), (bytes, keepStart) => {
        if (keepStart) bytes.set(good.subarray(0, 8));
        try {
          readFrameHeader('request', bytes);
        } catch (error) {
          expect((error as EncryptionError).code).toBe('FRAME_MALFORMED');
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('headers survive the round trip (property)', () => {
    const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => hexOf(bytes));
    fc.assert(
      fc.property(hash, hash, hash, fc.integer({ min: 1, max: 4096 }), (keyId, contractHash, modelHash, dimension) => {
        const one: FrameHeader = { ...header, transactions: 1, dimension, keyId, contractHash, modelHash };
        expect(readFrame('request', writeFrame('request', one, requestParts(1, 0))).header).toEqual(one);
      }),
      { numRuns: 100 },
    );
  });
});
