import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { consistencyProof, inclusionProof, verifyConsistency, verifyInclusion } from '../../src/audit/proof.ts';
import { CompactRange, leafHash, rootOf } from '../../src/audit/tree.ts';
import type { Queryable } from '../../src/journal/head.ts';
import { proveConsistency, proveInclusion } from '../../src/journal/prover.ts';

/** The rows a log of `size` entries has, and how many of them a proof asked for. */
function logOf(size: number) {
  const range = CompactRange.empty();
  const leaves: Uint8Array[] = [];
  const rows = Array.from({ length: size }, (_, index) => {
    const bytes = Buffer.from(`entry ${index}`);
    leaves.push(leafHash(bytes));
    return { index, node: Buffer.from(range.append(leaves[index])), bytes };
  });
  const asked: number[] = [];
  const db = {
    query: async (_: string, [all, some]: [number[], number[]]) => {
      asked.push(all.length);
      return { rows: all.map((i) => ({ ...rows[i], bytes: some.includes(i) ? rows[i].bytes : null })) };
    },
    // Safe: the prover calls `query` with a text and values, and reads `rows`.
  } as unknown as Queryable;
  return { db, leaves, rows, asked };
}

describe('proofs from stored subtree roots', () => {
  test('are those made from all leaves', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 600 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (of, part) => {
          const size = Math.max(1, Math.ceil(of * part));
          const { db, leaves } = logOf(of);
          expect(await proveConsistency(db, size, of)).toEqual(consistencyProof(leaves, size));
          expect(await proveInclusion(db, size - 1, of)).toEqual(inclusionProof(leaves, size - 1));
        },
      ),
      { numRuns: 150 },
    );
  });

  test('hold between any two sizes up to 40', async () => {
    const { db, leaves } = logOf(40);
    for (let of = 1; of <= 40; of++) {
      const root = rootOf(leaves.slice(0, of));
      for (let size = 1; size <= of; size++) {
        verifyConsistency(size, of, await proveConsistency(db, size, of), rootOf(leaves.slice(0, size)), root);
        verifyInclusion(size - 1, of, leaves[size - 1], await proveInclusion(db, size - 1, of), root);
      }
    }
  });

  test('read a few rows of a large log', async () => {
    const { db, asked } = logOf(100_000);
    for (const size of [1, 4_095, 65_537, 99_999]) await proveConsistency(db, size, 100_000);
    await proveInclusion(db, 77_777, 100_000);
    // 17 levels: at most 17 * 18 / 2 hashes.
    expect(Math.max(...asked)).toBeLessThanOrEqual(153);
  });

  test('made from changed hashes do not verify', async () => {
    const { db, leaves, rows } = logOf(37);
    const proof = await proveConsistency(db, 20, 37);
    const [old, now] = [rootOf(leaves.slice(0, 20)), rootOf(leaves)];
    verifyConsistency(20, 37, proof, old, now);
    for (const row of rows) row.node = Buffer.alloc(32, 1);
    const spoiled = await proveConsistency(db, 20, 37);
    expect(() => verifyConsistency(20, 37, spoiled, old, now)).toThrow(
      expect.objectContaining({ code: 'AUDIT_PROOF_INVALID' }),
    );
  });

  test('of sizes that are not there are refused', async () => {
    const { db } = logOf(4);
    expect(() => proveConsistency(db, 5, 4)).toThrow(expect.objectContaining({ code: 'AUDIT_PROOF_INVALID' }));
    expect(() => proveConsistency(db, 0, 4)).toThrow(expect.objectContaining({ code: 'AUDIT_PROOF_INVALID' }));
    expect(() => proveInclusion(db, 4, 4)).toThrow(expect.objectContaining({ code: 'AUDIT_PROOF_INVALID' }));
  });
});
