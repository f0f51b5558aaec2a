/**
 * A whole CSV file as bins in shared memory, for fits in several threads.
 *
 * Per row it keeps the bins, the label and a customer number: 1,000,000 rows of 30 fields take 65 MB, twice that while
 * the pieces are joined. Limit: un-noised; nothing of it may leave this machine.
 */
import { type Contract, layoutOf } from '../../contract/contract.ts';
import { ContractError, type FieldIssue } from '../../errors.ts';
import type { BinnedData } from '../../learning/binned.ts';
import { sharedMemory } from '../../workers/thread.ts';
import { type Progress, type RejectedRow, readRows } from '../readRows.ts';

export interface EvaluationRows {
  data: BinnedData;
  /** Number of the customer of each row, from 0; without a customer key each row has its own. Shared memory. */
  customers: Uint32Array;
  customerCount: number;
  positives: number;
  rejected: number;
  /** Cells outside their public bounds. */
  clamped: number;
  /** Fields of which more than half of the cells say little, for people: a sign of the wrong contract. */
  doubts: string[];
}

const CHUNK_ROWS = 1 << 16;
const REJECTS_SHOWN = 20;
/** Below this a test of a fifth of the rows says nothing. */
const LEAST_ROWS = 50;

interface Chunk {
  bins: Uint16Array;
  labels: Uint8Array;
  customers: Uint32Array;
}

/**
 * Reads every row.
 *
 * Fails as `readRows` does; with FILE_REJECTED when more than `maxRejected` of the rows break the contract, naming line,
 * field and rule of the first ones, when there are too few rows, or when all labels are the same.
 * @returns null when `signal` ended it.
 */
export async function loadRows(
  contract: Contract,
  path: string,
  options: { maxRejected: number; signal: AbortSignal; onProgress?: Progress },
): Promise<EvaluationRows | null> {
  const { sizes } = layoutOf(contract);
  const fields = sizes.length;
  const chunks: Chunk[] = [];
  const numbers = new Map<string, number>();
  const rejects: RejectedRow[] = [];
  let rows = 0;
  let rejected = 0;
  let positives = 0;
  let clamped = 0;
  const clampedByField = contract.fields.map(() => 0);
  const { maxRejected, signal, onProgress } = options;
  for await (const row of rowsOf(contract, path, onProgress, (field) => clampedByField[field]++)) {
    if (signal.aborted) return null;
    if ('issues' in row) {
      rejected++;
      if (rejects.length < REJECTS_SHOWN) rejects.push({ line: row.line, issues: row.issues });
      continue;
    }
    const at = rows % CHUNK_ROWS;
    if (at === 0) chunks.push(emptyChunk(fields));
    const chunk = chunks[chunks.length - 1];
    chunk.bins.set(row.bins, at * fields);
    // Safe: `readRows` refuses a file without the label column, so every row has one.
    chunk.labels[at] = row.label!;
    chunk.customers[at] = row.subject === null ? rows : numberOf(numbers, row.subject);
    positives += chunk.labels[at];
    clamped += row.clamped;
    rows++;
  }
  if (rejected > maxRejected * (rows + rejected)) throw rejection(path, rejected, rows + rejected, rejects);
  if (rows < LEAST_ROWS) {
    throw new ContractError('FILE_REJECTED', `The file has ${rows} rows that fit, and ${LEAST_ROWS} are needed`, {
      where: path,
      fix: 'Give a file with more rows.',
    });
  }
  if (positives === 0 || positives === rows) {
    throw new ContractError('FILE_REJECTED', `Every row has the ${positives === 0 ? 'negative' : 'positive'} label`, {
      where: `${path}, column ${contract.label.name}`,
      fix: 'Give a file with rows of both labels, or correct label.positive and label.negative of the contract.',
    });
  }
  const { customers, ...binned } = joined(chunks, rows, fields);
  const customerCount = contract.subject === null ? rows : numbers.size;
  const data = { rows, sizes, ...binned };
  const doubts = doubtsAbout(contract, data, clampedByField);
  return { data, customers, customerCount, positives, rejected, clamped, doubts };
}

