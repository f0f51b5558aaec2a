/**
 * Records in bulk: written by binary COPY, read back in chunks that the server has already concatenated.
 *
 * Not through Prisma: a million records would be a million objects. Source of the byte format: PostgreSQL documentation,
 * "COPY, Binary Format".
 */
import { once } from 'node:events';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { ContractError, StoreError } from '../errors.ts';
import type { Session } from './session.ts';

/** One record to store. */
export interface NewRecord {
  /** HMAC-SHA-256 of the customer key, 32 bytes. */
  subject: Uint8Array;
  label: 0 | 1 | null;
  time: Date | null;
  /** One bin per field of the contract. */
  bins: Uint16Array;
}

/** All labelled records of a data set, in the order they were imported. */
export interface TrainingRows {
  rows: number;
  /** Row-major, rows * fields. */
  bins: Uint16Array;
  /** 0 or 1 each. */
  labels: Uint8Array;
  /** 32 bytes for each row, one after the other. */
  subjects: Uint8Array;
}

export const SUBJECT_BYTES = 32;
const CHUNK_ROWS = 10_000;
const BUFFER_BYTES = 1 << 18;
const FIELD_COUNT = 7;
const NULL_LENGTH = -1;
// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH_MS = Date.UTC(2000, 0, 1);

// "PGCOPY\n\377\r\n\0", flags, header extension length.
const HEADER = Buffer.from('5047434f50590aff0d0a00' + '00000000' + '00000000', 'hex');
const TRAILER = Buffer.from('ffff', 'hex');

/**
 * Appends records to a locked data set (`datasets.lock`) in the caller's transaction; returns how many.
 * Memory is bounded by one buffer, whatever the number of records.
 */
export async function copyRecords(
  { client }: Session,
  target: { datasetId: number; importId: number },
  records: AsyncIterable<NewRecord> | Iterable<NewRecord>,
): Promise<number> {
  const found = await client.query<{ records: number }>('SELECT records FROM datasets WHERE id = $1', [
    target.datasetId,
  ]);
  const first = found.rows[0].records;
  const stream = client.query(
    copyFrom('COPY records (dataset_id, seq, import_id, subject, label, time, bins) FROM STDIN (FORMAT binary)'),
  );
  const failed = new Promise<never>((_, fail) => stream.once('error', fail));
  failed.catch(() => {});
  let count = 0;
  try {
    let buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    let at = HEADER.copy(buffer);
    for await (const record of records) {
      const bytes = rowBytes(record);
      if (at + bytes + TRAILER.length > buffer.length) {
        if (!stream.write(buffer.subarray(0, at))) await Promise.race([once(stream, 'drain'), failed]);
        buffer = Buffer.allocUnsafe(Math.max(BUFFER_BYTES, bytes + TRAILER.length));
        at = 0;
      }
      at = writeRow(buffer, at, target, first + count, record);
      count++;
    }
    at += TRAILER.copy(buffer, at);
    const finished = once(stream, 'finish');
    stream.end(buffer.subarray(0, at));
    await Promise.race([finished, failed]);
  } catch (error) {
    // The transaction is lost with the COPY; the connection is told so before the error goes up.
    stream.destroy(error instanceof Error ? error : undefined);
    throw error;
  }
  await client.query('UPDATE datasets SET records = $2 WHERE id = $1', [target.datasetId, first + count]);
  return count;
}

// Two bytes of field count, three 4-byte integers, a label of 2 and a time of 8, each with a 4-byte length.
const rowBytes = ({ bins }: NewRecord) => 2 + 3 * 8 + (4 + SUBJECT_BYTES) + 6 + 12 + 4 + bins.length * 2;

