/**
 * Numbers audit entries: the only writer of `audit_entries` and `audit_head`.
 *
 * The head row is locked FOR UPDATE at the first append of a transaction and held to its end, so processes that share a
 * database take turns and no index is skipped or given twice. Entries, tree state and signed checkpoint commit with the
 * rows they record; a crash leaves all or nothing. Because the lock is held, a transaction appends after its slow work,
 * and takes every other lock (a budget) before.
 */
import type pg from 'pg';
import { bytesToHex } from '../audit/bytes.ts';
import { signCheckpoint } from '../audit/checkpoint.ts';
import type { LogSigner } from '../audit/note.ts';
import { CompactRange, leafHash } from '../audit/tree.ts';
import { AuditError } from '../errors.ts';

/** Where an entry is in the log. */
export interface AuditPosition {
  /** From 0. */
  index: number;
  /** RFC 6962 leaf hash, 64 hex digits. */
  leafHash: string;
}

const LOCK_HEAD = {
  name: 'veilrisk-lock-head',
  text: 'SELECT size::float8 AS size, range FROM audit_head WHERE id = 1 FOR UPDATE',
};
const INSERT = {
  name: 'veilrisk-insert-entries',
  text: 'INSERT INTO audit_entries (index, node, bytes) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])',
};
const UPDATE_HEAD = {
  name: 'veilrisk-update-head',
  text: 'UPDATE audit_head SET size = $1, range = $2, root = $3, checkpoint = $4, updated_at = now() WHERE id = 1',
};

export class Sequencer {
  readonly #client: pg.ClientBase;
  readonly #signer: LogSigner;
  #range: CompactRange | null = null;
  #appended = false;

  constructor(client: pg.ClientBase, signer: LogSigner) {
    this.#client = client;
    this.#signer = signer;
  }

  /** Writes the head of the empty log unless there is a head already. */
  static async createHead(db: Pick<pg.ClientBase, 'query'>, signer: LogSigner): Promise<void> {
    const range = CompactRange.empty();
    const values = [asBuffer(range.pack()), asBuffer(range.root()), await signCheckpoint(0, range.root(), signer)];
    // Not when entries are there: a head that was deleted is found, not replaced.
    await db.query(
      `INSERT INTO audit_head (id, size, range, root, checkpoint) SELECT 1, 0, $1, $2, $3
       WHERE NOT EXISTS (SELECT 1 FROM audit_entries) ON CONFLICT (id) DO NOTHING`,
      values,
    );
  }

  /** Takes the log's lock; further calls do nothing. */
  async lock(): Promise<CompactRange> {
    if (this.#range !== null) return this.#range;
    const { rows } = await this.#client.query<{ size: number; range: Buffer }>(LOCK_HEAD);
    if (rows.length === 0)
      throw new AuditError('AUDIT_LOG_TAMPERED', 'The head of the log is missing.', { where: 'head' });
    this.#range = CompactRange.unpack(rows[0].size, rows[0].range);
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
    await this.#client.query({
      ...INSERT,
      values: [positions.map(({ index }) => index), nodes, entries.map(asBuffer)],
    });
    return positions;
  }

  /** Signs and stores the new head when something was appended. The last step before COMMIT. */
  async finish(): Promise<void> {
    if (!this.#appended || this.#range === null) return;
    const root = this.#range.root();
    const checkpoint = await signCheckpoint(this.#range.size, root, this.#signer);
    const values = [this.#range.size, asBuffer(this.#range.pack()), asBuffer(root), checkpoint];
    await this.#client.query({ ...UPDATE_HEAD, values });
    this.#appended = false;
  }
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
