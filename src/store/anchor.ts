/**
 * The anchor: the newest checkpoint this node signed, kept outside the database.
 *
 * A database that was restored from a backup, or set back by its administrator, is whole and correctly signed; only a
 * checkpoint kept elsewhere tells that it is old, and that budget spent since would be spent again. Written before the
 * caller of a transaction goes on, so nothing leaves the node whose reservation is not anchored.
 *
 * Trusted: who can write the node's data directory can set the anchor back as well, or remove it: without one the log is
 * taken as it is, and anchored from then on.
 */
import { randomUUID } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type pg from 'pg';
import { equalBytes } from '../audit/bytes.ts';
import type { EntryDraft } from '../audit/entry.ts';
import { CompactRange, leafHash } from '../audit/tree.ts';
import { StoreError } from '../errors.ts';
import { type HeadRow, type LogKeeper, readHeadRow, tampered } from '../journal/head.ts';

/** Where the newest checkpoint is kept: a signed note. */
export interface Anchor {
  /** Null before the first write. */
  read(): Promise<string | null>;
  /** Resolves when the note is durable. */
  write(note: string): Promise<void>;
}

/** Entries of the privacy ledger: budget must not be spent a second time after the log was set back. */
export const needsAnchor = ({ type }: Pick<EntryDraft, 'type'>): boolean => type.startsWith('privacy.');

/** An anchor in a file, replaced as a whole. Both reject with StoreError DATABASE_UNAVAILABLE naming the file. */
export function fileAnchor(path: string): Anchor {
  return {
    async read() {
      try {
        return await readFile(path, 'utf8');
      } catch (cause) {
        // Safe: node:fs rejects with system errors only.
        if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
        throw unusable(path, 'read', cause);
      }
    },
    async write(note) {
      const partial = `${path}.${randomUUID()}`;
      try {
        const file = await open(partial, 'wx', 0o600);
        try {
          await file.writeFile(note);
          await file.sync();
        } finally {
          await file.close();
        }
        await rename(partial, path);
        await syncDirectory(dirname(path));
      } catch (cause) {
        await rm(partial, { force: true });
        throw unusable(path, 'written', cause);
      }
    },
  };
}

async function syncDirectory(path: string): Promise<void> {
  // Windows opens no directories; its rename is durable with the file.
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function unusable(path: string, verb: string, cause: unknown): StoreError {
  return new StoreError('DATABASE_UNAVAILABLE', `The checkpoint beside the database cannot be ${verb}.`, {
    where: path,
    fix: 'Check the disk and the permissions of the data directory. What was asked may have been written.',
    cause,
  });
}

const CHUNK = 2_000;
/** Any constant: names the lock that writers of the anchor take turns by. */
const ANCHOR_LOCK = 7_306_010_117;
const PAUSE_MS = 1_000;

/** Keeps an anchor up to date, and compares a log with it. */
export class AnchorKeeper {
  readonly #pool: pg.Pool;
  readonly #keeper: LogKeeper;
  readonly #anchor: Anchor;
  #writing: Promise<void> = Promise.resolve();
  #later: NodeJS.Timeout | null = null;

  constructor(pool: pg.Pool, keeper: LogKeeper, anchor: Anchor) {
    this.#pool = pool;
    this.#keeper = keeper;
    this.#anchor = anchor;
  }

  /**
   * Requires that the log continues what was anchored, and anchors it as it is now.
   * Reads the entries since the anchor: usually those of the last second before the node ended.
   * @throws AuditError AUDIT_LOG_TAMPERED when it does not.
   */
  async open(): Promise<void> {
    const note = await this.#anchor.read();
    if (note !== null) {
      const head = await readHeadRow(this.#pool);
      await this.#keeper.check(head, null);
      await this.#compare(note, head);
    }
    await this.write();
  }

  /** Anchors the log as it is now; resolves when that is durable. */
  write(): Promise<void> {
    // A write that is under way may have read the head before the caller's commit; the next one has not.
    const written = this.#writing.then(() => this.#write());
    this.#writing = written.catch(() => {});
    return written;
  }

  /** Anchors within a second, as far as that succeeds: for what costs no budget. */
  writeLater(): void {
    if (this.#later !== null) return;
    this.#later = setTimeout(() => {
      this.#later = null;
      this.write().catch(() => {});
    }, PAUSE_MS);
    this.#later.unref();
  }

  /** Anchors what `writeLater` has left, as far as that succeeds. */
  async close(): Promise<void> {
    if (this.#later !== null) {
      clearTimeout(this.#later);
      this.#later = null;
      this.write().catch(() => {});
    }
    await this.#writing;
  }

  async #write(): Promise<void> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    try {
      // Processes of one node take turns, each with the head that is current then: the anchor never goes back.
      await client.query('BEGIN');
      await client.query('SELECT pg_advisory_xact_lock($1)', [ANCHOR_LOCK]);
      const { newest } = this.#keeper;
      const head = await readHeadRow(client);
      await this.#keeper.check(head, newest);
      await this.#anchor.write(head.checkpoint);
      await client.query('COMMIT');
    } catch (error) {
      await client.query('ROLLBACK').catch((cause: Error) => {
        broken = cause;
      });
      throw error;
    } finally {
      client.release(broken);
    }
  }

  async #compare(note: string, head: HeadRow): Promise<void> {
    const anchored = await this.#keeper.verify(note);
    if (head.size < anchored.size) {
      throw setBack(`it has ${head.size} entries, and this node signed one of ${anchored.size}`, 'checkpoint');
    }
    const range = await prefixOf(this.#pool, anchored.size);
    if (!equalBytes(range.root(), anchored.root)) {
      throw setBack(`its first ${anchored.size} entries are not those this node signed`, 'checkpoint');
    }
    // The hashes above are the database's word; with the entries that follow they must give the signed root.
    for (let from = anchored.size; from < head.size; from += CHUNK) {
      const { rows } = await this.#pool.query<{ bytes: Buffer }>(
        'SELECT bytes FROM audit_entries WHERE index >= $1 AND index < $2 ORDER BY index',
        [from, Math.min(from + CHUNK, head.size)],
      );
      for (const { bytes } of rows) range.append(leafHash(bytes));
    }
    if (range.size !== head.size || !equalBytes(range.root(), head.root)) {
      throw tampered('the entries since the last checkpoint of this node do not give the signed root', 'head');
    }
  }
}

/** The tree state after the first `size` entries, from the stored hashes of the perfect subtrees it consists of. */
async function prefixOf(pool: pg.Pool, size: number): Promise<CompactRange> {
  const ends: number[] = [];
  for (let power = 2 ** 52, end = 0; power >= 1; power /= 2) {
    if (size - end < power) continue;
    end += power;
    ends.push(end - 1);
  }
  const { rows } = await pool.query<{ node: Buffer }>(
    'SELECT node FROM audit_entries WHERE index = ANY($1::bigint[]) ORDER BY index',
    [ends],
  );
  return CompactRange.unpack(size, Buffer.concat(rows.map(({ node }) => node)));
}

const setBack = (what: string, where: string) =>
  tampered(
    `the database is older than the last checkpoint this node signed, or another: ${what}`,
    where,
    'Restore the newest state of the database. An older one would let privacy budget be spent a second time; to go on ' +
      'with it knowingly, make a new node, or have the lost releases accounted for before the checkpoint is removed.',
  );
