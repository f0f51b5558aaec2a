import { describe, expect, test } from '@jest/globals';
import { asVeilriskError, problemOf } from '../../src/api/problem.ts';
import { problemKind } from '../../src/api/status.ts';
import { ContractError, EncryptionError, RequestError, StoreError } from '../../src/errors.ts';

describe('problem details', () => {
  test('an error of the caller is told in full', () => {
    const error = new ContractError('RECORD_INVALID', 'The record is not valid.', {
      where: 'amount',
      fix: 'Send a number.',
      issues: [{ field: 'amount', rule: 'must be a finite number' }],
    });
    expect(problemOf(error, 'r-1')).toEqual({
      type: 'urn:veilrisk:problem:record-invalid',
      title: 'The transaction does not fit the contract',
      status: 422,
      detail: 'The record is not valid.',
      code: 'RECORD_INVALID',
      instance: 'urn:veilrisk:request:r-1',
      where: 'amount',
      fix: 'Send a number.',
      issues: [{ field: 'amount', rule: 'must be a finite number' }],
    });
  });

  test('an error of the node tells its code and nothing of its text', () => {
    const error = new StoreError('DATABASE_UNAVAILABLE', 'no answer from postgres://veilrisk:hunter2@db:5432', {
      where: '/var/lib/veilrisk',
      fix: 'SELECT 1',
      issues: [{ field: 'secret_table', rule: 'gone' }],
    });
    const problem = problemOf(error, 'r-2');
    expect(problem).toMatchObject({ status: 503, code: 'DATABASE_UNAVAILABLE' });
    expect(JSON.stringify(problem)).not.toMatch(/hunter2|var\/lib|SELECT|secret_table/);
  });

  test('a foreign error becomes INTERNAL without its message', () => {
    const error = asVeilriskError(new TypeError('duplicate key value violates unique constraint (4111)'));
    expect(error.code).toBe('INTERNAL');
    expect(JSON.stringify(problemOf(error, 'r-3'))).not.toMatch(/4111|constraint|stack/);
    expect(asVeilriskError('thrown text').code).toBe('INTERNAL');
    expect(asVeilriskError(null).code).toBe('INTERNAL');
  });

  test('what body-parser throws gets a code', () => {
    expect(asVeilriskError(Object.assign(new RangeError('x'), { status: 413 })).code).toBe('REQUEST_TOO_LARGE');
    expect(asVeilriskError(Object.assign(new RangeError('x'), { status: 415 })).code).toBe('MEDIA_TYPE_UNSUPPORTED');
    expect(asVeilriskError(Object.assign(new RangeError('x'), { status: 400 })).code).toBe('REQUEST_MALFORMED');
    expect(asVeilriskError(Object.assign(new RangeError('x'), { status: 502 })).code).toBe('INTERNAL');
  });

  test('issues are bounded', () => {
    const issues = Array.from({ length: 5_000 }, (_, i) => ({ field: `f${i}`, rule: 'is not a field' }));
    expect(problemOf(new RequestError('TRANSACTION_INVALID', 'x', { issues }), 'r').issues).toHaveLength(100);
  });

  test('a full pool asks to come back, a code from nowhere still gets an answer', () => {
    expect(problemKind(new EncryptionError('POOL_FULL', 'x').code)).toMatchObject({ status: 503, retryAfter: 1 });
    // Safe: the point of the test is a code outside the type.
    expect(problemKind('NOT_A_CODE' as 'INTERNAL').status).toBe(500);
  });
});
