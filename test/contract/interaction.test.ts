import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  binRecord,
  binTitle,
  contractHash,
  createRowParser,
  type InteractionField,
  layoutOf,
  parseContract,
} from '../../src/contract/contract.ts';
import { ContractError } from '../../src/errors.ts';
import { describeFields } from '../../src/operations/contracts.ts';
import { exampleDocument } from './example.ts';

type Document = ReturnType<typeof exampleDocument> & Record<string, unknown>;

/** Interactions before, between and after the fields they are made of. */
function documentWith(...more: Record<string, unknown>[]): Document {
  const document = exampleDocument() as Document;
  const [income, debt, purpose, employed] = document.fields;
  document.fields = [
    interaction('debt_income', ['debt', 'income'], [4, 3]),
    income,
    debt,
    interaction('income_purpose', ['income', 'purpose'], [2, null]),
    purpose,
    employed,
    interaction('employed_purpose', ['employed', 'purpose']),
    ...more,
  ];
  return document;
}

function interaction(name: string, of: unknown, bins?: unknown): Record<string, unknown> {
  const reason = { code: name.toUpperCase(), text: `Both of ${name}` };
  return { kind: 'interaction', name, of, ...(bins === undefined ? {} : { bins }), reason };
}

const contract = parseContract(documentWith());
const header = ['customer', 'when', 'income', 'debt', 'purpose', 'employed', 'default'];

describe('a sound interaction', () => {
  test('has its numbers of groups written out', () => {
    const groups = contract.fields.flatMap((field) => (field.kind === 'interaction' ? [field.bins] : []));
    expect(groups).toEqual([
      [4, 3],
      [2, 3],
      [2, 3],
    ]);
  });

  test('counts every pair of groups and missing in the layout', () => {
    expect(layoutOf(contract)).toEqual({
      sizes: [13, 5, 7, 7, 4, 3, 7],
      offsets: [0, 13, 18, 25, 32, 36, 39],
      total: 46,
    });
  });

  test('is part of the hash; groups written out or left open are the same', () => {
    const hash = contractHash(contract);
    expect(contractHash(parseContract(JSON.parse(JSON.stringify(contract))))).toBe(hash);
    const open = documentWith();
    open.fields[6].bins = [2, null];
    expect(contractHash(parseContract(open))).toBe(hash);
    for (const change of [
      (d: Document) => (d.fields[0].bins = [3, 4]),
      (d: Document) => (d.fields[0].of = ['income', 'debt']),
      (d: Document) => d.fields.splice(0, 1),
    ]) {
      const document = documentWith();
      change(document);
      const other = contractHash(parseContract(document));
      expect(other).not.toBe(hash);
    }
  });

  test('may have 256 pairs of groups', () => {
    const document = documentWith();
    document.fields[1].bins = 16;
    document.fields[2].bins = 16;
    document.fields[0].bins = [16, 16];
    expect(layoutOf(parseContract(document)).sizes[0]).toBe(257);
  });

  test('needs no column where a file has no header', () => {
    const csv = { header: false, columns: header };
    expect(() => parseContract({ ...documentWith(), csv })).not.toThrow();
  });
});

