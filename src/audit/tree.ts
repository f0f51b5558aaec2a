/**
 * The Merkle tree of the log: hashes, root, and the compact range that appends in O(log n) memory.
 *
 * Source: RFC 6962 section 2.1 and RFC 9162 section 2.1.1 (leaf prefix 0x00, node prefix 0x01, SHA-256); compact range
 * as in transparency-dev/merkle `docs/compact_ranges.md`. Sizes and indices are safe integers (below 2^53).
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { AuditError } from '../errors.ts';
import { concatBytes } from './bytes.ts';

export const HASH_BYTES = 32;
const LEAF_PREFIX = Uint8Array.of(0x00);
const NODE_PREFIX = Uint8Array.of(0x01);

/** Root of the empty tree: SHA-256 of nothing. */
export const EMPTY_ROOT: Uint8Array = sha256(new Uint8Array(0));

export function leafHash(entry: Uint8Array): Uint8Array {
  return sha256.create().update(LEAF_PREFIX).update(entry).digest();
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256.create().update(NODE_PREFIX).update(left).update(right).digest();
}

/** Root of the tree over leaf hashes. */
export function rootOf(leaves: readonly Uint8Array[]): Uint8Array {
  const range = CompactRange.empty();
  for (const leaf of leaves) range.append(leaf);
  return range.root();
}

/** Roots of the perfect subtrees that make up a tree of `size` leaves, largest first: all that appending needs. */
export class CompactRange {
  size: number;
  readonly #hashes: Uint8Array[];

  private constructor(size: number, hashes: Uint8Array[]) {
    this.size = size;
    this.#hashes = hashes;
  }

  static empty(): CompactRange {
    return new CompactRange(0, []);
  }

  /** @param packed 32 bytes for each one bit of `size`. @throws AuditError AUDIT_LOG_TAMPERED when they do not match. */
  static unpack(size: number, packed: Uint8Array): CompactRange {
    if (!Number.isSafeInteger(size) || size < 0 || packed.length !== HASH_BYTES * onesOf(size)) {
      throw new AuditError('AUDIT_LOG_TAMPERED', 'The stored state of the log does not fit its size.', {
        where: `size ${size}`,
      });
    }
    const hashes: Uint8Array[] = [];
    for (let at = 0; at < packed.length; at += HASH_BYTES) hashes.push(packed.slice(at, at + HASH_BYTES));
    return new CompactRange(size, hashes);
  }

  pack(): Uint8Array {
    return concatBytes(...this.#hashes);
  }

  /** Appends a leaf hash; returns the root of the largest perfect subtree that now ends with it. */
  append(leaf: Uint8Array): Uint8Array {
    let node = leaf;
    for (let level = this.size; level % 2 === 1; level = (level - 1) / 2) {
      // Safe: each trailing one bit of the size stands for one hash at the end of the range.
      node = nodeHash(this.#hashes.pop()!, node);
    }
    this.#hashes.push(node);
    this.size++;
    return node;
  }

  root(): Uint8Array {
    const last = this.#hashes.at(-1);
    if (last === undefined) return EMPTY_ROOT;
    return this.#hashes.slice(0, -1).reduceRight((right, left) => nodeHash(left, right), last);
  }
}

function onesOf(size: number): number {
  let ones = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) ones += rest % 2;
  return ones;
}
