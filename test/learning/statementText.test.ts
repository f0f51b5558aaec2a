/** Figures of a privacy statement: a loss that is read is never below the loss that is meant. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { privacyStatement } from '../../src/learning/statement.ts';
import { figure, figureUp } from '../../src/learning/statementText.ts';
import { planOf } from './plans.ts';

test('five digits, up, and no further than the next five digits', () => {
  fc.assert(
    fc.property(fc.double({ min: 1e-9, max: 1e9, noNaN: true }), (value) => {
      const shown = Number(figureUp(value));
      expect(shown).toBeGreaterThanOrEqual(value);
      expect(shown).toBeLessThanOrEqual(value * 1.00011);
      expect(figureUp(shown)).toBe(String(shown));
    }),
  );
  expect([0, 1, 0.123451, 123_451].map(figureUp)).toEqual(['0', '1', '0.12346', '123460']);
  expect(figure(0.123451)).toBe('0.12345');
});

test('both losses and mu of a statement are rounded so', () => {
  const { losses, text } = privacyStatement(planOf({ sites: 7, quorum: 5 }));
  const shown = (pattern: RegExp) => Number(text.join('\n').match(pattern)?.[1]);
  expect(shown(/Loss against readers .*: epsilon ([\d.]+)\./)).toBeGreaterThanOrEqual(losses.readers.epsilon);
  expect(shown(/Loss against whoever .*: epsilon ([\d.]+)\./)).toBeGreaterThanOrEqual(losses.aggregator.epsilon);
  expect(shown(/\(([\d.]+)-GDP/)).toBeGreaterThanOrEqual(losses.aggregator.mu);
});
