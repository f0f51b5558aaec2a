/**
 * What a user of the SDK passes in, parsed once: addresses, times, values and callbacks.
 *
 * Limit: what a callback gave is kept for as long as the client lives; a changed secret needs a new client.
 */
import { ClientError } from '../errors.ts';

/**
 * A value, or a callback that is asked when the value is first needed. The answer is kept, a failure is not.
 *
 * @param check parses the value; its error is not kept either
 */
export function once<T, U>(source: T | (() => T | Promise<T>), check: (value: T) => U): () => Promise<U> {
  let known: Promise<U> | undefined;
  return () => {
    if (known === undefined) {
      // Safe: no value of the SDK that comes this way is itself a function.
      const ask = typeof source === 'function' ? (source as () => T | Promise<T>) : () => source;
      const asking = (async () => check(await ask()))();
      known = asking;
      asking.catch(() => {
        known = undefined;
      });
    }
    return known;
  };
}

/** No option's value is in the error: it may be a secret. */
export function invalid(option: string, expected: string): ClientError {
  return new ClientError('OPTION_INVALID', `the option ${option} is not usable`, {
    where: option,
    fix: `Give ${expected}.`,
  });
}

/** @throws ClientError OPTION_INVALID */
export function milliseconds(option: string, value: number): number {
  if (Number.isFinite(value) && value > 0 && value < 2 ** 31) return value;
  throw invalid(option, 'milliseconds, more than 0 and less than 2^31');
}

/** The address without a slash at its end. @throws ClientError OPTION_INVALID */
export function baseOf(url: string): string {
  const base = URL.canParse(url) ? new URL(url) : undefined;
  const usable =
    base !== undefined &&
    /^https?:$/.test(base.protocol) &&
    base.username + base.password + base.search + base.hash === '';
  if (usable) return base.href.replace(/\/+$/, '');
  throw invalid('url', 'an http or https address without user, password, query and fragment');
}
