/** The bell of the task streams: no ring is missed, and nothing is kept of waits that are over. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from '@jest/globals';
import { Listeners } from '../../federated/aggregator/desk.ts';

const { signal } = new AbortController();

test('a ring while a stream looks for work, or waits for it, is heard once', async () => {
  const listeners = new Listeners();
  const ear = listeners.enter();
  ear.listen();
  listeners.ring();
  expect(await ear.rungWithin(60_000, signal)).toBe(true);
  ear.listen();
  const waiting = ear.rungWithin(60_000, signal);
  listeners.ring();
  expect(await waiting).toBe(true);
  ear.listen();
  expect(await ear.rungWithin(1, signal)).toBe(false);
  listeners.leave(ear);
  listeners.ring();
  expect(await ear.rungWithin(1, signal)).toBe(false);
});

test('a stream that ends does not wait any longer', async () => {
  const ending = new AbortController();
  const ear = new Listeners().enter();
  const waiting = ear.rungWithin(60_000, ending.signal);
  ending.abort();
  expect(await waiting).toBe(false);
  expect(await ear.rungWithin(60_000, ending.signal)).toBe(false);
});

test('an idle day costs no memory', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const listeners = new Listeners();
  const ears = Array.from({ length: 1_000 }, () => listeners.enter());
  const wait = () => Promise.all(ears.map((ear) => ear.rungWithin(0, signal)));
  await wait();
  collect();
  const before = process.memoryUsage().heapUsed;
  // As many waits as 20 streams have in three hours.
  for (let times = 0; times < 40; times++) await wait();
  collect();
  // 350 bytes a wait, which is what a promise that never settles keeps, would be 14 MB.
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(4_000_000);
}, 60_000);
