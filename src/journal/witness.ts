/**
 * A witness's memory: for each log the newest head that was accepted, so that no second story is ever cosigned.
 *
 * Source: C2SP tlog-witness (https://c2sp.org/tlog-witness), its rules without its HTTP: the signature is checked, then
 * the proof from the head that was accepted last, and the new head is made durable by a compare-and-swap before anyone
 * may cosign it. One thing more: a head older than that one is accepted, without a cosignature, when it is shown to be
 * its prefix. Limit: the first head of a log is taken as it is.
 */
import { createHash } from 'node:crypto';
import { concatBytes, equalBytes } from '../audit/bytes.ts';
import { type Checkpoint, verifyCheckpoint } from '../audit/checkpoint.ts';
import { encodeVerifierKey, type VerifierKey } from '../audit/note.ts';
import { verifyConsistency } from '../audit/proof.ts';
import { AuditError } from '../errors.ts';
import type { Queryable } from './head.ts';

/** A head as its log shows it. */
export interface ShownHead {
  /** Signed note. */
  checkpoint: string;
  /** The size the proof starts from: what the log believes was accepted last; 0 for nothing. */
  oldSize: number;
  /** Consistency proof between the two, 32 bytes a hash. */
  proof: readonly Uint8Array[];
}

export interface Contradiction {
  origin: string;
  verifierKey: string;
  /** The note accepted before. */
  known: string;
  head: ShownHead;
  /** One sentence. */
  reason: string;
}

export type Verdict =
  /** `newest` is false for an older head that is a prefix of the one accepted last: nothing to cosign. */
  | { kind: 'accepted'; checkpoint: Checkpoint; newest: boolean }
  /** The proof starts from another size than the one accepted last: to be shown again from `size`. */
  | { kind: 'stale'; size: number }
  | { kind: 'inconsistent'; contradiction: Contradiction };

interface KnownHead {
  verifierKey: string;
  size: number;
  root: Buffer;
  checkpoint: string;
}

/** The head of a log accepted last, or null. */
export async function acceptedHead(db: Queryable, origin: string): Promise<KnownHead | null> {
  const { rows } = await db.query<KnownHead>({
    name: 'veilrisk-witness-head',
    text: `SELECT verifier_key AS "verifierKey", size::float8 AS size, root, checkpoint
           FROM witness_heads WHERE origin = $1`,
    values: [origin],
  });
  return rows[0] ?? null;
}

/**
 * Decides on a head, and makes an accepted one durable before it resolves.
 * @param db a pool or a connection outside of a transaction: every statement commits by itself.
 * @param key of the log; where one was accepted before, the same one.
 * @throws AuditError AUDIT_SIGNATURE_INVALID for another key's note, AUDIT_NOTE_MALFORMED.
 */
export async function acceptHead(db: Queryable, key: VerifierKey, head: ShownHead): Promise<Verdict> {
  const checkpoint = await verifyCheckpoint(head.checkpoint, key);
  const verifierKey = encodeVerifierKey(key.name, key.publicKey);
  for (;;) {
    const known = await acceptedHead(db, key.name);
    if (known !== null && known.verifierKey !== verifierKey) {
      throw new AuditError('AUDIT_SIGNATURE_INVALID', 'The log is known under another key.', { where: key.name });
    }
    const verdict = judge(key.name, verifierKey, known, checkpoint, head);
    if (verdict.kind !== 'accepted' || !verdict.newest || known?.size === checkpoint.size) return verdict;
    if (await swap(db, verifierKey, known, checkpoint, head.checkpoint)) return verdict;
    // Another process of this witness accepted a head meanwhile: judge again against that one.
  }
}

function judge(
  origin: string,
  verifierKey: string,
  known: KnownHead | null,
  checkpoint: Checkpoint,
  head: ShownHead,
): Verdict {
  if (known === null) {
    return head.oldSize === 0 ? { kind: 'accepted', checkpoint, newest: true } : { kind: 'stale', size: 0 };
  }
  const contradicts = (reason: string): Verdict => ({
    kind: 'inconsistent',
    contradiction: { origin, verifierKey, known: known.checkpoint, head, reason },
  });
  if (checkpoint.size === known.size) {
    // Two roots of one size need no proof: both are signed.
    return equalBytes(checkpoint.root, known.root)
      ? { kind: 'accepted', checkpoint, newest: true }
      : contradicts(`Two heads of ${known.size} entries have different roots.`);
  }
  if (head.oldSize !== known.size) return { kind: 'stale', size: known.size };
  const grows = checkpoint.size > known.size;
  const [first, second] = grows ? [known, checkpoint] : [checkpoint, known];
  try {
    // Nothing contradicts the empty log, and no proof of that exists.
    if (first.size > 0) verifyConsistency(first.size, second.size, head.proof, first.root, second.root);
  } catch (error) {
    if (!(error instanceof AuditError)) throw error;
    return contradicts(
      grows
        ? `The head of ${checkpoint.size} entries does not continue the one of ${known.size}.`
        : `The head of ${checkpoint.size} entries is shorter than the one of ${known.size}, and not its beginning.`,
    );
  }
  return { kind: 'accepted', checkpoint, newest: grows };
}

async function swap(
  db: Queryable,
  verifierKey: string,
  known: KnownHead | null,
  { origin, size, root }: Checkpoint,
  note: string,
): Promise<boolean> {
  const values = [origin, verifierKey, size, Buffer.from(root), note];
  const { rowCount } =
    known === null
      ? await db.query(
          `INSERT INTO witness_heads (origin, verifier_key, size, root, checkpoint) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (origin) DO NOTHING`,
          values,
        )
      : await db.query({
          name: 'veilrisk-witness-swap',
          text: `UPDATE witness_heads SET size = $3, root = $4, checkpoint = $5, updated_at = now()
                 WHERE origin = $1 AND verifier_key = $2 AND size = $6 AND root = $7`,
          values: [...values, known.size, known.root],
        });
  return rowCount === 1;
}

/** One pair of notes is proof enough; a log that makes up new ones must not fill its witness's disk. */
const MOST_EVIDENCE = 100;

/** Keeps both notes, once. `full`: enough is kept against this log already, and this was not. */
export async function keepEvidence(db: Queryable, contradiction: Contradiction): Promise<'new' | 'known' | 'full'> {
  const { origin, verifierKey, known, head, reason } = contradiction;
  const digest = evidenceDigest(contradiction);
  const { rows } = await db.query<{ count: number; isKept: boolean | null }>(
    `SELECT count(*)::int AS count, bool_or(digest = $2) AS "isKept" FROM witness_evidence WHERE origin = $1`,
    [origin, digest],
  );
  if (rows[0].isKept) return 'known';
  if (rows[0].count >= MOST_EVIDENCE) return 'full';
  const { rowCount } = await db.query(
    `INSERT INTO witness_evidence (digest, origin, verifier_key, known, shown, old_size, proof, reason)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (digest) DO NOTHING`,
    [
      digest,
      ...[origin, verifierKey, known, head.checkpoint, head.oldSize],
      Buffer.from(concatBytes(...head.proof)),
      reason,
    ],
  );
  return rowCount === 1 ? 'new' : 'known';
}

/** 64 hex digits: names the pair of notes. */
export function evidenceDigest({ known, head }: Contradiction): string {
  return createHash('sha256').update(`${known}\0${head.checkpoint}`).digest('hex');
}
