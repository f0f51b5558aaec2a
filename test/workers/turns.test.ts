/** Turns at the threads: round robin over callers, leaving the queue, and callers whose jobs cost threads. */
import { describe, expect, test } from '@jest/globals';
import { openTurns, type Turns } from '../../src/workers/turns.ts';

/** Jobs that end when told, and the order in which they started. */
function jobsOf(turns: Turns) {
  const started: string[] = [];
  const ends = new Map<string, { done: () => void; fail: (error: Error) => void }>();
  return {
    started,
    async end(name: string, error?: Error) {
      const { done, fail } = ends.get(name)!;
      if (error === undefined) done();
      else fail(error);
      await settled();
    },
    run: (name: string, waiting = new AbortController().signal) => {
      const outcome = turns.run(name[0], waiting, () => {
        started.push(name);
        return new Promise<void>((done, fail) => ends.set(name, { done, fail }));
      });
      return outcome.then(
        () => 'done',
        (error: Error) => error.message,
      );
    },
  };
}

const settled = () => new Promise((later) => setImmediate(later));

describe('callers take turns', () => {
  test('so that a long queue of one does not stand before the one job of another', async () => {
    const { started, run, end } = jobsOf(openTurns(1));
    for (const name of ['a1', 'a2', 'a3', 'a4', 'b1', 'c1', 'b2']) run(name);
    await settled();
    for (let i = 0; i < 7; i++) await end(started[i]);
    expect(started).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  });

  test('and no more run than there are slots', async () => {
    const { started, run, end } = jobsOf(openTurns(2));
    for (const name of ['a1', 'a2', 'a3']) run(name);
    await settled();
    expect(started).toEqual(['a1', 'a2']);
    await end('a2');
    expect(started).toEqual(['a1', 'a2', 'a3']);
  });
});

test('a job whose caller is gone leaves the queue and is never started; one that has started goes on', async () => {
  const { started, run, end } = jobsOf(openTurns(1));
  const [working, waiting] = [new AbortController(), new AbortController()];
  const first = run('a1', working.signal);
  const second = run('b1', waiting.signal);
  const third = run('c1');
  await settled();
  working.abort(new Error('gone'));
  waiting.abort(new Error('gone'));
  expect(await second).toBe('gone');
  expect(await run('d1', waiting.signal)).toBe('gone');
  await end('a1');
  expect(await first).toBe('done');
  await end('c1');
  expect(await third).toBe('done');
  expect(started).toEqual(['a1', 'c1']);
});

test('a caller whose job cost its thread has one thread until a job of it succeeds', async () => {
  const { started, run, end } = jobsOf(openTurns(3));
  for (const name of ['a1', 'a2', 'a3', 'a4', 'a5', 'a6']) run(name);
  await settled();
  for (const name of ['a1', 'a2', 'a3']) await end(name, new Error('hung'));
  expect(started).toEqual(['a1', 'a2', 'a3', 'a4']);
  run('b1');
  run('b2');
  await settled();
  expect(started.slice(4)).toEqual(['b1', 'b2']);
  await end('b1');
  expect(started.length).toBe(6);
  await end('a4');
  expect(started.slice(6)).toEqual(['a5', 'a6']);
});
