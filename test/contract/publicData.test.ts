/** The real data sets parse through their published contracts without a rejected row. Skipped where they are absent. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parseContract } from '../../src/contract/contract.ts';
import { readRows } from '../../src/operations/readRows.ts';

const data = join(import.meta.dirname, '../../../shared/data');
const present = existsSync(data);
if (!present) process.stderr.write(`skipped: the public data sets are not at ${data}\n`);

// Rows and share of positive labels as the README of the data states them.
const SETS: [contract: string, file: string, rows: number, positive: number][] = [
  ['adult', 'adult/adult.data.gz', 32_561, 0.241],
  ['adult', 'adult/adult.test.gz', 16_281, 0.236],
  ['telco', 'telco/telco.csv.gz', 7_043, 0.265],
  ['taiwan', 'taiwan/taiwan.csv.gz', 30_000, 0.221],
  ['ulb', 'ulb/creditcard_uniform_sample.csv.gz', 33_826, 0.0146],
];

(present ? describe : describe.skip)('public data', () => {
  test.each(SETS)('%s: %s', async (name, file, rows, positive) => {
    const contract = parseContract(
      JSON.parse(readFileSync(join(import.meta.dirname, '../../contracts', `${name}.json`), 'utf8')),
    );
    const other = contract.fields.map((field) => (field.kind === 'categorical' ? field.categories.length : -1));
    let accepted = 0;
    let rejected = 0;
    let labelled = 0;
    let unknown = 0;
    let blankTotal = 0;
    const subjects = new Set<string>();
    for await (const row of readRows(contract, join(data, file))) {
      if ('issues' in row) {
        rejected++;
        continue;
      }
      accepted++;
      labelled += row.label ?? 0;
      if (row.subject !== null) subjects.add(row.subject);
      row.bins.forEach((bin, k) => {
        if (bin === other[k]) unknown++;
      });
      if (name === 'telco' && row.bins.at(-1) === 32) blankTotal++;
    }
    expect({ accepted, rejected, unknown }).toEqual({ accepted: rows, rejected: 0, unknown: 0 });
    expect(Math.abs(labelled / accepted - positive)).toBeLessThan(6e-4);
    if (contract.subject !== null) expect(subjects.size).toBe(rows);
    if (name === 'telco') expect(blankTotal).toBe(11);
  });
});
