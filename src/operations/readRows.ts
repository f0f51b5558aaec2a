/**
 * A CSV file, plain or gzip, read through a contract as a stream of parsed rows.
 *
 * Memory stays constant whatever the file's size. A row that breaks a rule is handed on with its issues; what makes
 * the whole file untrustworthy (columns, compression, a cut end) is thrown. Whether a file is gzip is told by its first
 * bytes and not by its name.
 */
import { createHash } from 'node:crypto';
import type { ReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { type CsvError, type Info, parse } from 'csv-parse';
import { type Contract, createRowParser, type ParsedRow } from '../contract/contract.ts';
import type { RowIssues, RowParserOptions } from '../contract/row.ts';
import { ContractError, type FieldIssue, VeilriskError } from '../errors.ts';

/** A row of the file that fits the contract. `line` is the number of its (last) line, from 1. */
export type AcceptedRow = ParsedRow & { line: number };
export interface RejectedRow {
  line: number;
  issues: FieldIssue[];
}

/** Bytes of the file as it is stored that were read so far. */
export type Progress = (bytesRead: number) => void;

const MAX_ROW_BYTES = 1 << 20;

interface SourceFile {
  raw: ReadStream;
  gzip: boolean;
  bytes: number;
}

/** SHA-256 (hex) and length of the file's content after decompression; `zcat FILE | sha256sum` gives the same. */
export async function fingerprintFile(path: string): Promise<{ sha256: string; bytes: number; storedBytes: number }> {
  const source = await openSource(path);
  const hash = createHash('sha256');
  let bytes = 0;
  const consume = async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      hash.update(chunk);
      bytes += chunk.length;
    }
  };
  try {
    if (source.gzip) await pipeline(source.raw, createGunzip(), consume);
    else await pipeline(source.raw, consume);
  } catch (error) {
    throw fileError(error, path);
  }
  return { sha256: hash.digest('hex'), bytes, storedBytes: source.bytes };
}

/** What becomes of the cells of a row, or the rules it breaks. A new object for every row. */
export type RowReader<T extends object> = (cells: readonly string[], line: number) => T | RowIssues;

export interface ReadOptions {
  onProgress?: Progress | undefined;
  /** Called once at the end with the SHA-256 of what was read, to tell whether the file changed since another reading. */
  onContent?: ((sha256: string) => void) | undefined;
}

/** Every row of the file in order, as an import reads it. Fails as `readFileRows`. */
export function readRows(
  contract: Contract,
  path: string,
  onProgress?: Progress,
  options: RowParserOptions & Pick<ReadOptions, 'onContent'> = {},
): AsyncGenerator<AcceptedRow | RejectedRow, void, undefined> {
  const reader = (header: readonly string[] | null) => createRowParser(contract, header, options);
  return readFileRows(contract, path, reader, { onProgress, onContent: options.onContent });
}

/**
 * Yields every row of the file in order.
 *
 * Fails with FILE_HEADER_MISMATCH, FILE_TRUNCATED or FILE_UNREADABLE.
 *
 * @param openReader makes the reader of the rows from the header line; null: the columns the contract lists
 */
