import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { binRecord, parseContract } from '../../src/contract/contract.ts';
import { ContractError } from '../../src/errors.ts';
import { exampleDocument } from './example.ts';

const contract = parseContract(exampleDocument());

function refusal(record: unknown): ContractError {
  try {
    binRecord(contract, record as Record<string, unknown>);
  } catch (error) {
    if (error instanceof ContractError && error.code === 'RECORD_INVALID') return error;
    throw error;
  }
  throw new RangeError('the record was accepted');
}

describe('a record', () => {
  test('is binned field by field, clamped values are named', () => {
    const { bins, clamped } = binRecord(contract, { income: 250, debt: -1, purpose: 'boat', employed: true });
    expect([...bins]).toEqual([3, 0, 2, 1]);
    expect(clamped).toEqual(['income', 'debt']);
  });

  test('null and absence are missing; the bounds themselves are not clamped', () => {
    expect([...binRecord(contract, { income: null, debt: undefined }).bins]).toEqual([4, 6, 3, 2]);
    expect(binRecord(contract, { income: 100, debt: 0 }).clamped).toEqual([]);
  });

  test('inherited properties do not count', () => {
    const record = Object.create({ income: 60 });
    expect(binRecord(contract, record).bins[0]).toBe(4);
  });
});

describe('refused', () => {
  test.each([
    ['a number as text', { income: '60' }, 'income'],
    ['NaN', { income: Number.NaN }, 'income'],
    ['an infinity', { income: Number.NEGATIVE_INFINITY }, 'income'],
    ['a number as category', { purpose: 1 }, 'purpose'],
    ['an object as category', { purpose: { toString: () => 'car' } }, 'purpose'],
    ['a category of 257 characters', { purpose: 'x'.repeat(257) }, 'purpose'],
    ['a number as boolean', { employed: 1 }, 'employed'],
    ['text as boolean', { employed: 'true' }, 'employed'],
    ['an unknown field', { incomes: 1 }, 'incomes'],
    ['the label', { default: 1 }, 'default'],
    ['the customer key', { customer: 'c1' }, 'customer'],
    ['__proto__', JSON.parse('{"__proto__": {"income": 1}}'), '__proto__'],
    ['constructor', { constructor: 1 }, 'constructor'],
    ['an array', [1], '(record)'],
    ['null', null, '(record)'],
    ['text', 'x', '(record)'],
  ])('%s', (_name, record, field) => {
    expect(refusal(record).issues.map((issue) => issue.field)).toContain(field);
  });

  test('every wrong field is named at once', () => {
    const fields = refusal({ income: 'x', purpose: 1, employed: 2, extra: 3 }).issues.map((issue) => issue.field);
    expect(fields.sort()).toEqual(['employed', 'extra', 'income', 'purpose']);
  });

  test('a thousand unknown fields make twenty issues', () => {
    const record = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`f${i}`, i]));
    expect(refusal(record).issues).toHaveLength(20);
  });

  test('no value and no strange name is repeated', () => {
    const secret = '4111 1111 1111 1111';
    const error = refusal({ [secret]: 1, income: secret, purpose: secret.repeat(20), employed: secret });
    expect(JSON.stringify([error.message, error.where, error.fix, error.issues])).not.toContain('4111');
  });
});

test('any JSON value: bins within the layout, or RECORD_INVALID', () => {
  const sizes = [5, 7, 4, 3];
  const value = fc.oneof(fc.jsonValue(), fc.double(), fc.constantFrom('car', true, null));
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom('income', 'debt', 'purpose', 'employed'), value), (record) => {
      try {
        const { bins } = binRecord(contract, record);
        bins.forEach((bin, k) => {
          expect(bin).toBeLessThan(sizes[k]);
        });
      } catch (error) {
        expect(error).toBeInstanceOf(ContractError);
      }
    }),
  );
});
