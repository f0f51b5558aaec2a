/**
 * One reader over synchronous and asynchronous sources, which lets go of them as `for await` does.
 *
 * Limit: a generator answers `return()` only after the `next()` it still works on, which may be never; then the reader
 * tells it and does not wait.
 */
import type { Transaction } from './encryptedScoring.ts';

export type Source = AsyncIterable<Transaction> | Iterable<Transaction>;

export interface SourceReader {
  /** A promise only where the source gives one, so that an array costs no turns. @throws what the source throws */
  next(): Promise<IteratorResult<Transaction>> | IteratorResult<Transaction>;
  /** Tells the source that no more is wanted, unless it is at its end. */
  release(): Promise<void>;
}

export function openReader(source: Source): SourceReader {
  const iterator: AsyncIterator<Transaction> | Iterator<Transaction> =
    Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let over = false;
  let asking = false;
  const seen = (step: IteratorResult<Transaction>) => {
    asking = false;
    over ||= step.done === true;
    return step;
  };
  const failed = (error: unknown): never => {
    over = true;
    throw error;
  };
  return {
    next() {
      asking = true;
      let step: ReturnType<typeof iterator.next>;
      try {
        step = iterator.next();
      } catch (error) {
        return failed(error);
      }
      return 'then' in step ? Promise.resolve(step).then(seen, failed) : seen(step);
    },
    async release() {
      if (over) return;
      over = true;
      const returned = Promise.resolve(iterator.return?.());
      if (asking) returned.catch(() => {});
      else await returned;
    },
  };
}
