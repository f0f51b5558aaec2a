import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  binRecord,
  createRowParser,
  type ParsedRow,
  parseContract,
  type RowIssues,
} from '../../src/contract/contract.ts';
import { parseDecimal, parseTime } from '../../src/contract/row.ts';
import { ContractError } from '../../src/errors.ts';
import { exampleDocument } from './example.ts';

const contract = parseContract(exampleDocument());
const header = ['customer', 'when', 'income', 'debt', 'purpose', 'employed', 'default'];
const parse = createRowParser(contract, header);
const good = ['c1', '2025-01-06T09:30:00Z', '60', '999', 'home', 'no', '1'];

function row(result: ParsedRow | RowIssues): ParsedRow {
  if ('issues' in result) throw new RangeError(JSON.stringify(result.issues));
  return result;
}

function issueFields(cells: string[]): string[] {
  const result = parse(cells, 2);
  return 'issues' in result ? result.issues.map((issue) => issue.field) : [];
}

function withCell(column: string, cell: string): string[] {
  return good.map((held, at) => (header[at] === column ? cell : held));
}

describe('a row', () => {
  test('becomes bins, label, customer key and time', () => {
    const parsed = row(parse(good, 2));
    expect([...parsed.bins]).toEqual([2, 2, 1, 0]);
    expect(parsed).toMatchObject({ label: 1, subject: 'c1', clamped: 0, time: new Date('2025-01-06T09:30:00Z') });
  });

  test('has columns in any order, further columns are ignored', () => {
    const mixed = createRowParser(contract, ['extra', ...header.toReversed()]);
    expect([...row(mixed(['?', ...good.toReversed()], 2)).bins]).toEqual([2, 2, 1, 0]);
  });

  test('clamps and counts', () => {
    const counts = [0, 0, 0, 0];
    const counting = createRowParser(contract, header, { onClamped: (k) => counts[k]++ });
    expect(row(counting(withCell('income', '-5'), 2))).toMatchObject({ clamped: 1 });
    expect(counts).toEqual([1, 0, 0, 0]);
  });

  test('empty cells are missing, unknown categories are other', () => {
    expect([...row(parse(['c1', '', '', '', 'boat', '', '0'], 2)).bins]).toEqual([4, 6, 2, 2]);
    expect(row(parse(withCell('when', ''), 2)).time).toBeNull();
  });

  test.each([
    ['0', 0],
    ['1', 1],
    ['true', 1],
    ['FALSE', 0],
    ['Yes', 1],
    ['nO', 0],
  ])('the boolean %s', (cell, bin) => {
    expect(row(parse(withCell('employed', cell), 2)).bins[3]).toBe(bin);
  });
});

describe('an issue for', () => {
  test.each([
    ['income', 'abc'],
    ['income', 'NaN'],
    ['income', 'Infinity'],
    ['income', '1e999'],
    ['income', '0x10'],
    ['income', '1,000'],
    ['employed', '2'],
    ['employed', 'y'],
    ['purpose', 'x'.repeat(257)],
    ['default', ''],
    ['default', '2'],
    ['customer', ''],
    ['customer', 'x'.repeat(257)],
    ['when', 'yesterday'],
    ['when', '2025-01-06'],
    ['when', '2025-02-30T00:00:00Z'],
  ])('%s = %s', (column, cell) => {
    expect(issueFields(withCell(column, cell))).toEqual([column]);
  });

  test('too few and too many cells', () => {
    expect(issueFields(good.slice(1))).toEqual(['(row)']);
    expect(issueFields([...good, ''])).toEqual(['(row)']);
  });
});

describe('a header', () => {
  const code = (columns: string[] | null) => {
    try {
      createRowParser(contract, columns);
    } catch (error) {
      return error instanceof ContractError ? error.code : 'other';
    }
    return 'none';
  };
  test('without a needed column, or with one twice, is refused', () => {
    for (const name of header) expect(code(header.filter((column) => column !== name))).toBe('FILE_HEADER_MISMATCH');
    expect(code([...header, 'income'])).toBe('FILE_HEADER_MISMATCH');
    expect(code(null)).toBe('FILE_HEADER_MISMATCH');
  });

  test('may lack the label where labels are optional', () => {
    const unlabelled = createRowParser(contract, header.slice(0, -1), { labels: 'optional' });
    expect(row(unlabelled(good.slice(0, -1), 2)).label).toBeNull();
  });
});

test('cells and JSON values land in the same bins', () => {
  fc.assert(
    fc.property(
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom('car', 'home', 'boat'),
      fc.boolean(),
      (income, debt, purpose, employed) => {
        const cells = ['c1', '', String(income), String(debt), purpose, String(employed), '0'];
        const record = binRecord(contract, { income, debt, purpose, employed });
        expect([...row(parse(cells, 2)).bins]).toEqual([...record.bins]);
      },
    ),
  );
});

test('a decimal is what Number reads from decimal digits, and nothing else', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (x) => {
      expect(parseDecimal(String(x)) - x).toBe(0);
    }),
  );
  for (const text of ['', ' ', '1 ', '\t1', '-', '+', '.', 'e5', '1e', '0b1', '0o7', '0X1F', '--1', '1_000', '٣']) {
    expect(parseDecimal(text)).toBeNaN();
  }
  expect(['5.', '.5', '+1', '0e5', '007'].map(parseDecimal)).toEqual([5, 0.5, 1, 0, 7]);
});

test('times keep their zone', () => {
  expect(parseTime('2025-01-06T09:30:00+02:00')?.toISOString()).toBe('2025-01-06T07:30:00.000Z');
  expect(parseTime('2024-02-29T23:59:59.5z')?.toISOString()).toBe('2024-02-29T23:59:59.500Z');
  for (const text of ['2023-02-29T00:00:00Z', '2025-13-01T00:00:00Z', '2025-01-06T24:00:01Z', '2025-01-06T09:30:00']) {
    expect(parseTime(text)).toBeNull();
  }
});
