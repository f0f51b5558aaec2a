import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { bytesToHex, utf8 } from '../../src/audit/bytes.ts';
import { consistencyProof, inclusionProof, verifyConsistency, verifyInclusion } from '../../src/audit/proof.ts';
import { CompactRange, EMPTY_ROOT, leafHash, nodeHash, rootOf } from '../../src/audit/tree.ts';

const leavesOf = (size: number, seed = '') =>
  Array.from({ length: size }, (_, i) => leafHash(utf8(`${seed}leaf ${i}`)));

/** MTH of RFC 6962 section 2.1, word for word, as an independent reference. */
function rfcRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return EMPTY_ROOT;
  if (leaves.length === 1) return leaves[0];
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return nodeHash(rfcRoot(leaves.slice(0, k)), rfcRoot(leaves.slice(k)));
}

function flip(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = bytes.slice();
  copy[bit >> 3] ^= 1 << (bit & 7);
  return copy;
}

describe('tree', () => {
  // SHA-256 of nothing, of 0x00, and the tree of the reference inputs in RFC 6962's own test data (certificate-transparency
  // cpp/merkletree/merkle_tree_test.cc, "roots" of sizes 1, 2 and 8).
  test('known answers', () => {
    expect(bytesToHex(EMPTY_ROOT)).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
    const leaves = inputs.map((hex) => leafHash(Uint8Array.from(Buffer.from(hex, 'hex'))));
    expect(bytesToHex(rootOf(leaves.slice(0, 1)))).toBe(
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    );
    expect(bytesToHex(rootOf(leaves.slice(0, 2)))).toBe(
      'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    );
    expect(bytesToHex(rootOf(leaves))).toBe('5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328');
  });

  test('the compact range gives the root of RFC 6962 at every size, packed and unpacked', () => {
    const leaves = leavesOf(130);
    let range = CompactRange.empty();
    for (let size = 0; size <= leaves.length; size++) {
      expect(bytesToHex(range.root())).toBe(bytesToHex(rfcRoot(leaves.slice(0, size))));
      range = CompactRange.unpack(size, range.pack());
      if (size === leaves.length) break;
      const node = range.append(leaves[size]);
      // The node beside an entry is the root of the largest perfect subtree that ends with it.
      let width = 1;
      while ((size + 1) % (width * 2) === 0) width *= 2;
      expect(bytesToHex(node)).toBe(bytesToHex(rfcRoot(leaves.slice(size + 1 - width, size + 1))));
    }
  });

  test('a packed state of another size is refused', () => {
    const range = CompactRange.empty();
    for (const leaf of leavesOf(5)) range.append(leaf);
    for (const size of [4, 7, -1, 1.5, Number.NaN]) {
      expect(() => CompactRange.unpack(size, range.pack())).toThrow(
        expect.objectContaining({ code: 'AUDIT_LOG_TAMPERED' }),
      );
    }
  });
});

describe('proofs', () => {
  const sizes = fc.integer({ min: 1, max: 300 });

  test('every inclusion proof verifies, and no bit of it, the leaf or the root may change', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), (size, at, bit) => {
        const leaves = leavesOf(size);
        const index = at % size;
        const proof = inclusionProof(leaves, index);
        const root = rootOf(leaves);
        expect(() => verifyInclusion(index, size, leaves[index], proof, root)).not.toThrow();
        const parts = [leaves[index], root, ...proof];
        const broken = parts.map((part, i) => (i === bit % parts.length ? flip(part, bit % 256) : part));
        expect(() => verifyInclusion(index, size, broken[0], broken.slice(2), broken[1])).toThrow();
        if (proof.length > 0) expect(() => verifyInclusion(index, size, leaves[index], proof.slice(1), root)).toThrow();
        expect(() => verifyInclusion(index, size, leaves[index], [...proof, root], root)).toThrow();
        for (const wrong of [index + size, index ^ 1, -1, index + 0.5]) {
          expect(() => verifyInclusion(wrong, size, leaves[index], proof, root)).toThrow();
        }
      }),
      { numRuns: 150 },
    );
  });

  test('every consistency proof verifies, and no bit of it or of the roots may change', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), (size2, at, bit) => {
        const leaves = leavesOf(size2);
        const size1 = 1 + (at % size2);
        const root1 = rootOf(leaves.slice(0, size1));
        const root2 = rootOf(leaves);
        const proof = consistencyProof(leaves, size1);
        expect(() => verifyConsistency(size1, size2, proof, root1, root2)).not.toThrow();
        const parts = [root1, root2, ...proof];
        const broken = parts.map((part, i) => (i === bit % parts.length ? flip(part, bit % 256) : part));
        expect(() => verifyConsistency(size1, size2, broken.slice(2), broken[0], broken[1])).toThrow();
        expect(() => verifyConsistency(size1, size2, [...proof, root1], root1, root2)).toThrow();
        // A log with one old entry changed is not consistent, whatever proof it makes.
        const forked = leaves.map((leaf, i) => (i === at % size1 ? flip(leaf, 0) : leaf));
        expect(() => verifyConsistency(size1, size2, consistencyProof(forked, size1), root1, rootOf(forked))).toThrow();
      }),
      { numRuns: 150 },
    );
  });
});

interface Vector {
  desc: string;
  file: string;
  wantErr: boolean;
  proof: string[] | null;
}
interface InclusionVector extends Vector {
  leafIdx: number;
  treeSize: number;
  root: string;
  leafHash: string;
}
interface ConsistencyVector extends Vector {
  size1: number;
  size2: number;
  root1: string;
  root2: string;
}

const vectorFile = join(import.meta.dirname, '../../../shared/vectors/merkle-proofs.json');
const present = existsSync(vectorFile);

describe('public Merkle vectors (transparency-dev/merkle testdata)', () => {
  if (!present) {
    test.skip(`skipped: ${vectorFile} is not here`, () => {});
    return;
  }
  const vectors: { inclusion: InclusionVector[]; consistency: ConsistencyVector[] } = JSON.parse(
    readFileSync(vectorFile, 'utf8'),
  );
  const hash = (text: string | null) => new Uint8Array(Buffer.from(text ?? '', 'base64'));
  const holds = (check: () => void): boolean => {
    try {
      check();
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: 'AUDIT_PROOF_INVALID' });
      return false;
    }
  };

  test('inclusion', () => {
    expect(vectors.inclusion.length).toBeGreaterThan(90);
    for (const v of vectors.inclusion) {
      const proof = (v.proof ?? []).map(hash);
      const ok = holds(() => verifyInclusion(v.leafIdx, v.treeSize, hash(v.leafHash), proof, hash(v.root)));
      expect({ file: v.file, ok }).toEqual({ file: v.file, ok: !v.wantErr });
    }
  });

  test('consistency', () => {
    expect(vectors.consistency.length).toBeGreaterThan(90);
    for (const v of vectors.consistency) {
      const proof = (v.proof ?? []).map(hash);
      const ok = holds(() => verifyConsistency(v.size1, v.size2, proof, hash(v.root1), hash(v.root2)));
      expect({ file: v.file, ok }).toEqual({ file: v.file, ok: !v.wantErr });
    }
  });
});