export async function* readFileRows<T extends object>(
  contract: Contract,
  path: string,
  openReader: (header: readonly string[] | null) => RowReader<T>,
  { onProgress, onContent }: ReadOptions = {},
): AsyncGenerator<(T & { line: number }) | RejectedRow, void, undefined> {
  const source = await openSource(path);
  const { csv } = contract;
  const skipped: RejectedRow[] = [];
  const parser = parse({
    delimiter: csv.delimiter,
    trim: csv.trim,
    bom: true,
    ...(csv.comment === null ? {} : { comment: csv.comment, comment_no_infix: true }),
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: MAX_ROW_BYTES,
  });
  let unclosedQuote = false;
  parser.on('skip', (error: CsvError | undefined) => {
    if (error?.code === 'CSV_QUOTE_NOT_CLOSED') unclosedQuote = true;
    const line = typeof error?.lines === 'number' ? error.lines : 0;
    skipped.push({ line, issues: [{ field: '(row)', rule: 'must be well-formed CSV' }] });
  });
  const hash = createHash('sha256');
  let lastByte = 0x0a;
  const observe = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      if (chunk.length > 0) lastByte = chunk[chunk.length - 1];
      done(null, chunk);
    },
  });
  if (onProgress) source.raw.on('data', () => onProgress(source.raw.bytesRead));

  let parseRow = csv.header ? null : openReader(null);
  let width = csv.columns?.length ?? 0;
  let cutRow = false;
  const flow = source.gzip
    ? pipeline(source.raw, createGunzip(), observe, parser)
    : pipeline(source.raw, observe, parser);
  // The failure reaches the loop below through the parser; this only keeps it from being unhandled as well.
  flow.catch(() => {});
  try {
    // Safe: what the parser yields with `info` and without `columns`.
    for await (const { record, info } of parser as AsyncIterable<{ record: string[]; info: Info }>) {
      if (parseRow === null) {
        parseRow = openReader(record);
        width = record.length;
        continue;
      }
      // Safe: the list is not empty.
      while (skipped.length > 0) yield skipped.shift()!;
      const row = parseRow(record, info.lines);
      cutRow = 'issues' in row && (record.length < width || record[width - 1] === '');
      // Safe: a row parser makes a new object for every row; nobody else holds it.
      yield Object.assign(row, { line: info.lines });
    }
    await flow;
  } catch (error) {
    throw fileError(error, path);
  } finally {
    parser.destroy();
    source.raw.destroy();
  }
  if (unclosedQuote || (cutRow && lastByte !== 0x0a)) {
    throw new ContractError('FILE_TRUNCATED', 'The file ends in the middle of a row', {
      where: path,
      fix: 'Get a complete copy of the file.',
    });
  }
  // Safe: the list is not empty.
  while (skipped.length > 0) yield skipped.shift()!;
  if (parseRow === null) {
    throw new ContractError('FILE_HEADER_MISMATCH', 'The file has no header line', {
      where: path,
      fix: 'Give a file whose first line names the columns.',
    });
  }
  onContent?.(hash.digest('hex'));
}

/** Size of the file as it is stored; fails with FILE_UNREADABLE when it cannot be opened. */
export async function fileBytes(path: string): Promise<number> {
  const source = await openSource(path);
  source.raw.destroy();
  return source.bytes;
}

async function openSource(path: string): Promise<SourceFile> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    const { size } = await handle.stat();
    const magic = Buffer.alloc(2);
    await handle.read(magic, 0, 2, 0);
    return {
      raw: handle.createReadStream({ start: 0, highWaterMark: 1 << 18 }),
      gzip: magic[0] === 0x1f && magic[1] === 0x8b,
      bytes: size,
    };
  } catch (error) {
    await handle?.close();
    throw fileError(error, path);
  }
}

function fileError(error: unknown, path: string): unknown {
  if (error instanceof VeilriskError) return error;
  const code = systemCode(error) ?? '';
  if (code === 'Z_BUF_ERROR') {
    return new ContractError('FILE_TRUNCATED', 'The compressed file ends too early', {
      where: path,
      fix: 'Get a complete copy of the file.',
      cause: error,
    });
  }
  const known: Record<string, string> = {
    ENOENT: 'The file does not exist',
    EACCES: 'The file may not be read by this user',
    EISDIR: 'This is a folder and not a file',
    Z_DATA_ERROR: 'The compressed file is damaged',
  };
  if (code in known || code.startsWith('CSV_') || code.startsWith('Z_') || code.startsWith('E')) {
    return new ContractError('FILE_UNREADABLE', known[code] ?? `The file cannot be read (${code})`, {
      where: path,
      fix: 'Check the path and that the file is CSV text, plain or compressed with gzip.',
      cause: error,
    });
  }
  return error;
}

/** The code of a failed system call, of zlib or of the CSV parser. */
function systemCode(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : undefined;
}