/** As `readRows`, with the file in the place of the error and the usual reasons in its fix. */
async function* rowsOf(
  contract: Contract,
  path: string,
  onProgress: Progress | undefined,
  onClamped: (field: number) => void,
) {
  try {
    yield* readRows(contract, path, onProgress, { onClamped });
  } catch (error) {
    if (!(error instanceof ContractError) || error.code !== 'FILE_HEADER_MISMATCH') throw error;
    const { delimiter, header } = contract.csv;
    throw new ContractError(error.code, error.message, {
      where: path,
      fix:
        `The contract expects cells separated by ${JSON.stringify(delimiter)}, ` +
        `${header ? 'a header line with these names, letter by letter' : 'no header line'}, and the label column. ` +
        'Correct the file, or "csv" and the names of the contract.',
      issues: error.issues,
      cause: error,
    });
  }
}

function doubtsAbout(contract: Contract, data: BinnedData, clampedByField: readonly number[]): string[] {
  const { rows, sizes, bins } = data;
  const fields = sizes.length;
  const missing = sizes.map(() => 0);
  const other = sizes.map(() => 0);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let k = 0; k < fields; k++, at++) {
      if (bins[at] === sizes[k] - 1) missing[k]++;
      else if (bins[at] === sizes[k] - 2) other[k]++;
    }
  }
  return contract.fields.flatMap((field, k) => {
    // An interaction has no cells; what is missing in its parts is said of them.
    if (field.kind === 'interaction') return [];
    const share = (cells: number) => `${field.name}: ${Math.floor((100 * cells) / rows)} % of the cells`;
    if (missing[k] > rows / 2) return [`${share(missing[k])} are missing`];
    if (clampedByField[k] > rows / 2) return [`${share(clampedByField[k])} are outside the bounds of the contract`];
    if (field.kind === 'categorical' && other[k] > rows / 2)
      return [`${share(other[k])} are in no category of the contract`];
    return [];
  });
}

function numberOf(numbers: Map<string, number>, subject: string): number {
  let number = numbers.get(subject);
  if (number === undefined) {
    number = numbers.size;
    numbers.set(subject, number);
  }
  return number;
}

function emptyChunk(fields: number): Chunk {
  return {
    bins: new Uint16Array(CHUNK_ROWS * fields),
    labels: new Uint8Array(CHUNK_ROWS),
    customers: new Uint32Array(CHUNK_ROWS),
  };
}

/** The first `rows` rows of the chunks in one piece of shared memory each; the chunks are let go. */
function joined(chunks: Chunk[], rows: number, fields: number): Chunk {
  const bins = new Uint16Array(sharedMemory(rows * fields * Uint16Array.BYTES_PER_ELEMENT));
  const labels = new Uint8Array(sharedMemory(rows));
  const customers = new Uint32Array(sharedMemory(rows * Uint32Array.BYTES_PER_ELEMENT));
  for (let from = 0; from < rows; from += CHUNK_ROWS) {
    // Safe: there is a chunk for every CHUNK_ROWS rows begun.
    const chunk = chunks.shift()!;
    const here = Math.min(CHUNK_ROWS, rows - from);
    bins.set(chunk.bins.subarray(0, here * fields), from * fields);
    labels.set(chunk.labels.subarray(0, here), from);
    customers.set(chunk.customers.subarray(0, here), from);
  }
  return { bins, labels, customers };
}

function rejection(path: string, rejected: number, read: number, rejects: readonly RejectedRow[]): ContractError {
  const issues = rejects.flatMap(({ line, issues }): FieldIssue[] =>
    issues.map(({ field, rule }) => ({ field: `line ${line}, ${field}`, rule })),
  );
  return new ContractError('FILE_REJECTED', `${rejected} of ${read} rows do not fit the contract`, {
    where: path,
    fix: 'Correct the file or the contract, or give --max-rejected SHARE to leave such rows out.',
    issues,
  });
}