describe('a document is refused', () => {
  const added = (of: unknown, bins?: unknown) => (d: Document) => d.fields.push(interaction('extra', of, bins));
  const cases: [string, (document: Document) => void, string][] = [
    ['one part', added(['debt']), 'fields.7.of'],
    ['three parts', added(['debt', 'employed', 'income']), 'fields.7.of'],
    ['an unknown part', added(['debt', 'absent']), 'fields.7.of.1'],
    ['the label as a part', added(['default', 'debt']), 'fields.7.of.0'],
    ['the customer key as a part', added(['debt', 'customer']), 'fields.7.of.1'],
    ['an interaction as a part', added(['debt_income', 'employed']), 'fields.7.of.0'],
    ['itself as a part', added(['employed', 'extra']), 'fields.7.of.1'],
    ['the same part twice', added(['debt', 'debt']), 'fields.7.of'],
    ['the pair of another interaction', added(['debt', 'income'], [2, 2]), 'fields.7.of'],
    ['the pair of another in the other order', added(['income', 'debt'], [2, 2]), 'fields.7.of'],
    ['one group', added(['debt', 'employed'], [1, null]), 'fields.7.bins.0'],
    ['a fraction of a group', added(['debt', 'employed'], [2.5, null]), 'fields.7.bins.0'],
    ['more groups than value bins', added(['debt', 'employed'], [7, null]), 'fields.7.bins.0'],
    ['grouped categories', added(['debt', 'purpose'], [2, 2]), 'fields.7.bins.1'],
    ['more categories than there are', added(['debt', 'purpose'], [2, 4]), 'fields.7.bins.1'],
    ['three bins of a boolean', added(['employed', 'debt'], [3, 2]), 'fields.7.bins.0'],
    ['three numbers of groups', added(['employed', 'debt'], [2, 2, 2]), 'fields.7.bins'],
    [
      '257 pairs and more',
      (d) => {
        d.fields[1].bins = 20;
        d.fields[2].bins = 20;
        d.fields[0].bins = [13, 20];
      },
      'fields.0.bins',
    ],
    ['a name that is taken', (d) => (d.fields[0].name = 'income'), 'fields.1.name'],
    ['the name of the label', (d) => (d.fields[0].name = 'default'), 'label.name'],
    ['a scale', (d) => (d.fields[0].scale = 'log1p'), 'fields.0'],
    ['no reason', (d) => delete d.fields[0].reason, 'fields.0.reason'],
    [
      'a column of its own without a header',
      (d) => (d.csv = { header: false, columns: [...header, 'debt_income'] }),
      'csv.columns',
    ],
  ];
  test.each(cases)('%s', (_name, change, where) => {
    const document = documentWith();
    change(document);
    let refusal: unknown;
    try {
      parseContract(document);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(ContractError);
    expect((refusal as ContractError).issues.map(({ field }) => field)).toContain(where);
  });
});

test('bins by hand', () => {
  const bins = (record: Record<string, unknown>) => [...binRecord(contract, record).bins];
  // income 60 of 0 to 100: bin 2 of 4, group floor(2 * 3 / 4) = 1 of 3 and 1 of 2; debt 999: bin 2 of 6, group 1 of 4.
  expect(bins({ income: 60, debt: 999, purpose: 'home', employed: false })).toEqual([1 * 3 + 1, 2, 2, 4, 1, 0, 1]);
  expect(bins({ income: 60, purpose: 'boat', employed: true })).toEqual([12, 2, 6, 5, 2, 1, 5]);
  expect(bins({})).toEqual([12, 4, 6, 6, 3, 2, 6]);
});

/** What FORMAT.md says of the bin of an interaction, by a search over groups instead of a table. */
function statedBin(field: InteractionField, binOf: (name: string) => number): number {
  const { sizes } = layoutOf(contract);
  const sizeOf = (name: string) => sizes[contract.fields.findIndex((each) => each.name === name)] - 1;
  const groups = field.of.map((name, side) => {
    const bin = binOf(name);
    const values = sizeOf(name);
    if (bin === values) return null;
    // Group g holds the bins i with g * B <= i * groups < (g + 1) * B.
    const g = Array.from({ length: field.bins[side] }, (_, at) => at);
    return g.find((at) => at * values <= bin * field.bins[side] && bin * field.bins[side] < (at + 1) * values)!;
  });
  const [first, second] = groups;
  return first === null || second === null ? field.bins[0] * field.bins[1] : first * field.bins[1] + second;
}

test('records and rows get the same bins, and interactions the bin that their parts give', () => {
  const parse = createRowParser(contract, header);
  const number = fc.oneof(fc.double({ min: -10, max: 110, noNaN: true }), fc.double({ min: 0, max: 2e6, noNaN: true }));
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
  fc.assert(
    fc.property(
      maybe(number),
      maybe(number),
      maybe(fc.constantFrom('car', 'home', 'boat')),
      maybe(fc.boolean()),
      (income, debt, purpose, employed) => {
        const { bins, clamped } = binRecord(contract, { income, debt, purpose, employed });
        const cells = ['c1', '', ...[income, debt, purpose, employed].map((value) => String(value ?? '')), '0'];
        expect(parse(cells, 2)).toEqual({ bins, label: 0, subject: 'c1', time: null, clamped: clamped.length });
        const binOf = (name: string) => bins[contract.fields.findIndex((each) => each.name === name)];
        for (const field of contract.fields) {
          if (field.kind === 'interaction') expect(binOf(field.name)).toBe(statedBin(field, binOf));
        }
      },
    ),
    { numRuns: 1000 },
  );
});

describe('the name of an interaction', () => {
  test('is refused in a record, whatever its value', () => {
    for (const value of [0, null, 'x']) {
      let issues: unknown;
      try {
        binRecord(contract, { income: 60, debt_income: value });
      } catch (error) {
        if (error instanceof ContractError && error.code === 'RECORD_INVALID') issues = error.issues;
      }
      expect(issues).toEqual([{ field: 'debt_income', rule: 'is derived from other fields and must not be sent' }]);
    }
  });

  test('is refused as a column', () => {
    const code = (columns: string[]) => {
      try {
        createRowParser(contract, columns);
      } catch (error) {
        return error instanceof ContractError ? error.code : 'other';
      }
      return 'none';
    };
    expect(code(header)).toBe('none');
    expect(code([...header, 'extra'])).toBe('none');
    expect(code([...header, ' debt_income'])).toBe('FILE_HEADER_MISMATCH');
  });
});

describe('titles', () => {
  test('name both parts, and every bin differs', () => {
    for (const [k, size] of layoutOf(contract).sizes.entries()) {
      const titles = Array.from({ length: size }, (_, bin) => binTitle(contract, contract.fields[k], bin));
      expect(new Set(titles).size).toBe(size);
      expect(titles.at(-1)).toBe('missing');
    }
    const title = (k: number, bin: number) => binTitle(contract, contract.fields[k], bin);
    // Value bins 0 and 1 of income are group 0 of 3 (floor(1 * 3 / 4) = 0), bin 2 is group 1, bin 3 group 2.
    expect(title(0, 0)).toMatch(/^debt 0 to below 99(\.\d+)? and income 0 to below 50$/);
    expect(title(0, 11)).toMatch(/^debt 99999\.1 to 1000000 and income 75 to 100$/);
    expect(title(3, 3)).toBe('income 50 to 100 and purpose car');
    expect(title(6, 5)).toBe('employed true and purpose other');
    expect(describeFields(contract)[0]).toMatchObject({ name: 'debt_income', kind: 'interaction', bins: 13 });
  });

  test('of numeric groups tell exactly the values that land there', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 100, noNaN: true }),
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        (income, debt) => {
          const bin = binRecord(contract, { income, debt }).bins[0];
          const text = binTitle(contract, contract.fields[0], bin);
          const ranges = /^debt (\S+) to (?:below )?(\S+) and income (\S+) to (?:below )?(\S+)$/.exec(text);
          const [a, b, c, d] = ranges!.slice(1).map(Number);
          // Titles show six significant digits.
          expect(debt >= a * (1 - 1e-5) && debt <= b * (1 + 1e-5)).toBe(true);
          expect(income >= c && income <= d).toBe(true);
        },
      ),
    );
  });
});
