/**
 * Waiting that can be cancelled: for a promise, for a time, for the event loop's next turn.
 *
 * `setTimeout(0)` is held up to 4 ms when nested (HTML standard, section 8.6); a message to oneself is a task without
 * that delay in browsers and Node, so work in steps loses little by letting others run.
 */
import type { Steps } from '../encryption/encryption.ts';
import { ClientError } from '../errors.ts';

/** @throws ClientError CANCELLED */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled(signal);
}

export function cancelled(signal: AbortSignal): ClientError {
  return new ClientError('CANCELLED', 'the call was cancelled', { where: 'signal', cause: signal.reason });
}

/**
 * The promise, or CANCELLED as soon as the signal says so; what the promise does afterwards is ignored.
 *
 * @throws ClientError CANCELLED, and whatever the promise throws
 */
export async function unlessCancelled<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  let stop = () => {};
  const stopped = new Promise<never>((_, reject) => {
    stop = () => reject(cancelled(signal));
  });
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([stopped, promise]);
  } finally {
    signal.removeEventListener('abort', stop);
    stopped.catch(() => {});
    promise.catch(() => {});
  }
}

/** @throws ClientError CANCELLED */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  try {
    await unlessCancelled(over, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the promise is settled, in either way, within the time. @throws ClientError CANCELLED */
export async function settlesWithin(
  promise: Promise<unknown>,
  milliseconds: number,
  signal: AbortSignal,
): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  const settled = promise.then(
    () => true,
    () => true,
  );
  try {
    return await unlessCancelled(Promise.race([settled, late]), signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves in a task of its own, after whatever else is waiting for the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** Runs steps with a turn of the event loop after each. @throws ClientError CANCELLED, and whatever a step throws */
export async function inTurns<T>(steps: Steps<T>, signal: AbortSignal | undefined): Promise<T> {
  try {
    for (;;) {
      throwIfCancelled(signal);
      const { done, value } = steps.next();
      if (done) return value;
      await nextTurn();
    }
  } finally {
    // Safe: the value only goes into the result of this call, which nobody reads; it frees what the steps hold.
    steps.return(undefined as T);
  }
}

/** Tasks run one after another, in the order they came; a failed one does not stop the next. */
export function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => {});
    return mine;
  };
}
