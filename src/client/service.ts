/**
 * HTTP to a node, for Node and browser: `fetch`, time limits, repeats, problem details as typed errors.
 *
 * Repeated are only failures that pass with time (no answer, an answer that is cut off, 502, 503, 504), with the very
 * same bytes, so a node that meters by frame or by idempotency key counts once. Pauses are exponential with jitter;
 * Retry-After (RFC 9110, section 10.2.3) lengthens one up to a minute. Refusals: RFC 9457.
 * Limit: when every attempt fails it is unknown whether the node did the work.
 */
import pRetry from 'p-retry';
import { ClientError } from '../errors.ts';
import { baseOf, invalid, milliseconds, once } from './options.ts';
import { malformed, refusal } from './problems.ts';
import { pause, throwIfCancelled, unlessCancelled } from './waiting.ts';

export interface ServiceOptions {
  /** Base address of the node's API, such as `https://scores.bank.example`; `https:` outside a trusted network. */
  readonly url: string;
  /** Or a callback, asked once, when first needed; when it fails, its error is the caller's and it is asked again. */
  readonly apiKey: string | (() => string | Promise<string>);
  /** Longest time for one attempt, in milliseconds; 30,000 when left out. */
  readonly timeoutMs?: number;
  /** Longest time for a request with its repeats and pauses, in milliseconds; 120,000 when left out. */
  readonly deadlineMs?: number;
  /** Repeats after failures that pass with time, 0 to 7 (a node answers a frame 8 times at most); 4 when left out. */
  readonly retries?: number;
  /** Least pause before the first repeat, in milliseconds, doubled with each; 250 when left out. */
  readonly backoffMs?: number;
}

/** What a request carried over the wire, repeats included. */
export interface Traffic {
  requests: number;
  retries: number;
  bytesUp: number;
  bytesDown: number;
}

export interface Call {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: { readonly type: string; readonly bytes: Uint8Array };
  readonly signal?: AbortSignal | undefined;
  /** Counted up while the request runs. */
  readonly traffic?: Traffic;
  readonly onRetry?: () => void;
}

