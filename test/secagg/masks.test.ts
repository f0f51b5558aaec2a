/** Keystreams, and what the masks of a sum depend on. */
import { createCipheriv } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { frame } from '../../federated/protocol/canonical.ts';
import { privateKey, publicKeyOf } from '../../federated/secagg/keys.ts';
import { applyMasks } from '../../federated/secagg/masks.ts';
import { agreementHash, pairMask, type SumContext, selfMask, sumHash } from '../../federated/secagg/sum.ts';
import { hashOf } from '../../federated/secagg/transcript.ts';
import { epochOf, siteNames } from './epoch.ts';

const seed = Uint8Array.from({ length: 32 }, (_, at) => at);
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');

function keystream(key: Uint8Array, words: number): Uint32Array {
  const target = new Uint32Array(words);
  applyMasks(target, [{ seed: key, sign: 1 }]);
  return target;
}

describe('a keystream', () => {
  test('is AES-256 of the counters 0, 1, 2, ..., read little endian, over the borders of chunks too', () => {
    const words = 3 * 8192 + 5;
    const counters = Buffer.alloc(Math.ceil(words / 4) * 16);
    for (let block = 0; block * 16 < counters.length; block++) counters.writeUInt32BE(block, block * 16 + 12);
    const stream = createCipheriv('aes-256-ecb', seed, null).update(counters);
    expect(keystream(seed, words)).toEqual(Uint32Array.from({ length: words }, (_, at) => stream.readUInt32LE(at * 4)));
  });

  test('depends on each of the 256 bits of its seed', () => {
    const streams = new Set([hex(new Uint8Array(keystream(seed, 8).buffer))]);
    for (let bit = 0; bit < 256; bit++) {
      const other = seed.slice();
      other[bit >> 3] ^= 1 << (bit & 7);
      streams.add(hex(new Uint8Array(keystream(other, 8).buffer)));
    }
    expect(streams.size).toBe(257);
  });

  test('that is added and taken away leaves nothing, with any number of others', () => {
    const values = Uint32Array.from({ length: 9000 }, (_, at) => at * 477_218_591);
    const seeds = Array.from({ length: 130 }, (_, at) => new Uint8Array(32).fill(at + 1));
    const target = values.slice();
    applyMasks(
      target,
      seeds.map((one) => ({ seed: one, sign: 1 as const })),
    );
    expect(target).not.toEqual(values);
    applyMasks(
      target,
      seeds.map((one) => ({ seed: one, sign: -1 as const })),
    );
    expect(target).toEqual(values);
  });

  test('is uniform: no byte value is off in a million', () => {
    // Chi-squared with 255 degrees of freedom is above 450 with probability below 1e-12.
    const bytes = new Uint8Array(keystream(seed, 250_000).buffer);
    const counts = new Float64Array(256);
    for (const byte of bytes) counts[byte]++;
    const expected = bytes.length / 256;
    expect(counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)).toBeLessThan(450);
  });
});

const context = epochOf(3, { threshold: 2, slots: 4 });
const listHash = new Uint8Array(32).fill(0x11);
const sum: SumContext = {
  round: 2,
  attempt: 1,
  slot: 3,
  stateHash: new Uint8Array(32).fill(0x22),
  members: siteNames(3),
  dimension: 5,
  bits: 20,
  logHead: new Uint8Array(32),
};
const secretOf = (byte: number) => new Uint8Array(32).fill(byte);

describe('the masks of a sum', () => {
  const pair = (told: SumContext, epoch = context, list = listHash) => {
    const masking = { salt: epoch.rosterHash, name: sumHash(epoch, list, told), members: told.members };
    return pairMask(masking, 'bank-001', 'bank-002', privateKey(secretOf(1)), publicKeyOf(secretOf(2)));
  };
  const own = (told: SumContext) =>
    selfMask(
      { salt: context.rosterHash, name: sumHash(context, listHash, told), members: told.members },
      'bank-001',
      seed,
    );

  test('are the same at both ends, with opposite signs', () => {
    const masking = { salt: context.rosterHash, name: sumHash(context, listHash, sum), members: sum.members };
    const there = pairMask(masking, 'bank-002', 'bank-001', privateKey(secretOf(2)), publicKeyOf(secretOf(1)));
    expect(pair(sum)).toEqual({ seed: there.seed, sign: 1 });
    expect(there.sign).toBe(-1);
  });

  const changes: [string, Partial<SumContext>][] = [
    ['round', { round: 3 }],
    ['attempt', { attempt: 2 }],
    ['slot', { slot: 2 }],
    ['model', { stateHash: new Uint8Array(32).fill(0x23) }],
    ['members', { members: siteNames(2) }],
    ['dimension', { dimension: 6 }],
    ['ring', { bits: 21 }],
  ];
  test.each(changes)('depend on the %s', (_, change) => {
    expect(pair({ ...sum, ...change }).seed).not.toEqual(pair(sum).seed);
    expect(own({ ...sum, ...change }).seed).not.toEqual(own(sum).seed);
  });

  test('depend on roster, plan, epoch and list of keys, and not on the log', () => {
    expect(pair(sum, { ...context, rosterHash: new Uint8Array(32) }).seed).not.toEqual(pair(sum).seed);
    expect(pair(sum, { ...context, planHash: 'ce'.repeat(32) }).seed).not.toEqual(pair(sum).seed);
    expect(pair(sum, { ...context, epoch: 2 }).seed).not.toEqual(pair(sum).seed);
    expect(pair(sum, context, new Uint8Array(32)).seed).not.toEqual(pair(sum).seed);
    expect(pair({ ...sum, logHead: new Uint8Array(32).fill(1) })).toEqual(pair(sum));
  });
});

describe('what is hashed', () => {
  test('is framed: no two lists of fields have the same bytes', () => {
    expect(hex(frame(['ab', 1, Uint8Array.of(0xff)]))).toBe(
      '00000002' + '6162' + '00000004' + '00000001' + '00000001' + 'ff',
    );
    expect(hashOf(['ab', 'c'])).not.toEqual(hashOf(['a', 'bc']));
    expect(hashOf(['a', ''])).not.toEqual(hashOf(['a']));
  });

  test('in an agreement is the sum, the log and the survivors', () => {
    const name = sumHash(context, listHash, sum);
    const agreement = agreementHash(name, sum.members, sum.logHead);
    expect(agreementHash(name, siteNames(2), sum.logHead)).not.toEqual(agreement);
    expect(agreementHash(name, sum.members, new Uint8Array(32).fill(1))).not.toEqual(agreement);
  });

  test('and derived is as another implementation has it', () => {
    // Computed in Python from the field lists in sum.ts, RFC 7748 and RFC 5869.
    const name = sumHash(context, listHash, sum);
    const masking = { salt: context.rosterHash, name, members: sum.members };
    const pair = pairMask(masking, 'bank-001', 'bank-002', privateKey(secretOf(1)), publicKeyOf(secretOf(2)));
    expect(hex(name)).toBe('91d3d3e967ae06fe7c84ed5025df90ba1a542a1e3c905f8fe99979ff8e17329e');
    expect(hex(agreementHash(name, sum.members, sum.logHead))).toBe(
      '30b96515c233ecd39110bc10ec723fe2ab4010af714c0e3530bfb1cbe585d7f4',
    );
    expect(hex(pair.seed)).toBe('b503fcd3f32294a3cf4ab00977988e0e0b5a5780842580a777fd64900750aedd');
    expect(hex(selfMask(masking, 'bank-001', seed).seed)).toBe(
      '1309a1f26b76afb8d9513436872dd9545e5337aded31dfa0eaa2a471f147cba2',
    );
  });
});
