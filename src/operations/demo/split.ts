/**
 * Splits one CSV file by customer into the training files of several banks and one file held out for the test. A
 * customer's rows stay together: otherwise the test would hold customers the model was trained on.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { parse } from 'csv-parse';
import type { Contract } from '../../contract/contract.ts';

/** Where a customer's rows go: the index of a target, by a public hash of the key and not by the order of the file. */
export type Assign = (fraction: number) => number;

/**
 * @param targets files to write; each gets the header when the contract's files have one
 * @param assign maps a uniform fraction in [0, 1), the same for all rows of a customer, to an index of `targets`
 * @returns rows written to each target
 */
export async function splitByCustomer(
  contract: Contract,
  source: string,
  targets: readonly string[],
  assign: Assign,
): Promise<number[]> {
  const outputs = targets.map((path) => createWriteStream(path));
  const rows = targets.map(() => 0);
  const { csv } = contract;
  const parser = parse({
    delimiter: csv.delimiter,
    trim: csv.trim,
    comment: csv.comment ?? '',
    comment_no_infix: true,
    relax_column_count: true,
    skip_empty_lines: true,
    raw: true,
    info: true,
  });
  let subjectColumn = csv.columns && contract.subject !== null ? csv.columns.indexOf(contract.subject) : -1;
  let awaitsHeader = csv.header;

  const distribute = async (records: AsyncIterable<{ record: string[]; raw: string; info: { lines: number } }>) => {
    for await (const { record, raw, info } of records) {
      const line = raw.endsWith('\n') ? raw : `${raw}\n`;
      if (awaitsHeader) {
        awaitsHeader = false;
        if (contract.subject !== null) subjectColumn = record.indexOf(contract.subject);
        for (const output of outputs) await write(output, line);
        continue;
      }
      const subject = subjectColumn >= 0 ? record[subjectColumn] : `line ${info.lines}`;
      const target = assign(fractionOf(subject));
      rows[target]++;
      await write(outputs[target], line);
    }
  };
  const file = createReadStream(source);
  await (source.endsWith('.gz')
    ? pipeline(file, createGunzip(), parser, distribute)
    : pipeline(file, parser, distribute));
  await Promise.all(
    outputs.map(async (output) => {
      output.end();
      await once(output, 'close');
    }),
  );
  return rows;
}

async function write(output: WriteStream, text: string): Promise<void> {
  if (!output.write(text)) await once(output, 'drain');
}

function fractionOf(subject: string): number {
  return createHash('sha256').update(`veilrisk demo split\0${subject}`).digest().readUInt32BE(0) / 2 ** 32;
}

/** Joins CSV files of one form; the header, if there is one, is taken from the first. */
export async function concatenateFiles(sources: readonly string[], target: string, header: boolean): Promise<void> {
  const output = createWriteStream(target);
  for (const [i, source] of sources.entries()) {
    let skip = header && i > 0;
    // Safe: a stream with an encoding yields strings.
    for await (const chunk of createReadStream(source, 'utf8') as AsyncIterable<string>) {
      if (!skip) {
        await write(output, chunk);
        continue;
      }
      const end = chunk.indexOf('\n');
      if (end < 0) continue;
      skip = false;
      await write(output, chunk.slice(end + 1));
    }
  }
  output.end();
  await once(output, 'close');
}
