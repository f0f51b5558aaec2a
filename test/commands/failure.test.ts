import { afterEach, expect, jest, test } from '@jest/globals';
import { printFailure } from '../../src/commands/failure.ts';
import { ContractError } from '../../src/errors.ts';

afterEach(() => {
  jest.restoreAllMocks();
  process.exitCode = 0;
});

test('a name in a document of others is shown and not obeyed by the terminal', () => {
  const written: string[] = [];
  jest.spyOn(process.stderr, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  const issues = [{ field: '\u001b]0;owned\u0007', rule: 'is\u009b2J not known' }];
  printFailure(
    new ContractError('CONTRACT_INVALID', 'two\nlines \u001b[31m', { where: 'a\rb', fix: 'x\u007f', issues }),
  );
  expect(written.join('')).toBe(
    'error CONTRACT_INVALID: two\nlines \ufffd[31m\n  where: a\ufffdb\n  - \ufffd]0;owned\ufffd: is\ufffd2J not known\n  fix: x\ufffd\n',
  );
});
