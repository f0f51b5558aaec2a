/** The demo's table: losses are rounded against the bank that reads them. */
import { PassThrough } from 'node:stream';
import { expect, test } from '@jest/globals';
import { openDemoView } from '../../../src/operations/demo/view.ts';

test('losses are printed rounded up', () => {
  let text = '';
  const out = new PassThrough().on('data', (chunk: Buffer) => {
    text += chunk;
  });
  // Safe: the view writes to it and asks whether it is a terminal, nothing else.
  openDemoView(out as unknown as NodeJS.WriteStream).table({
    ...{ seconds: 1, epsilon: 1, delta: 1e-6, rounds: 30, banks: [], aucFederated: 0.9, aucPooledNonPrivate: 0.91 },
    losses: { aggregator: 0.99999951, readers: 0.6121 },
    encrypted: { rowMaxLogitError: 1e-4, columnMaxLogitError: 1e-4, streamed: 4096, streamedPerSecond: 3500.4 },
    latencyMs: { scoreP50: 1, scoreEncryptedRowP50: 30 },
    audit: { verified: 7, entries: 7 },
  });
  expect(text).toMatch(/aggregator and banks +│ epsilon 1\.000 at delta/);
  expect(text).toMatch(/readers of the model +│ epsilon 0\.613 at delta/);
});
