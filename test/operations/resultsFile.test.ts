import { Writable } from 'node:stream';
import { expect, test } from '@jest/globals';
import { formatLine, openStandardOutput } from '../../src/operations/resultsFile.ts';

const scored = { score: 1, probability: 0.5, model: 'ab'.repeat(32) };

test.each(['=1+1', '+1', '-1', '@SUM(A1)', ' =1+1', '\t=1+1'])(
  '%j from a node is no formula in a spreadsheet',
  (text) => {
    const cells = formatLine({ line: 2, issues: [{ field: text, rule: 'is bad' }] }, 'csv').split(',');
    expect(cells[6].startsWith("'")).toBe(true);
    expect(
      formatLine({ line: 2, ...scored, reasons: [text] }, 'csv')
        .split(',')[4]
        .startsWith("'"),
    ).toBe(true);
  },
);

test('control characters of an issue do not reach a terminal or another line', () => {
  const line = formatLine({ line: 2, issues: [{ field: 'a\u001b[2Jb\r\nc', rule: 'is\u009b1m bad' }] }, 'csv');
  expect(line).toBe('2,,,,,,a [2Jb c: is 1m bad\n');
});

test('a reader of standard output that goes away ends the run, and does not hang or crash it', async () => {
  const gone = Object.assign(new Error('write EPIPE'), { code: 'EPIPE', syscall: 'write' });
  const out = new Writable({ highWaterMark: 1, write: (_chunk, _encoding, done) => setImmediate(done, gone) });
  const results = openStandardOutput('csv', out);
  results.write({ line: 2, ...scored });
  await expect(results.ready()).rejects.toMatchObject({ code: 'FILE_UNREADABLE', where: 'standard output' });
  expect(() => results.write({ line: 3, ...scored })).toThrow('EPIPE');
});
