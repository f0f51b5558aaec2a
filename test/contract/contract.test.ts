import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { binRecord, contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { contractJsonSchema } from '../../src/contract/schema.ts';
import { ContractError } from '../../src/errors.ts';
import { exampleDocument } from './example.ts';

const root = join(import.meta.dirname, '..', '..');
const published = readdirSync(join(root, 'contracts')).filter((file) => !file.endsWith('.schema.json'));

type Document = ReturnType<typeof exampleDocument> & Record<string, unknown>;

function issuesOf(change: (document: Document) => void): string[] {
  const document = exampleDocument() as Document;
  change(document);
  try {
    parseContract(document);
  } catch (error) {
    if (!(error instanceof ContractError)) throw error;
    expect(error.code).toBe('CONTRACT_INVALID');
    return error.issues.map((issue) => issue.field);
  }
  return [];
}

describe('a sound document', () => {
  test('has its defaults written out', () => {
    const contract = parseContract({ ...exampleDocument(), subject: undefined });
    expect(contract).toMatchObject({ synthetic: false, subject: null, maxRecordsPerSubject: 1 });
    expect(contract.csv).toEqual({ header: true, delimiter: ',', comment: null, trim: true, missing: [''] });
    expect(contract.fields[0]).toMatchObject({ scale: 'linear', bins: 4 });
  });

  test('gets 32 bins when it names neither bins nor edges, and none when it names edges', () => {
    const document = exampleDocument();
    delete document.fields[0].bins;
    expect(parseContract(document).fields[0]).toMatchObject({ bins: 32 });
    document.fields[0].edges = [10, 20];
    expect(parseContract(document).fields[0]).not.toHaveProperty('bins');
  });
});

describe('a document is refused', () => {
  const cases: [string, (document: Document) => void, string][] = [
    ['another format', (d) => (d.format = 'veilrisk-contract/2'), 'format'],
    ['an unknown key', (d) => (d.extra = 1), '(document)'],
    ['an unknown key of a field', (d) => (d.fields[0].note = 'x'), 'fields.0'],
    ['an unknown kind', (d) => (d.fields[0].kind = 'text'), 'fields.0.kind'],
    ['no fields', (d) => (d.fields = []), 'fields'],
    ['min equal to max', (d) => (d.fields[0].max = 0), 'fields.0.max'],
    ['min above max', (d) => (d.fields[0].min = 101), 'fields.0.max'],
    ['a bound that is no number', (d) => (d.fields[0].min = Number.NaN), 'fields.0.min'],
    ['an infinite bound', (d) => (d.fields[0].max = Number.POSITIVE_INFINITY), 'fields.0.max'],
    ['bounds whose distance overflows', (d) => Object.assign(d.fields[0], { min: -1e308, max: 1e308 }), 'fields.0.max'],
    ['one bin', (d) => (d.fields[0].bins = 1), 'fields.0.bins'],
    ['a fraction of a bin', (d) => (d.fields[0].bins = 2.5), 'fields.0.bins'],
    ['too many bins for the bounds', (d) => Object.assign(d.fields[0], { min: 1e16, max: 1e16 + 4 }), 'fields.0.bins'],
    ['bins and edges', (d) => (d.fields[0].edges = [1, 2]), 'fields.0.edges'],
    ['descending edges', (d) => Object.assign(d.fields[0], { bins: undefined, edges: [2, 1] }), 'fields.0.edges'],
    ['equal edges', (d) => Object.assign(d.fields[0], { bins: undefined, edges: [2, 2] }), 'fields.0.edges'],
    ['an edge on a bound', (d) => Object.assign(d.fields[0], { bins: undefined, edges: [0, 2] }), 'fields.0.edges'],
    ['an edge outside', (d) => Object.assign(d.fields[0], { bins: undefined, edges: [2, 200] }), 'fields.0.edges'],
    ['a repeated name', (d) => (d.fields[1].name = 'income'), 'fields.1.name'],
    ['a reserved name', (d) => (d.fields[1].name = '__proto__'), 'fields.1.name'],
    ['a name with a line break', (d) => (d.fields[1].name = 'a\nb'), 'fields.1.name'],
    ['a lone surrogate', (d) => (d.fields[1].name = 'a\ud800'), 'fields.1.name'],
    ['a repeated category', (d) => (d.fields[2].categories = ['a', 'a']), 'fields.2.categories'],
    ['an empty category', (d) => (d.fields[2].categories = ['']), 'fields.2.categories.0'],
    ['a category that means missing', (d) => (d.csv = { missing: ['car'] }), 'fields.2.categories'],
    ['a label that is a field', (d) => (d.label.name = 'income'), 'label.name'],
    ['a subject that is a field', (d) => (d.subject = 'debt'), 'subject'],
    ['a time that is the subject', (d) => (d.time = 'customer'), 'time'],
    ['label values on both sides', (d) => (d.label.negative = ['0', '1']), 'label'],
    ['no positive value', (d) => (d.label.positive = []), 'label.positive'],
    ['zero records per subject', (d) => (d.maxRecordsPerSubject = 0), 'maxRecordsPerSubject'],
    ['no columns without a header', (d) => (d.csv = { header: false }), 'csv.columns'],
    ['columns beside a header', (d) => (d.csv = { columns: ['a'] }), 'csv.columns'],
    ['incomplete columns', (d) => (d.csv = { header: false, columns: ['income'] }), 'csv.columns'],
    ['a quote as delimiter', (d) => (d.csv = { delimiter: '"' }), 'csv.delimiter'],
    ['comment equal to delimiter', (d) => (d.csv = { comment: ',' }), 'csv.comment'],
    ['a reason code in lower case', (d) => (d.fields[0].reason = { code: 'x', text: 'x' }), 'fields.0.reason.code'],
  ];
  test.each(cases)('%s', (_name, change, where) => {
    expect(issuesOf(change)).toContain(where);
  });

  test.each([[null], [1], ['x'], [[]], [{}]])('%j instead of a document', (json) => {
    expect(() => parseContract(json)).toThrow(ContractError);
  });

  test('whatever JSON it is: a contract or CONTRACT_INVALID, nothing else', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...Object.keys(exampleDocument())), (value, key) => {
        try {
          parseContract({ ...exampleDocument(), [key]: value });
        } catch (error) {
          expect(error).toBeInstanceOf(ContractError);
        }
      }),
    );
  });
});

