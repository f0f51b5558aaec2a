/**
 * Writes simulated transactions to a CSV file, plain or gzip.
 *
 * The file appears under its name only when it is complete: it is written beside it and renamed, so a killed process
 * leaves no file that looks whole.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip } from 'node:zlib';
import { ContractError } from '../errors.ts';
import { lineWriter, SIMULATED_COLUMNS } from '../simulator/csv.ts';
import { completeOptions, generateTransactions, type SimulationOptions } from '../simulator/transactions.ts';

export { BANK_NAMES } from '../simulator/banks.ts';
export type { SimulationOptions } from '../simulator/transactions.ts';

export interface SimulationSummary {
  rows: number;
  frauds: number;
  /** Length of the CSV text before compression. */
  bytes: number;
  /** SHA-256 (hex) of the CSV text before compression. */
  sha256: string;
}

const CHUNK_CHARACTERS = 1 << 19;

/**
 * @param options `out` is the file to write; a name that ends in .gz is compressed (level 1: made to be read once)
 * @param onProgress called now and then with the number of rows written
 * @throws RequestError USAGE for options outside their range; ContractError FILE_UNREADABLE when it cannot be written
 */
export async function simulateToFile(
  { out: path, ...options }: SimulationOptions & { out: string },
  onProgress?: (rows: number) => void,
): Promise<SimulationSummary> {
  const complete = completeOptions(options);
  const summary: SimulationSummary = { rows: 0, frauds: 0, bytes: 0, sha256: '' };
  const hash = createHash('sha256');
  const partial = `${path}.partial`;

  function* chunks(): Generator<Buffer, void, undefined> {
    const write = lineWriter(complete);
    let text = `${SIMULATED_COLUMNS.join(',')}\n`;
    for (const transaction of generateTransactions(complete)) {
      text += write(transaction);
      text += '\n';
      summary.rows++;
      if (transaction.fraud) summary.frauds++;
      if (text.length >= CHUNK_CHARACTERS) {
        yield record(text);
        text = '';
      }
    }
    yield record(text);
  }

  function record(text: string): Buffer {
    const chunk = Buffer.from(text, 'latin1');
    hash.update(chunk);
    summary.bytes += chunk.length;
    onProgress?.(summary.rows);
    return chunk;
  }

  try {
    const output = createWriteStream(partial);
    await once(output, 'open');
    if (path.endsWith('.gz')) await pipeline(chunks, createGzip({ level: constants.Z_BEST_SPEED }), output);
    else await pipeline(chunks, output);
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    if (typeof error === 'object' && error !== null && 'syscall' in error) {
      throw new ContractError('FILE_UNREADABLE', 'The file cannot be written', {
        where: path,
        fix: 'Check that the folder exists, may be written by this user and has room.',
        cause: error,
      });
    }
    throw error;
  }
  summary.sha256 = hash.digest('hex');
  return summary;
}
