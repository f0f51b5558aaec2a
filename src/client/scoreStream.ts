/**
 * Encrypted scoring of a source of any length: gathered to full requests, some of them under way at once, results in
 * the source's order.
 *
 * Two loops with a bounded lane between them: one reads the source and starts batches, the other hands out results.
 * Memory: the batch that is gathered, `inFlight` batches under way or waiting for a reader, and the results of one.
 * Back-pressure: no batch starts and nothing is read beyond these while the reader takes nothing.
 * Limit: an iterator that never answers cannot be stopped; it is told to return and left behind.
 */
import { ContractError } from '../errors.ts';
import type { Progress, StreamOptions } from './client.ts';
import {
  codeEntry,
  type Entry,
  planOf,
  type RawScore,
  type Scoring,
  scoreBatch,
  type Transaction,
} from './encryptedScoring.ts';
import { invalid } from './options.ts';
import { cancelled, nextTurn, pause, throwIfCancelled, unlessCancelled } from './waiting.ts';

export type Source = AsyncIterable<Transaction> | Iterable<Transaction>;

type Common = Omit<Scoring, 'call' | 'inTurn' | 'layout'>;

const DEFAULT_IN_FLIGHT = 2;
const MOST_IN_FLIGHT = 16;

/**
 * @param expected transactions that the source is known to have; a full column when it is not
 * @throws ClientError, EncryptionError, ContractError, and what the source throws; each after all results before it
 */
export async function* streamLogits(
  common: Common,
  source: Source,
  options: StreamOptions,
  expected = Number.POSITIVE_INFINITY,
): AsyncGenerator<RawScore, undefined, undefined> {
  const {
    inFlight = DEFAULT_IN_FLIGHT,
    batch: largest = Number.POSITIVE_INFINITY,
    lingerMs,
    onInvalid = 'stop',
  } = options;
  if (!Number.isInteger(inFlight) || inFlight < 1 || inFlight > MOST_IN_FLIGHT) {
    throw invalid('inFlight', `a whole number from 1 to ${MOST_IN_FLIGHT}`);
  }
  if (largest !== Number.POSITIVE_INFINITY && (!Number.isInteger(largest) || largest < 1)) {
    throw invalid('batch', 'a whole number from 1');
  }
  if (lingerMs !== undefined && !(lingerMs >= 0 && lingerMs < 2 ** 31)) throw invalid('lingerMs', 'milliseconds');
  throwIfCancelled(options.signal);

  // Ends with the caller's signal, or with this generator.
  const own = new AbortController();
  const stop = () => own.abort(options.signal?.reason);
  options.signal?.addEventListener('abort', stop, { once: true });
  const { signal } = own;
  const progress: Progress = { scored: 0, invalid: 0, requests: 0, retries: 0, bytesUp: 0, bytesDown: 0 };
  const report = () => options.onProgress?.({ ...progress });
  const scoring: Scoring = {
    ...common,
    layout: options.layout,
    call: { signal, traffic: progress, onRetry: report },
    inTurn: oneAtATime(),
  };

  async function run(entries: readonly Entry[]): Promise<RawScore[]> {
    const outcomes = await scoreBatch(scoring, entries, onInvalid === 'stop');
    for (const outcome of outcomes) {
      if ('refused' in outcome) progress.invalid++;
      else progress.scored++;
    }
    report();
    return outcomes;
  }

  const lane = openLane<{ outcomes: Promise<RawScore[]> }>(inFlight, signal);
  const reader = openReader(source);

  /** Transactions that are gathered before they are sent. */
  async function goal(): Promise<number> {
    const key = await unlessCancelled(common.secretKey(), signal);
    const model = await common.champion.current(signal);
    return Math.min(largest, planOf(key, model, expected, options.layout).most);
  }

  async function start(entries: readonly Entry[]): Promise<void> {
    await lane.room();
    const running = run(entries);
    // Its failure is read when its turn comes, or never.
    running.catch(() => {});
    lane.put({ outcomes: running });
  }

  async function feed(): Promise<void> {
    let gathered: Entry[] = [];
    let valid = 0;
    let most = await goal();
    let since = 0;
    const flush = async () => {
      const entries = gathered;
      gathered = [];
      valid = 0;
      if (entries.length > 0) await start(entries);
      await nextTurn();
      most = await goal();
    };
    for (let position = 0; ; position++) {
      throwIfCancelled(signal);
      const asked = reader.next();
      if (asked instanceof Promise && lingerMs !== undefined && gathered.length > 0) {
        const left = Math.max(0, since + lingerMs - performance.now());
        if (!(await settlesWithin(asked, left, signal))) await flush();
      }
      const step = asked instanceof Promise ? await unlessCancelled(asked, signal) : asked;
      if (step.done) break;
      const entry = codeEntry(await common.champion.current(signal), position, step.value);
      if (entry.coded instanceof ContractError && onInvalid === 'stop') {
        progress.invalid++;
        await flush();
        throw entry.coded;
      }
      if (gathered.length === 0) since = performance.now();
      gathered.push(entry);
      if (!(entry.coded instanceof ContractError)) valid++;
      // A source of nothing but refused transactions must not be gathered without end.
      if (valid === most || gathered.length - valid >= most) await flush();
    }
    await flush();
  }

  const feeding = feed().then(() => lane.end(), lane.fail);
  try {
    for (;;) {
      const batch = await lane.take();
      if (batch === undefined) return;
      for (const outcome of await unlessCancelled(batch.outcomes, signal)) {
        if ('refused' in outcome && onInvalid === 'stop') throw outcome.refused;
        yield outcome;
        throwIfCancelled(options.signal);
      }
    }
  } finally {
    own.abort();
    options.signal?.removeEventListener('abort', stop);
    await Promise.all([feeding, reader.release()]);
  }
}

