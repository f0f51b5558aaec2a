/**
 * The log's head: the one row an append starts from, and what is required of it before anything is signed on top.
 *
 * The database is not trusted with it. Its tree state must give the root that our own key signed, and within one process
 * the log never becomes shorter, so neither a rewritten history nor an older head put back is continued and signed.
 * Limit: a head put back while no process is running is found by checkpoints kept elsewhere: the node's anchor
 * (store/anchor.ts), a witness (witness.ts).
 */
import type pg from 'pg';
import { equalBytes } from '../audit/bytes.ts';
import { type Checkpoint, verifyCheckpoint } from '../audit/checkpoint.ts';
import { type LogSigner, parseVerifierKey, type VerifierKey } from '../audit/note.ts';
import { CompactRange } from '../audit/tree.ts';
import { AuditError } from '../errors.ts';

/** A connection, a pool or a transaction. */
export type Queryable = Pick<pg.ClientBase, 'query'>;

export interface HeadRow {
  size: number;
  range: Uint8Array;
  root: Uint8Array;
  checkpoint: string;
}

const SELECT_HEAD = 'SELECT size::float8 AS size, range, root, checkpoint FROM audit_head WHERE id = 1';
const LOCK_HEAD = { name: 'veilrisk-lock-head', text: `${SELECT_HEAD} FOR UPDATE` };

/** As it is stored, unchecked. @throws AuditError AUDIT_LOG_TAMPERED when it is missing. */
export async function readHeadRow(db: Queryable): Promise<HeadRow> {
  return onlyRow(await db.query<HeadRow>(SELECT_HEAD));
}

/** The same, held until the transaction ends. */
export async function lockHeadRow(db: Queryable): Promise<HeadRow> {
  return onlyRow(await db.query<HeadRow>(LOCK_HEAD));
}

function onlyRow({ rows }: { rows: HeadRow[] }): HeadRow {
  if (rows.length === 0) throw tampered('its head is missing', 'head');
  return rows[0];
}

/** The log's signing key, and the newest head this process has seen. One for each open store. */
export class LogKeeper {
  readonly signer: LogSigner;
  readonly #key: VerifierKey;
  #newest: Checkpoint | null = null;

  constructor(signer: LogSigner) {
    this.signer = signer;
    this.#key = parseVerifierKey(signer.verifierKey);
  }

  /** The newest head this process has seen committed, or null. */
  get newest(): Checkpoint | null {
    return this.#newest;
  }

  /** A checkpoint signed with our key. @throws AuditError AUDIT_SIGNATURE_INVALID, AUDIT_NOTE_MALFORMED. */
  verify(note: string): Promise<Checkpoint> {
    return verifyCheckpoint(note, this.#key);
  }

  /**
   * The tree state of a stored head.
   * @param floor what the head must not be older than; for a row read without its lock, `newest` from before the read.
   * @throws AuditError AUDIT_LOG_TAMPERED, AUDIT_SIGNATURE_INVALID when it is not the one our key signed.
   */
  async check(row: HeadRow, floor: Checkpoint | null): Promise<CompactRange> {
    const { size, range: packed, root, checkpoint } = row;
    const signed = await this.verify(checkpoint);
    const range = CompactRange.unpack(size, packed);
    if (signed.size !== size || !equalBytes(signed.root, root) || !equalBytes(range.root(), root)) {
      throw tampered('the stored head differs from the checkpoint it is signed with', 'head');
    }
    if (floor !== null && (size < floor.size || (size === floor.size && !equalBytes(root, floor.root)))) {
      throw tampered(`it had ${floor.size} entries, and an older head was put back`, 'head');
    }
    this.committed(signed);
    return range;
  }

  /** A committed head, ours or another process's, counts as seen. */
  committed(head: Checkpoint): void {
    if (this.#newest === null || head.size > this.#newest.size) this.#newest = head;
  }
}

export function tampered(what: string, where: string, fix = EVIDENCE): AuditError {
  return new AuditError('AUDIT_LOG_TAMPERED', `The log does not verify: ${what}.`, { where, fix });
}

const EVIDENCE = 'Keep the database as evidence, and compare it with a checkpoint or an export that was made earlier.';
