/**
 * Masks: AES-256-CTR keystreams (NIST SP 800-38A, section 6.5) of a 256-bit seed, added and subtracted modulo 2^32.
 *
 * The counter starts at zero: a seed makes one keystream, ever. Words are read little endian, which is the byte order of
 * every platform Node.js is released for that this runs on; on a big-endian host sums would not come out.
 */
import { createCipheriv } from 'node:crypto';

/** A seed and whether its keystream is added or taken away. Seeds are 32 bytes and wiped by whoever made them. */
export interface Mask {
  readonly seed: Uint8Array;
  readonly sign: 1 | -1;
}

// Small enough for target, keystream and zeros to stay in the second-level cache.
const CHUNK_WORDS = 8192;
const ZEROS = new Uint8Array(CHUNK_WORDS * 4);
const FIRST_BLOCK = new Uint8Array(16);

/** Streams run side by side, so that a chunk of the target is fetched once for all of them. */
const STREAMS = 64;

/** Adds all masks to `target`, in place. */
export function applyMasks(target: Uint32Array, masks: readonly Mask[]): void {
  for (let from = 0; from < masks.length; from += STREAMS) applySome(target, masks.slice(from, from + STREAMS));
}

function applySome(target: Uint32Array, masks: readonly Mask[]): void {
  const streams = masks.map(({ seed, sign }) => ({ cipher: createCipheriv('aes-256-ctr', seed, FIRST_BLOCK), sign }));
  for (let start = 0; start < target.length; start += CHUNK_WORDS) {
    const part = target.subarray(start, start + CHUNK_WORDS);
    for (const { cipher, sign } of streams) {
      const words = wordsOf(cipher.update(ZEROS.subarray(0, part.length * 4)));
      if (sign === 1) for (let at = 0; at < part.length; at++) part[at] += words[at];
      else for (let at = 0; at < part.length; at++) part[at] -= words[at];
    }
  }
}

function wordsOf(bytes: Buffer): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}