/** Tasks run one after another, in the order they came; a failed one does not stop the next. */
function oneAtATime(): Scoring['inTurn'] {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => {});
    return mine;
  };
}

/** A bounded queue between one writer and one reader; both stop with the signal. */
function openLane<T>(places: number, signal: AbortSignal) {
  const waiting: T[] = [];
  let ended: { error?: unknown } | undefined;
  let wake = () => {};
  const change = async () => {
    await unlessCancelled(
      new Promise<void>((resolve) => {
        const others = wake;
        wake = () => {
          others();
          resolve();
        };
      }),
      signal,
    );
  };
  const changed = () => {
    const all = wake;
    wake = () => {};
    all();
  };
  return {
    /** Waits until there is a place. */
    async room() {
      while (waiting.length >= places) await change();
    },
    put(item: T) {
      waiting.push(item);
      changed();
    },
    /** No more follows. */
    end() {
      ended = {};
      changed();
    },
    /** No more follows, and the reader gets the error after what is waiting. */
    fail(error: unknown) {
      ended = { error };
      changed();
    },
    /** The oldest, undefined at the end. */
    async take(): Promise<T | undefined> {
      throwIfCancelled(signal);
      while (waiting.length === 0) {
        if (ended !== undefined && 'error' in ended) throw ended.error;
        if (ended !== undefined) return undefined;
        await change();
      }
      const oldest = waiting.shift();
      changed();
      return oldest;
    },
  };
}

/** One iterator over either kind of source. `release` tells it that no more is wanted, unless it is at its end. */
function openReader(source: Source) {
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
    next(): Promise<IteratorResult<Transaction>> | IteratorResult<Transaction> {
      asking = true;
      let step: ReturnType<typeof iterator.next>;
      try {
        step = iterator.next();
      } catch (error) {
        return failed(error);
      }
      return 'then' in step ? Promise.resolve(step).then(seen, failed) : seen(step);
    },
    async release(): Promise<void> {
      if (over) return;
      over = true;
      const returned = Promise.resolve(iterator.return?.());
      // A generator answers return() after the next() it is still working on, which may be never.
      if (asking) returned.catch(() => {});
      else await returned;
    },
  };
}

async function settlesWithin(promise: Promise<unknown>, milliseconds: number, signal: AbortSignal): Promise<boolean> {
  const timer = new AbortController();
  const either = AbortSignal.any([timer.signal, signal]);
  try {
    return await Promise.race([
      promise.then(
        () => true,
        () => true,
      ),
      pause(milliseconds, either).then(
        () => false,
        () => {
          throw cancelled(signal);
        },
      ),
    ]);
  } finally {
    timer.abort();
  }
}