function shuffled(value: unknown, random: () => number): unknown {
  if (Array.isArray(value)) return value.map((held) => shuffled(held, random));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, held]) => [key, shuffled(held, random)] as const);
  return Object.fromEntries(
    entries
      .map((entry) => ({ entry, rank: random() }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ entry }) => entry),
  );
}

describe('hash', () => {
  const hash = contractHash(parseContract(exampleDocument()));

  test('is SHA-256 over RFC 8785: a golden of Python json (sorted keys) and hashlib', () => {
    expect(hash).toBe('ee215bc82b919025a22ff2d837fd98cbdf942ce978125892cd3c0485510c6312');
  });

  test('does not depend on the order of keys', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 100, maxLength: 100 }), (ranks) => {
        let next = 0;
        const document = shuffled(exampleDocument(), () => ranks[next++ % ranks.length]);
        expect(contractHash(parseContract(document))).toBe(hash);
      }),
    );
  });

  test('does not depend on whether a default is written out', () => {
    const parsed = parseContract(exampleDocument());
    expect(contractHash(parseContract(JSON.parse(JSON.stringify(parsed))))).toBe(hash);
  });

  test('changes with every meaning', () => {
    for (const change of [
      (d: Document) => (d.version = 2),
      (d: Document) => (d.fields[0].max = 101),
      (d: Document) => (d.fields = [...d.fields].reverse()),
      (d: Document) => (d.subject = null),
    ]) {
      const document = exampleDocument() as Document;
      change(document);
      expect(contractHash(parseContract(document))).not.toBe(hash);
    }
  });
});

describe('published contracts', () => {
  test.each(published)('%s is sound, named after its file, and every reason code is its own', (file) => {
    const contract = parseContract(JSON.parse(readFileSync(join(root, 'contracts', file), 'utf8')));
    expect(`${contract.name}.json`).toBe(file);
    expect(new Set(contract.fields.map((field) => field.reason.code)).size).toBe(contract.fields.length);
    expect(contract.synthetic).toBe(contract.name === 'demo-transactions');
  });

  test('one-hot sizes of the public sets', () => {
    const total = (name: string) =>
      layoutOf(parseContract(JSON.parse(readFileSync(join(root, 'contracts', `${name}.json`), 'utf8')))).total;
    // Adult: five numeric fields of 33 and one of 17, categories 8, 16, 7, 14, 6, 5, 2, 41 with two each besides.
    expect(total('adult')).toBe(5 * 33 + 17 + (8 + 16 + 7 + 14 + 6 + 5 + 2 + 41) + 8 * 2);
    // ULB: 29 numeric fields of 33.
    expect(total('ulb')).toBe(29 * 33);
  });

  test('the JSON Schema is the one of the code', () => {
    const file = JSON.parse(readFileSync(join(root, 'contracts', 'contract.schema.json'), 'utf8'));
    expect(file).toEqual(JSON.parse(JSON.stringify(contractJsonSchema())));
  });

  test('the example of FORMAT.md parses and has the hash and bins it claims', () => {
    const text = readFileSync(join(root, 'src', 'contract', 'FORMAT.md'), 'utf8');
    const contract = parseContract(JSON.parse(/```json\n([\s\S]*?)```/.exec(text)![1]));
    expect(text).toContain(`Hash: \`${contractHash(contract)}\``);
    expect(layoutOf(contract).total).toBe(24);
    expect([...binRecord(contract, { income: 0, age: 25, purpose: 'boat' }).bins]).toEqual([0, 1, 2, 2, 2]);
  });
});
