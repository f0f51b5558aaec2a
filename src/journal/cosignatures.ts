/**
 * Who witnessed this log: cosignatures as they came in, and the notes an export carries because of them.
 *
 * A witness that cosigned a head has seen that it continues every earlier one, so its newest cosignature says the most.
 * Limit: a cosignature is verified by whoever stores it here, not again when it is read.
 */
import { parseCheckpoint } from '../audit/checkpoint.ts';
import { withSignatures } from '../audit/cosignature.ts';
import type { Queryable } from './head.ts';

export interface StoredCosignature {
  /** Verifier key of the witness. */
  witness: string;
  /** The note it cosigned, as this log signed it. */
  checkpoint: string;
  /** Signature line, without its newline. */
  line: string;
}

/** Keeps a verified cosignature; the first of a witness for a size stays. */
export async function keepCosignature(db: Queryable, { witness, checkpoint, line }: StoredCosignature): Promise<void> {
  await db.query({
    name: 'veilrisk-keep-cosignature',
    text: `INSERT INTO audit_cosignatures (witness, size, checkpoint, line) VALUES ($1, $2, $3, $4)
           ON CONFLICT DO NOTHING`,
    values: [witness, parseCheckpoint(checkpoint).size, checkpoint, line],
  });
}

/** Size of the newest head `witness` cosigned, 0 for none. */
export async function cosignedSize(db: Queryable, witness: string): Promise<number> {
  const { rows } = await db.query<{ size: number }>(
    'SELECT COALESCE(max(size), 0)::float8 AS size FROM audit_cosignatures WHERE witness = $1',
    [witness],
  );
  return rows[0].size;
}

/**
 * The newest note of each witness that covers at most `size` entries, with its cosignature lines; notes of the same
 * size as one, smallest first.
 */
export async function witnessedNotes(db: Queryable, size: number): Promise<string[]> {
  const { rows } = await db.query<{ checkpoint: string; line: string }>(
    `SELECT checkpoint, line FROM (
       SELECT DISTINCT ON (witness) witness, size, checkpoint, line FROM audit_cosignatures
       WHERE size <= $1 ORDER BY witness, size DESC) newest
     ORDER BY size, witness`,
    [size],
  );
  const lines = new Map<string, string[]>();
  for (const { checkpoint, line } of rows) lines.set(checkpoint, [...(lines.get(checkpoint) ?? []), line]);
  return [...lines].map(([checkpoint, some]) => withSignatures(checkpoint, some));
}
