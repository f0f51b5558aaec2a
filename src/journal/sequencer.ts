/**
 * Numbers audit entries: the only writer of `audit_entries` and `audit_head`, in the node's and the aggregator's database.
 *
 * The head row is locked FOR UPDATE at the first append of a transaction and held to its end, so processes that share a
 * database take turns and no index is skipped or given twice. Entries, tree state and signed checkpoint commit with the
 * rows they record; a crash leaves all or nothing. Because the lock is held, a transaction appends after its slow work,
 * and takes every other lock (a budget) before. What it continues is checked first (head.ts).
 */
import { bytesToHex } from '../audit/bytes.ts';
import { type Checkpoint, signCheckpoint } from '../audit/checkpoint.ts';
import type { LogSigner } from '../audit/note.ts';
import { CompactRange, leafHash } from '../audit/tree.ts';
import { type LogKeeper, lockHeadRow, type Queryable, tampered } from './head.ts';

/** Where an entry is in the log. */
export interface AuditPosition {
  /** From 0. */
  index: number;
  /** RFC 6962 leaf hash, 64 hex digits. */
  leafHash: string;
}

const INSERT = {
  name: 'veilrisk-insert-entries',
  text: 'INSERT INTO audit_entries (index, node, bytes) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])',
};
const UNIQUE_VIOLATION = '23505';
const UPDATE_HEAD = {
  name: 'veilrisk-update-head',
  text: 'UPDATE audit_head SET size = $1, range = $2, root = $3, checkpoint = $4, updated_at = now() WHERE id = 1',
};

export class Sequencer {
  readonly #client: Queryable;
  readonly #keeper: LogKeeper;
  #range: CompactRange | null = null;
  /** Two appends that are not awaited one by one still share one lock and one range. */
  #locked: Promise<CompactRange> | null = null;
  #appended = false;
  #signed: Checkpoint | null = null;

  constructor(client: Queryable, keeper: LogKeeper) {
    this.#client = client;
    this.#keeper = keeper;
  }

  /** Writes the head of the empty log unless there is a head already. */
  static async createHead(db: Queryable, signer: LogSigner): Promise<void> {
    const range = CompactRange.empty();
    const values = [asBuffer(range.pack()), asBuffer(range.root()), await signCheckpoint(0, range.root(), signer)];
    // Not when entries are there: a head that was deleted is found, not replaced.
    await db.query(
      `INSERT INTO audit_head (id, size, range, root, checkpoint) SELECT 1, 0, $1, $2, $3
       WHERE NOT EXISTS (SELECT 1 FROM audit_entries) ON CONFLICT (id) DO NOTHING`,
      values,
    );
  }

  /**
   * Takes the log's lock, and checks what it continues; further calls do nothing.
   * @throws AuditError AUDIT_LOG_TAMPERED, AUDIT_SIGNATURE_INVALID: nothing is signed on top of a history we did not sign.
   */
  lock(): Promise<CompactRange> {
    this.#locked ??= this.#takeLock();
    return this.#locked;
  }

  async #takeLock(): Promise<CompactRange> {
    const head = await lockHeadRow(this.#client);
    this.#range = await this.#keeper.check(head, this.#keeper.newest);
    return this.#range;
  }

  /** Numbers and inserts entries (of `entryBytes`) in order. Not durable before `finish` and COMMIT. */
  async append(entries: readonly Uint8Array[]): Promise<AuditPosition[]> {
    if (entries.length === 0) return [];
    const range = await this.lock();
    const nodes: Buffer[] = [];
    const positions = entries.map((bytes): AuditPosition => {
      const leaf = leafHash(bytes);
      const index = range.size;
      nodes.push(asBuffer(range.append(leaf)));
      return { index, leafHash: bytesToHex(leaf) };
    });
    this.#appended = true;
    const values = [positions.map(({ index }) => index), nodes, entries.map(asBuffer)];
    try {
      await this.#client.query({ ...INSERT, values });
    } catch (error) {
      // Safe: node-postgres rejects with errors; the member is only compared.
      if ((error as { code?: unknown }).code !== UNIQUE_VIOLATION) throw error;
      throw tampered('an entry beyond its signed size is in the database', `index ${positions[0].index}`);
    }
    return positions;
  }

  /** Signs and stores the new head when something was appended; its note, else null. The last step before COMMIT. */
  async finish(): Promise<string | null> {
    if (!this.#appended || this.#range === null) return null;
    const root = this.#range.root();
    const checkpoint = await signCheckpoint(this.#range.size, root, this.#keeper.signer);
    const values = [this.#range.size, asBuffer(this.#range.pack()), asBuffer(root), checkpoint];
    await this.#client.query({ ...UPDATE_HEAD, values });
    this.#signed = { origin: this.#keeper.signer.origin, size: this.#range.size, root };
    this.#appended = false;
    return checkpoint;
  }

  /** To be called after COMMIT; true when something was appended. */
  committed(): boolean {
    if (this.#signed === null) return false;
    this.#keeper.committed(this.#signed);
    return true;
  }
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
