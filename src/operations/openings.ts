/** Openings of an entry's commitments: what the erasable side table keeps, and what the entry says of it. */
import { commit, SALT_BYTES } from '../audit/entry.ts';
import { canonicalBytes } from '../canonical.ts';
import type { RandomSource } from '../random.ts';

export interface Opening {
  salt: Uint8Array;
  /** RFC 8785 bytes. */
  value: Uint8Array;
}

/** Salts a value afresh. */
export function opening(random: RandomSource, value: object): Opening {
  const salt = new Uint8Array(SALT_BYTES);
  random.fill(salt);
  return { salt, value: canonicalBytes(value) };
}

/** The commitment, 64 hexadecimal digits. */
export function committed({ salt, value }: Opening): string {
  return commit(salt, value);
}