export interface Service {
  /** The parsed JSON of a 2xx answer. */
  json(method: 'GET' | 'POST' | 'DELETE', path: string, call?: Call): Promise<unknown>;
  /** The bytes of a 2xx answer. */
  bytes(method: 'GET' | 'POST' | 'DELETE', path: string, call?: Call): Promise<Uint8Array>;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_DEADLINE_MS = 120_000;
const DEFAULT_RETRIES = 4;
const MOST_RETRIES = 7;
const DEFAULT_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 8_000;
const LONGEST_RETRY_AFTER_MS = 60_000;
/** No answer of a node is longer: the largest reply frame has 8.5 MB. */
const LARGEST_ANSWER_BYTES = 16 * 1024 * 1024;

/**
 * @throws ClientError OPTION_INVALID; of every method SERVICE_UNREACHABLE, SERVICE_REFUSED (with the service's code),
 * REPLY_MALFORMED, CANCELLED
 */
export function openService(options: ServiceOptions): Service {
  const base = baseOf(options.url);
  const timeoutMs = milliseconds('timeoutMs', options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const deadlineMs = milliseconds('deadlineMs', options.deadlineMs ?? DEFAULT_DEADLINE_MS);
  const backoffMs = milliseconds('backoffMs', options.backoffMs ?? DEFAULT_BACKOFF_MS);
  const retries = options.retries ?? DEFAULT_RETRIES;
  if (!Number.isInteger(retries) || retries < 0 || retries > MOST_RETRIES) {
    throw invalid('retries', `a whole number from 0 to ${MOST_RETRIES}`);
  }
  const bearer = once(options.apiKey, (key) => {
    // A key that is no header value would be quoted by the error of `fetch`.
    if (typeof key === 'string' && /^[\x21-\x7e]+$/.test(key)) return `Bearer ${key}`;
    throw invalid('apiKey', 'the key as the node gave it, without blanks');
  });

  async function bytes(method: string, path: string, call: Call = {}): Promise<Uint8Array> {
    const { signal, traffic } = call;
    throwIfCancelled(signal);
    const authorization = await unlessCancelled(bearer(), signal);
    const end = performance.now() + deadlineMs;
    const left = () => end - performance.now();
    let asked = 0;
    const attempt = async (): Promise<Uint8Array> => {
      asked = 0;
      if (traffic !== undefined) traffic.bytesUp += call.body?.bytes.length ?? 0;
      const limit = limited(Math.min(timeoutMs, left()), signal);
      try {
        const response = await fetch(`${base}${path}`, {
          method,
          headers: {
            ...call.headers,
            ...(call.body === undefined ? {} : { 'content-type': call.body.type }),
            authorization,
          },
          // Safe: the bytes come from this SDK and are never in shared memory.
          ...(call.body === undefined ? {} : { body: call.body.bytes as Uint8Array<ArrayBuffer> }),
          redirect: 'error',
          credentials: 'omit',
          cache: 'no-store',
          signal: limit.signal,
        });
        const answer = await readAll(path, response, traffic);
        if (response.ok) return answer;
        asked = retryAfter(response.headers.get('retry-after'));
        throw refusal(path, response.status, answer);
      } catch (cause) {
        throwIfCancelled(signal);
        if (cause instanceof ClientError) throw cause;
        throw new ClientError('SERVICE_UNREACHABLE', 'the service does not answer, or not to the end', {
          where: path,
          fix: 'Check the address and that the node is up (GET /healthz).',
          cause,
        });
      } finally {
        limit.release();
      }
    };
    try {
      const answer = await pRetry(attempt, {
        retries,
        minTimeout: backoffMs,
        maxTimeout: LONGEST_BACKOFF_MS,
        randomize: true,
        ...(signal === undefined ? {} : { signal }),
        async shouldRetry({ error, retryDelay }) {
          const wait = Math.max(asked, retryDelay);
          if (!passing(error) || wait >= left()) return false;
          if (traffic !== undefined) traffic.retries++;
          call.onRetry?.();
          await pause(wait - retryDelay, signal);
          return true;
        },
      });
      if (traffic !== undefined) traffic.requests++;
      return answer;
    } catch (error) {
      throwIfCancelled(signal);
      throw error;
    }
  }

  return {
    bytes,
    async json(method, path, call) {
      const answer = await bytes(method, path, call);
      try {
        return JSON.parse(new TextDecoder().decode(answer));
      } catch (cause) {
        throw malformed(path, cause);
      }
    },
  };
}

/** Aborts after a time or with the caller's signal; `release` lets go of both. */
function limited(time: number, signal: AbortSignal | undefined): { signal: AbortSignal; release: () => void } {
  const own = new AbortController();
  const stop = () => own.abort();
  const timer = setTimeout(stop, Math.max(0, time));
  signal?.addEventListener('abort', stop, { once: true });
  const release = () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  };
  return { signal: own.signal, release };
}

async function readAll(path: string, response: Response, traffic: Traffic | undefined): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  for (let step = await reader?.read(); step !== undefined && !step.done; step = await reader?.read()) {
    length += step.value.length;
    if (traffic !== undefined) traffic.bytesDown += step.value.length;
    if (length > LARGEST_ANSWER_BYTES) {
      await reader?.cancel();
      throw malformed(path);
    }
    chunks.push(step.value);
  }
  const answer = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    answer.set(chunk, at);
    at += chunk.length;
  }
  return answer;
}

/** Whether the same request may succeed later. */
function passing(error: Error): boolean {
  if (!(error instanceof ClientError)) return false;
  return error.code === 'SERVICE_UNREACHABLE' || [502, 503, 504].includes(error.status ?? 0);
}

/** Milliseconds that the service asks to wait, 0 to a minute; seconds or a date (RFC 9110, section 10.2.3). */
function retryAfter(value: string | null): number {
  if (value === null) return 0;
  const asked = /^\d{1,9}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(asked) ? Math.min(LONGEST_RETRY_AFTER_MS, Math.max(0, asked)) : 0;
}