function writeRow(
  out: Buffer,
  start: number,
  { datasetId, importId }: { datasetId: number; importId: number },
  seq: number,
  { subject, label, time, bins }: NewRecord,
): number {
  if (subject.length !== SUBJECT_BYTES) {
    throw new ContractError('RECORD_INVALID', 'A record has no customer hash of 32 bytes.', { where: `record ${seq}` });
  }
  let at = out.writeInt16BE(FIELD_COUNT, start);
  for (const value of [datasetId, seq, importId]) at = out.writeInt32BE(value, out.writeInt32BE(4, at));
  at = out.writeInt32BE(SUBJECT_BYTES, at);
  out.set(subject, at);
  at += SUBJECT_BYTES;
  at = label === null ? out.writeInt32BE(NULL_LENGTH, at) : out.writeInt16BE(label, out.writeInt32BE(2, at));
  if (time === null) at = out.writeInt32BE(NULL_LENGTH, at);
  else at = out.writeBigInt64BE(BigInt(time.getTime() - EPOCH_MS) * 1000n, out.writeInt32BE(8, at));
  at = out.writeInt32BE(bins.length * 2, at);
  for (const bin of bins) at = out.writeUInt16LE(bin, at);
  return at;
}

const CHUNK = `
  SELECT count(*)::int AS rows,
    string_agg(bins, ''::bytea ORDER BY seq) AS bins,
    string_agg(subject, ''::bytea ORDER BY seq) AS subjects,
    string_agg(CASE label WHEN 1 THEN '\\x01'::bytea ELSE '\\x00'::bytea END, ''::bytea ORDER BY seq) AS labels
  FROM records WHERE dataset_id = $1 AND seq >= $2 AND seq < $3 AND label IS NOT NULL`;

interface Chunk {
  rows: number;
  bins: Buffer | null;
  subjects: Buffer | null;
  labels: Buffer | null;
}

/**
 * Loads every labelled record. Records are immutable and numbered without gaps, so chunks need no common snapshot.
 * @param fields number of fields of the contract.
 * @throws StoreError NOT_FOUND when there is no such data set; ContractError RECORD_INVALID when a stored record has
 *   another number of fields.
 */
export async function loadTrainingData(pool: pg.Pool, datasetId: number, fields: number): Promise<TrainingRows> {
  const counted = await pool.query<{ total: number; labelled: number }>(
    `SELECT d.records AS total, (SELECT count(*)::int FROM records WHERE dataset_id = d.id AND label IS NOT NULL
       AND seq < d.records) AS labelled FROM datasets d WHERE d.id = $1`,
    [datasetId],
  );
  if (counted.rows.length === 0) {
    throw new StoreError('NOT_FOUND', 'There is no such data set.', { where: `data set ${datasetId}` });
  }
  const { total, labelled } = counted.rows[0];
  const bins = new Uint16Array(labelled * fields);
  const labels = new Uint8Array(labelled);
  const subjects = new Uint8Array(labelled * SUBJECT_BYTES);
  let at = 0;
  for (let from = 0; from < total; from += CHUNK_ROWS) {
    const to = Math.min(from + CHUNK_ROWS, total);
    const { rows } = await pool.query<Chunk>(CHUNK, [datasetId, from, to]);
    const chunk = rows[0];
    if (chunk.rows === 0 || chunk.bins === null || chunk.subjects === null || chunk.labels === null) continue;
    if (chunk.bins.length !== chunk.rows * fields * 2 || at + chunk.rows > labelled) {
      throw new ContractError('RECORD_INVALID', 'Stored records do not fit their contract.', {
        where: `data set ${datasetId}, records ${from} to ${to - 1}`,
        fix: 'Restore the database from a backup; its rows were changed.',
      });
    }
    const view = new DataView(chunk.bins.buffer, chunk.bins.byteOffset, chunk.bins.length);
    for (let i = 0; i < chunk.rows * fields; i++) bins[at * fields + i] = view.getUint16(i * 2, true);
    labels.set(chunk.labels, at);
    subjects.set(chunk.subjects, at * SUBJECT_BYTES);
    at += chunk.rows;
  }
  return { rows: labelled, bins, labels, subjects };
}
