/**
 * Encrypted scoring of a source of any length: gathered to full requests, some of them under way at once, results in
 * the source's order.
 *
 * Two loops with a bounded lane between them: one reads the source and starts batches, the other hands out results.
 * Memory: the batch that is gathered, `inFlight` batches under way or waiting for a reader, and the results of one.
 * Back-pressure: no batch starts and nothing is read beyond these while the reader takes nothing.
 * Limit: an iterator that never answers cannot be stopped; it is told to return and left behind.
 */
import { maxTransactions } from '../encryption/encryption.ts';
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
import { openLane } from './lane.ts';
import { invalid } from './options.ts';
import type { ServedModel } from './replies.ts';
import { openReader, type Source } from './source.ts';
import { nextTurn, oneAtATime, settlesWithin, throwIfCancelled, unlessCancelled } from './waiting.ts';

type Common = Omit<Scoring, 'call' | 'inTurn' | 'layout'>;

const DEFAULT_IN_FLIGHT = 2;
const MOST_IN_FLIGHT = 16;

interface Parsed {
  readonly inFlight: number;
  readonly largest: number;
  readonly lingerMs: number | undefined;
  readonly stops: boolean;
}

/** @throws ClientError OPTION_INVALID */
function parse({ inFlight = DEFAULT_IN_FLIGHT, batch, lingerMs, onInvalid = 'stop' }: StreamOptions): Parsed {
  if (!Number.isInteger(inFlight) || inFlight < 1 || inFlight > MOST_IN_FLIGHT) {
    throw invalid('inFlight', `a whole number from 1 to ${MOST_IN_FLIGHT}`);
  }
  if (batch !== undefined && (!Number.isInteger(batch) || batch < 1)) throw invalid('batch', 'a whole number from 1');
  if (lingerMs !== undefined && !(lingerMs >= 0 && lingerMs < 2 ** 31)) {
    throw invalid('lingerMs', 'milliseconds, from 0 and less than 2^31');
  }
  if (onInvalid !== 'stop' && onInvalid !== 'report') throw invalid('onInvalid', "'stop' or 'report'");
  return { inFlight, largest: batch ?? Number.POSITIVE_INFINITY, lingerMs, stops: onInvalid === 'stop' };
}

/**
 * @param expected transactions that the source is known to have; a full column when it is not
 * @throws ClientError, EncryptionError, ContractError, and what the source throws; each after all results before it
 */
export async function* streamLogits(
  common: Common,
  source: Source,
  options: StreamOptions,
  expected?: number,
): AsyncGenerator<RawScore, undefined, undefined> {
  const { inFlight, largest, lingerMs, stops } = parse(options);
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
    const outcomes = await scoreBatch(scoring, entries, stops);
    for (const outcome of outcomes) {
      if ('refused' in outcome) progress.invalid++;
      else progress.scored++;
    }
    report();
    return outcomes;
  }

  const lane = openLane<{ outcomes: Promise<RawScore[]> }>(inFlight, signal);
  const reader = openReader(source);

  /** What transactions are checked against as they come, and how many of them fill a request. */
  async function aim(): Promise<{ model: ServedModel; most: number }> {
    const key = await unlessCancelled(common.secretKey(), signal);
    const model = await common.champion.current(signal);
    const count = expected ?? maxTransactions(key.preset, 'column', 1);
    return { model, most: Math.min(largest, planOf(key, model, count, options.layout).most) };
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
    let since = 0;
    let { model, most } = await aim();
    const flush = async () => {
      const entries = gathered;
      gathered = [];
      valid = 0;
      if (entries.length > 0) await start(entries);
      await nextTurn();
    };
    const read = async (asked: Promise<IteratorResult<Transaction>>) => {
      if (lingerMs !== undefined && gathered.length > 0) {
        const left = Math.max(0, since + lingerMs - performance.now());
        if (!(await settlesWithin(asked, left, signal))) await flush();
      }
      return unlessCancelled(asked, signal);
    };
    for (let position = 0; ; position++) {
      throwIfCancelled(signal);
      let step: IteratorResult<Transaction>;
      try {
        const asked = reader.next();
        step = asked instanceof Promise ? await read(asked) : asked;
      } catch (error) {
        throwIfCancelled(signal);
        await flush();
        throw error;
      }
      if (step.done) return flush();
      const entry = codeEntry(model, position, step.value);
      const refused = entry.coded instanceof ContractError;
      if (refused && stops) {
        progress.invalid++;
        await flush();
        throw entry.coded;
      }
      if (gathered.length === 0) since = performance.now();
      gathered.push(entry);
      if (!refused) valid++;
      // The second: a source of nothing but refused transactions must not be gathered without end.
      if (valid < most && gathered.length - valid < most) continue;
      await flush();
      ({ model, most } = await aim());
    }
  }

  const feeding = feed().then(() => lane.end(), lane.fail);
  try {
    for (;;) {
      const batch = await lane.first();
      if (batch === undefined) return;
      const outcomes = await unlessCancelled(batch.outcomes, signal);
      lane.shift();
      for (const outcome of outcomes) {
        if ('refused' in outcome && stops) throw outcome.refused;
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
