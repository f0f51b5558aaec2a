/**
 * The source of randomness every mechanism takes as an argument.
 *
 * `systemRandom` draws from the operating system's generator (WebCrypto `getRandomValues`) through a buffer that is
 * wiped as it is used. Nothing else is used outside tests.
 */

/** A stream of independent uniform 32-bit words. */
export interface RandomSource {
  /** Uniform integer in [0, 2^32). */
  nextUint32(): number;
  /** Overwrites `out` with uniform bytes. */
  fill(out: Uint8Array): void;
}

// WebCrypto refuses more than 65,536 bytes a call.
const CHUNK_BYTES = 65_536;

export function systemRandom(): RandomSource {
  const words = new Uint32Array(CHUNK_BYTES / 4);
  let next = words.length;
  return {
    nextUint32() {
      if (next === words.length) {
        crypto.getRandomValues(words);
        next = 0;
      }
      const word = words[next];
      words[next++] = 0;
      return word;
    },
    fill(out) {
      for (let at = 0; at < out.length; at += CHUNK_BYTES) {
        // Safe: WebCrypto's type asks for an ArrayBuffer view; a SharedArrayBuffer view never reaches this call.
        crypto.getRandomValues(out.subarray(at, at + CHUNK_BYTES) as Uint8Array<ArrayBuffer>);
      }
    },
  };
}
