/**
 * A bounded queue between one writer and one reader of the same thread.
 *
 * Limit: one writer. Two that wait for room would both take the same place.
 */
import { throwIfCancelled, unlessCancelled } from './waiting.ts';

export interface Lane<T> {
  /** Waits until there is a place. @throws ClientError CANCELLED */
  room(): Promise<void>;
  put(item: T): void;
  /** No more follows. */
  end(): void;
  /** No more follows, and the reader gets the error after what is waiting. */
  fail(error: unknown): void;
  /** The oldest, which keeps its place; undefined at the end. @throws ClientError CANCELLED, and what `fail` was given */
  first(): Promise<T | undefined>;
  /** Gives up the place of the oldest. */
  shift(): void;
}

/** @param signal ends the waiting of both sides */
export function openLane<T>(places: number, signal: AbortSignal): Lane<T> {
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
    async room() {
      while (waiting.length >= places) await change();
    },
    put(item: T) {
      waiting.push(item);
      changed();
    },
    end() {
      ended = {};
      changed();
    },
    fail(error: unknown) {
      ended = { error };
      changed();
    },
    async first() {
      throwIfCancelled(signal);
      while (waiting.length === 0) {
        if (ended !== undefined && 'error' in ended) throw ended.error;
        if (ended !== undefined) return undefined;
        await change();
      }
      return waiting[0];
    },
    shift() {
      waiting.shift();
      changed();
    },
  };
}
