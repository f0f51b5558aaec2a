/**
 * The log's head: the one row an append starts from, and what is required of it before anything is signed on top.
 *
 * The database is not trusted with it. Its tree state must give the root that our own key signed, and within one process
 * the log never becomes shorter, so neither a rewritten history nor an older head put back is continued and signed.
 * Limit: a head put back while no process is running is found by the anchor (anchor.ts) only.
 */
import { equalBytes } from '../audit/bytes.ts';
import { type Checkpoint, verifyCheckpoint } from '../audit/checkpoint.ts';
import { type LogSigner, parseVerifierKey, type VerifierKey } from '../audit/note.ts';
import { CompactRange } from '../audit/tree.ts';
import { AuditError } from '../errors.ts';

export interface HeadRow {
  size: number;
  range: Uint8Array;
  root: Uint8Array;
  checkpoint: string;
}

export const HEAD_COLUMNS = 'size::float8 AS size, range, root, checkpoint';

/** The log's signing key, and the newest head this process has seen. One for each open store. */
export class LogKeeper {
  readonly signer: LogSigner;
  readonly #key: VerifierKey;
  #newest: Checkpoint | null = null;

  constructor(signer: LogSigner) {
    this.signer = signer;
    this.#key = parseVerifierKey(signer.verifierKey);
  }

  /** A checkpoint signed with our key. @throws AuditError AUDIT_SIGNATURE_INVALID, AUDIT_NOTE_MALFORMED. */
  verify(note: string): Promise<Checkpoint> {
    return verifyCheckpoint(note, this.#key);
  }

  /**
   * The tree state of a stored head.
   * @param row as committed: the caller has it locked, or reads what others committed.
   * @throws AuditError AUDIT_LOG_TAMPERED, AUDIT_SIGNATURE_INVALID when it is not the one our key signed.
   */
  async check(row: HeadRow | undefined): Promise<CompactRange> {
    if (row === undefined) throw tampered('its head is missing', 'head');
    const { size, range: packed, root, checkpoint } = row;
    const signed = await this.verify(checkpoint);
    const range = CompactRange.unpack(size, packed);
    if (signed.size !== size || !equalBytes(signed.root, root) || !equalBytes(range.root(), root)) {
      throw tampered('the stored head differs from the checkpoint it is signed with', 'head');
    }
    const newest = this.#newest;
    if (newest !== null && (size < newest.size || (size === newest.size && !equalBytes(root, newest.root)))) {
      throw tampered(`it had ${newest.size} entries, and an older head was put back`, 'head');
    }
    this.#newest = signed;
    return range;
  }

  /** What this process has just committed counts as seen. */
  committed(head: Checkpoint): void {
    if (this.#newest === null || head.size > this.#newest.size) this.#newest = head;
  }
}

export function tampered(what: string, where: string, fix = EVIDENCE): AuditError {
  return new AuditError('AUDIT_LOG_TAMPERED', `The log does not verify: ${what}.`, { where, fix });
}

const EVIDENCE = 'Keep the database as evidence, and compare it with a checkpoint or an export that was made earlier.';
