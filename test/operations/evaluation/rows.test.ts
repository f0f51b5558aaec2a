/** A file as bins in shared memory: what is kept, what is refused, and what is doubted. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseContract } from '../../../src/contract/contract.ts';
import { loadRows } from '../../../src/operations/evaluation/rows.ts';
import { COLUMNS, csvOf, madeContract, madeRows } from './made.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-test-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function load(text: string, wishes: Record<string, unknown> = {}, maxRejected = 0) {
  const path = join(folder, 'rows.csv');
  await writeFile(path, text);
  const rows = await loadRows(parseContract(madeContract(wishes)), path, {
    maxRejected,
    signal: new AbortController().signal,
  });
  // Safe: the signal is never raised.
  return rows!;
}

/** The made rows with one cell replaced. */
function broken(at: number, column: string, cell: string, count = 100): string[][] {
  return madeRows(count, 40).map((cells, row) =>
    row === at ? cells.map((old, i) => (COLUMNS[i] === column ? cell : old)) : cells,
  );
}

describe('loadRows', () => {
  test('numbers customers in the order in which they appear, and counts labels and clamped cells', async () => {
    const cells = madeRows(100, 40);
    const { data, customers, customerCount, positives, rejected, clamped, doubts } = await load(csvOf(cells));
    expect(customerCount).toBe(40);
    expect([...customers.subarray(0, 41)]).toEqual([...Array.from({ length: 40 }, (_, i) => i), 0]);
    expect(positives).toBe(cells.filter((row) => row[5] !== '0').length);
    expect(data.labels.reduce((sum, label) => sum + label, 0)).toBe(positives);
    expect(rejected).toBe(0);
    const outside = (column: number, most: number) => cells.filter((row) => Number(row[column]) > most).length;
    expect(clamped).toBe(outside(1, 100_000) + outside(2, 90));
    expect(doubts).toEqual([]);
    for (const view of [data.bins, data.labels, customers]) expect(view.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  test('without a customer key every row is a customer', async () => {
    const { customers, customerCount } = await load(csvOf(madeRows(60, 7)), { subject: null });
    expect(customerCount).toBe(60);
    expect([...customers]).toEqual(Array.from({ length: 60 }, (_, row) => row));
  });

  test('more rows than one piece holds stay in order', async () => {
    const count = 66_000;
    const { data, customers } = await load(csvOf(madeRows(count, count)));
    expect(data.rows).toBe(count);
    expect(customers.every((customer, row) => customer === row)).toBe(true);
    const few = await load(csvOf(madeRows(count, count).slice(65_500)));
    expect(data.bins.subarray(65_500 * 4)).toEqual(few.data.bins);
    expect(data.labels.subarray(65_500)).toEqual(few.data.labels);
  });

  test('reads a byte-order mark, CRLF, quotes and another delimiter', async () => {
    const plain = await load(csvOf(madeRows(80, 20)));
    const same = async (text: string, wishes: Record<string, unknown> = {}) => {
      const { data, customers } = await load(text, wishes);
      expect(data.bins).toEqual(plain.data.bins);
      expect(data.labels).toEqual(plain.data.labels);
      expect(customers).toEqual(plain.customers);
    };
    const text = csvOf(madeRows(80, 20));
    await same(`\ufeff${text}`);
    await same(text.replaceAll('\n', '\r\n'));
    await same(text.replaceAll('car', '" car "'));
    const semicolons = csvOf(
      madeRows(80, 20).map((row) => [row.join(';')]),
      [COLUMNS.join(';')],
    );
    await same(semicolons, { csv: { delimiter: ';' } });
  });

  test.each([
    ['default', 'perhaps', 'line 12, default', 'must be one of the label values of the contract'],
    ['income', 'secret', 'line 12, income', 'must be a finite decimal number'],
    ['customer', '', 'line 12, customer', 'must be a customer key of 1 to 256 characters'],
    ['employed', 'maybe', 'line 12, employed', 'must be one of 0, 1, true, false, yes, no'],
  ])('refuses a wrong %s, naming line, field and rule and no cell', async (column, cell, field, rule) => {
    const failure = load(csvOf(broken(10, column, cell)));
    await expect(failure).rejects.toMatchObject({ code: 'FILE_REJECTED', issues: [{ field, rule }] });
    await expect(failure).rejects.toThrow('1 of 100 rows do not fit the contract');
  });

  test('leaves wrong rows out up to the share it is given', async () => {
    const text = csvOf(broken(10, 'income', 'secret'));
    expect(await load(text, {}, 0.01)).toMatchObject({ rejected: 1, data: { rows: 99 } });
    await expect(load(text, {}, 0.009)).rejects.toMatchObject({ code: 'FILE_REJECTED' });
  });

  test('refuses a missing column, too few rows, and a single label', async () => {
    const rows = madeRows(100, 40);
    const narrow = csvOf(
      rows.map((row) => row.slice(0, 5)),
      COLUMNS.slice(0, 5),
    );
    await expect(load(narrow)).rejects.toMatchObject({
      code: 'FILE_HEADER_MISMATCH',
      where: join(folder, 'rows.csv'),
      issues: [{ field: 'default', rule: 'column is absent' }],
    });
    await expect(load(csvOf(rows.slice(0, 49)))).rejects.toThrow('49 rows that fit, and 50 are needed');
    const negative = rows.map((row) => row.map((cell, i) => (i === 5 ? '0' : cell)));
    await expect(load(csvOf(negative))).rejects.toThrow('Every row has the negative label');
  });

  test('doubts a contract that most cells do not fit', async () => {
    const rows = madeRows(100, 40).map((row) => ['', '', '150', 'BOAT', '', '', ''].map((cell, i) => cell || row[i]));
    expect((await load(csvOf(rows))).doubts).toEqual([
      'age: 100 % of the cells are outside the bounds of the contract',
      'purpose: 100 % of the cells are in no category of the contract',
    ]);
  });

  test('says of the parts of an interaction what is missing, not of the interaction again', async () => {
    const pair = { kind: 'interaction', name: 'pair', of: ['income', 'age'], bins: [4, 2] };
    const { fields } = madeContract() as { fields: unknown[] };
    const wishes = { fields: [...fields, { ...pair, reason: { code: 'PAIR', text: 'A made-up pair' } }] };
    const rows = madeRows(100, 40).map((cells) => cells.map((cell, i) => (COLUMNS[i] === 'income' ? '' : cell)));
    const { data, doubts } = await load(csvOf(rows), wishes);
    expect(data.sizes.at(-1)).toBe(9);
    expect(doubts).toEqual(['income: 100 % of the cells are missing']);
  });

  test('ends when it is told to', async () => {
    const path = join(folder, 'stopped.csv');
    await writeFile(path, csvOf(madeRows(100, 40)));
    const stop = new AbortController();
    stop.abort();
    const contract = parseContract(madeContract());
    expect(await loadRows(contract, path, { maxRejected: 0, signal: stop.signal })).toBeNull();
  });
});
