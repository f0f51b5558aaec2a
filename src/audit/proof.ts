/**
 * Inclusion and consistency proofs: made from leaf hashes, checked against roots.
 *
 * Source: RFC 9162 sections 2.1.3 (inclusion) and 2.1.4 (consistency). Limit: making a proof here takes all leaf hashes
 * and time linear in the tree; checking one takes logarithmic time and nothing but the roots.
 */
import { AuditError } from '../errors.ts';
import { equalBytes } from './bytes.ts';
import { HASH_BYTES, nodeHash, rootOf } from './tree.ts';

/** Proof that leaf `index` is in the tree over `leaves`. @throws AuditError AUDIT_PROOF_INVALID when it is not. */
export function inclusionProof(leaves: readonly Uint8Array[], index: number): Uint8Array[] {
  if (!isSize(index) || index >= leaves.length) throw invalid(`there is no leaf ${index} in ${leaves.length}`);
  const path = (from: number, to: number): Uint8Array[] => {
    if (to - from === 1) return [];
    const middle = from + split(to - from);
    return index < middle
      ? [...path(from, middle), rootOf(leaves.slice(middle, to))]
      : [...path(middle, to), rootOf(leaves.slice(from, middle))];
  };
  return path(0, leaves.length);
}

/** Proof that the tree over the first `size` > 0 leaves is a prefix of the tree over all. @throws AUDIT_PROOF_INVALID. */
export function consistencyProof(leaves: readonly Uint8Array[], size: number): Uint8Array[] {
  if (!isSize(size) || size === 0 || size > leaves.length) {
    throw invalid(`there is no prefix of ${size} in ${leaves.length}`);
  }
  if (size === leaves.length) return [];
  const subproof = (from: number, to: number, whole: boolean): Uint8Array[] => {
    if (size === to) return whole ? [] : [rootOf(leaves.slice(from, to))];
    const middle = from + split(to - from);
    return size <= middle
      ? [...subproof(from, middle, whole), rootOf(leaves.slice(middle, to))]
      : [...subproof(middle, to, false), rootOf(leaves.slice(from, middle))];
  };
  return subproof(0, leaves.length, true);
}

/** @throws AuditError AUDIT_PROOF_INVALID unless `proof` shows that `leaf` is number `index` of `size` under `root`. */
export function verifyInclusion(
  index: number,
  size: number,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): void {
  if (!isSize(index) || !isSize(size) || index >= size) throw invalid('the index is outside the tree');
  checkHashes([leaf, root, ...proof]);
  let node = index;
  let last = size - 1;
  let hash = leaf;
  for (const sibling of proof) {
    if (last === 0) throw invalid('the proof is too long');
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash);
      while (node % 2 === 0 && node !== 0) {
        node = half(node);
        last = half(last);
      }
    } else {
      hash = nodeHash(hash, sibling);
    }
    node = half(node);
    last = half(last);
  }
  if (last !== 0) throw invalid('the proof is too short');
  if (!equalBytes(hash, root)) throw invalid('the proof leads to another root');
}

/** @throws AuditError AUDIT_PROOF_INVALID unless `proof` shows that (size1, root1) is a prefix of (size2, root2). */
export function verifyConsistency(
  size1: number,
  size2: number,
  proof: readonly Uint8Array[],
  root1: Uint8Array,
  root2: Uint8Array,
): void {
  if (!isSize(size1) || !isSize(size2) || size1 > size2) throw invalid('the sizes are out of order');
  if (size1 === 0) throw invalid('the empty log is a prefix of everything, which shows nothing');
  if (size1 === size2) {
    if (proof.length > 0) throw invalid('the proof is too long');
    if (!equalBytes(root1, root2)) throw invalid('two roots of one size differ');
    return;
  }
  checkHashes([root1, root2, ...proof]);
  if (proof.length === 0) throw invalid('the proof is too short');
  let node = size1 - 1;
  let last = size2 - 1;
  while (node % 2 === 1) {
    node = half(node);
    last = half(last);
  }
  // A first tree that is one perfect subtree is its own first node (RFC 9162 section 2.1.4.2 step 2).
  const nodes = node === 0 ? [root1, ...proof] : proof;
  let first = nodes[0];
  let second = nodes[0];
  for (const sibling of nodes.slice(1)) {
    if (last === 0) throw invalid('the proof is too long');
    if (node % 2 === 1 || node === last) {
      first = nodeHash(sibling, first);
      second = nodeHash(sibling, second);
      while (node % 2 === 0 && node !== 0) {
        node = half(node);
        last = half(last);
      }
    } else {
      second = nodeHash(second, sibling);
    }
    node = half(node);
    last = half(last);
  }
  if (last !== 0) throw invalid('the proof is too short');
  if (!equalBytes(first, root1)) throw invalid('the proof leads to another old root');
  if (!equalBytes(second, root2)) throw invalid('the proof leads to another new root');
}

const half = (value: number): number => Math.floor(value / 2);
const isSize = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

/** The largest power of two below `size` (size > 1). */
function split(size: number): number {
  let power = 1;
  while (power * 2 < size) power *= 2;
  return power;
}

function checkHashes(hashes: readonly Uint8Array[]): void {
  if (hashes.some((hash) => hash.length !== HASH_BYTES)) throw invalid('a hash is not 32 bytes long');
}

function invalid(what: string): AuditError {
  return new AuditError('AUDIT_PROOF_INVALID', `The proof does not hold: ${what}.`, {
    fix: 'Ask the log for a new proof; if that fails as well, its history was changed.',
  });
}
