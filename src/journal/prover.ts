/**
 * Consistency and inclusion proofs from the rows of a log, without reading it: O(log^2 n) rows in one query.
 *
 * Row i holds the root of the largest perfect subtree that ends at entry i, so every left subtree is there as it is, and
 * a right one is put together from its own left halves and its last entry. Source: RFC 9162 sections 2.1.3, 2.1.4 for
 * what a proof holds. Limit: stored hashes are not checked here; a proof made of changed ones does not verify.
 */
import { leafHash, nodeHash } from '../audit/tree.ts';
import { AuditError } from '../errors.ts';
import { type Queryable, tampered } from './head.ts';

/** Entries [from, to). */
type Span = readonly [from: number, to: number];

/** Subtree roots that show that the first `size` entries are a prefix of the first `of`. @throws AUDIT_PROOF_INVALID. */
export function proveConsistency(db: Queryable, size: number, of: number): Promise<Uint8Array[]> {
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(of) || size < 1 || size > of) {
    throw new AuditError('AUDIT_PROOF_INVALID', `There is no prefix of ${size} in ${of} entries.`);
  }
  return rootsOf(db, consistencySpans(size, of));
}

/** Siblings on the path from entry `index` to the root of the first `of`. @throws AuditError AUDIT_PROOF_INVALID. */
export function proveInclusion(db: Queryable, index: number, of: number): Promise<Uint8Array[]> {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(of) || index < 0 || index >= of) {
    throw new AuditError('AUDIT_PROOF_INVALID', `There is no entry ${index} in ${of}.`);
  }
  return rootsOf(db, inclusionSpans(index, of));
}

function consistencySpans(size: number, of: number): Span[] {
  if (size === of) return [];
  const subproof = (from: number, to: number, whole: boolean): Span[] => {
    if (size === to) return whole ? [] : [[from, to]];
    const middle = from + split(to - from);
    return size <= middle
      ? [...subproof(from, middle, whole), [middle, to]]
      : [...subproof(middle, to, false), [from, middle]];
  };
  return subproof(0, of, true);
}

function inclusionSpans(index: number, of: number): Span[] {
  const path = (from: number, to: number): Span[] => {
    if (to - from === 1) return [];
    const middle = from + split(to - from);
    return index < middle ? [...path(from, middle), [middle, to]] : [...path(middle, to), [from, middle]];
  };
  return path(0, of);
}

/** Where a hash comes from: the stored root that ends at an entry, or the entry itself. */
interface Rows {
  node(index: number): Uint8Array;
  leaf(index: number): Uint8Array;
}

/** Root of a span of a tree: itself a subtree of it, perfect or at its right edge. */
function rootOf([from, to]: Span, rows: Rows): Uint8Array {
  const size = to - from;
  // A left child is the largest perfect subtree that ends where it ends.
  if (isPower(size) && (from / size) % 2 === 0) return rows.node(to - 1);
  if (size === 1) return rows.leaf(from);
  const middle = from + split(size);
  return nodeHash(rootOf([from, middle], rows), rootOf([middle, to], rows));
}

async function rootsOf(db: Queryable, spans: readonly Span[]): Promise<Uint8Array[]> {
  const nodes = new Set<number>();
  const leaves = new Set<number>();
  const nothing = new Uint8Array(32);
  const noting = (set: Set<number>) => (index: number) => {
    set.add(index);
    return nothing;
  };
  const wanted: Rows = { node: noting(nodes), leaf: noting(leaves) };
  for (const span of spans) rootOf(span, wanted);
  const { rows } = await db.query<{ index: number; node: Buffer; bytes: Buffer | null }>(
    `SELECT index::float8 AS index, node, CASE WHEN index = ANY($2::bigint[]) THEN bytes END AS bytes
     FROM audit_entries WHERE index = ANY($1::bigint[])`,
    [[...nodes, ...leaves], [...leaves]],
  );
  const found = new Map(rows.map((row) => [row.index, row]));
  const row = (index: number) => {
    const one = found.get(index);
    if (one === undefined) throw tampered(`entry ${index} is missing`, `index ${index}`);
    return one;
  };
  const stored: Rows = {
    node: (index) => row(index).node,
    leaf: (index) => {
      const { bytes } = row(index);
      // Safe: the query selects the bytes of every leaf that was asked for.
      return leafHash(bytes!);
    },
  };
  return spans.map((span) => new Uint8Array(rootOf(span, stored)));
}

const isPower = (size: number): boolean => Number.isInteger(Math.log2(size));

/** The largest power of two below `size` (size > 1). */
function split(size: number): number {
  let power = 1;
  while (power * 2 < size) power *= 2;
  return power;
}
