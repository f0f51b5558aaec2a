/**
 * Reading a log: its signed head, an export, and the check of every stored row.
 *
 * Nothing here trusts the stored hashes: they are recomputed from the entries' bytes and compared.
 */
import type pg from 'pg';
import { equalBytes } from '../audit/bytes.ts';
import { verifyCheckpoint } from '../audit/checkpoint.ts';
import { type ExportedEntry, entryLine, headerLine } from '../audit/exportFile.ts';
import { type LogSigner, parseVerifierKey } from '../audit/note.ts';
import { RangeChecker } from '../audit/verifyLog.ts';
import { mapped } from '../database/failures.ts';
import { witnessedNotes } from './cosignatures.ts';
import { writeExport } from './exportFile.ts';
import { type LogKeeper, type Queryable, readHeadRow, tampered } from './head.ts';
import { Sequencer } from './sequencer.ts';

export interface LogHead {
  /** Entries in the log. */
  size: number;
  /** 32 bytes. */
  root: Uint8Array;
  /** Signed note. */
  checkpoint: string;
}

export interface JournalReader {
  readonly origin: string;
  readonly verifierKey: string;
  head(): Promise<LogHead>;
  /** Entries of indices [from, to), as stored. */
  entries(from: number, to: number): AsyncGenerator<ExportedEntry>;
  /** The lines of an export of the log as it is now (audit/FORMAT.md). */
  exportLines(): AsyncGenerator<string>;
  /** Writes those lines to a file, which appears complete or not at all. Returns the number of entries. */
  exportTo(path: string): Promise<number>;
  /** Recomputes everything from the rows. @throws AuditError AUDIT_LOG_TAMPERED, `where` the first bad index. */
  fsck(): Promise<LogHead>;
}

const CHUNK = 2_000;

export function readJournal(
  pool: pg.Pool,
  { origin, verifierKey }: Pick<LogSigner, 'origin' | 'verifierKey'>,
): JournalReader {
  const key = parseVerifierKey(verifierKey);
  const reader: JournalReader = {
    origin,
    verifierKey,
    head: () => mapped(readHeadRow(pool)),
    entries: (from, to) => readEntries(pool, from, to),
    async *exportLines() {
      const { size, checkpoint } = await mapped(readHeadRow(pool));
      const notes = await mapped(witnessedNotes(pool, size));
      // Those who cosigned the newest checkpoint stand under it.
      const newest = notes.find((note) => note.startsWith(checkpoint));
      const witnessed = notes.filter((note) => note !== newest);
      yield headerLine({ origin, verifierKey, checkpoint: newest ?? checkpoint, witnessed });
      for await (const entry of readEntries(pool, 0, size)) yield entryLine(entry);
    },
    exportTo: async (path) => (await writeExport(path, reader.exportLines())) - 1,
    async fsck() {
      const client = await mapped(pool.connect());
      try {
        // One snapshot, so that entries appended meanwhile are not taken for strangers.
        await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
        const head = await readHeadRow(client);
        const checkpoint = await verifyCheckpoint(head.checkpoint, key);
        if (checkpoint.size !== head.size || !equalBytes(checkpoint.root, head.root)) {
          throw tampered('the stored head differs from the checkpoint it is signed with', 'head');
        }
        const checker = new RangeChecker(checkpoint);
        let last = -1;
        for await (const entry of readEntries(client, 0, head.size)) {
          last = entry.index;
          checker.add(entry, `index ${last}`);
        }
        checker.finish(`index ${last + 1}`);
        const strangers = await client.query<{ index: string | null }>(
          'SELECT min(index)::text AS index FROM audit_entries WHERE index < 0 OR index >= $1',
          [head.size],
        );
        const stranger = strangers.rows[0].index;
        if (stranger !== null) throw tampered('an entry is not covered by the checkpoint', `index ${stranger}`);
        return head;
      } finally {
        await client.query('ROLLBACK').catch(() => {});
        client.release();
      }
    },
  };
  return reader;
}

/**
 * Writes the empty log's head on first start; afterwards checks that the stored head is whole and signed by this key,
 * and that the entries end where it says.
 * @throws AuditError AUDIT_SIGNATURE_INVALID for another key's log, AUDIT_LOG_TAMPERED.
 */
export async function openJournal(pool: pg.Pool, keeper: LogKeeper): Promise<void> {
  await Sequencer.createHead(pool, keeper.signer);
  await keeper.check(await readHeadRow(pool), null);
  // One statement, one snapshot: an entry that another process adds meanwhile comes with its head.
  const { rows } = await pool.query<{ size: number; last: number }>(
    `SELECT size::float8 AS size, COALESCE((SELECT max(index) FROM audit_entries), -1)::float8 AS last
     FROM audit_head WHERE id = 1`,
  );
  for (const { size, last } of rows) {
    if (last >= size) throw tampered('an entry is not covered by the checkpoint', `index ${last}`);
    if (last < size - 1) throw tampered(`entry ${size - 1} of ${size} is missing`, `index ${size - 1}`);
  }
}

async function* readEntries(db: Queryable, from: number, to: number): AsyncGenerator<ExportedEntry> {
  for (let start = from; start < to; start += CHUNK) {
    const { rows } = await mapped(
      db.query<ExportedEntry>(
        'SELECT index::float8 AS index, node, bytes FROM audit_entries WHERE index >= $1 AND index < $2 ORDER BY index',
        [start, Math.min(start + CHUNK, to)],
      ),
    );
    yield* rows;
  }
}
