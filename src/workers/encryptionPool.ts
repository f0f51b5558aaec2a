/**
 * Encrypted scoring in worker threads: the event loop never waits for SEAL, and bytes that hang or kill SEAL cost one
 * thread, which is replaced.
 *
 * One reply is one job on one thread. A job that waits and works longer than `timeoutMs` is ended, with its thread when
 * it has one. Callers share the places of the queue (src/fairShare.ts) and take turns at the threads (turns.ts).
 * Limit: threads share the process's memory; a worker's WASM heap grows to the largest job it has seen and stays there.
 */
import type { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { LinearModel } from '../encryption/encryption.ts';
import type { PresetName } from '../encryption/presets.ts';
import { EncryptionError } from '../errors.ts';
import { openShares } from '../fairShare.ts';
import type { Log } from '../log.ts';
import type { EncryptionJob, EncryptionOutcome } from './encryptionJob.ts';
import { openTurns } from './turns.ts';

export interface EncryptionPoolOptions {
  /** Worker threads, at least 1. */
  readonly threads: number;
  /** Longest time from arrival to answer. */
  readonly timeoutMs: number;
  /** Jobs of all callers that may wait for a thread; one more is refused with POOL_FULL. */
  readonly queueLimit: number;
  readonly log: Log;
}

/** Whose job it is, and until when it is worth starting. */
export interface JobCaller {
  /** Name of the caller, as on its API key; jobs without one share one name. */
  readonly owner?: string | undefined;
  /** Takes the job out of the queue, with its reason; a job that has started goes on. */
  readonly signal?: AbortSignal | undefined;
}

export interface EncryptionPool {
  /** @throws EncryptionError PUBLIC_KEY_MALFORMED, PUBLIC_KEY_DEGENERATE, POOL_FULL, WORKER_* */
  inspectPublicKey(bytes: Uint8Array, caller?: JobCaller): Promise<{ keyId: string; preset: PresetName }>;
  /**
   * @param job.publicKey the registered key that the request names
   * @param job.request whole request frame; not to be changed before the answer
   * @returns whole reply frame
   * @throws EncryptionError FRAME_*, CIPHERTEXT_*, PUBLIC_KEY_*, ENCRYPTION_PARAMETER, POOL_FULL, WORKER_*
   */
  score(job: { model: LinearModel; publicKey: Uint8Array; request: Uint8Array } & JobCaller): Promise<Uint8Array>;
  /** True while a thread that has loaded SEAL lives and the queue has room: for this caller, or for anybody. */
  ready(owner?: string): boolean;
  /** Settles when the first threads have loaded SEAL; rejects with WORKER_FAILED when they cannot. */
  readonly warmed: Promise<void>;
  close(): Promise<void>;
}

export function openEncryptionPool({ threads, timeoutMs, queueLimit, log }: EncryptionPoolOptions): EncryptionPool {
  const pool = new Piscina({
    filename: new URL('./encryptionWorker.ts', import.meta.url).href,
    minThreads: threads,
    maxThreads: threads,
    // A thread that waits in `Atomics.wait` could not prepare encryptions of zero after its answer.
    atomics: 'disabled',
    // A parent's loader flags (a test runner's, a debugger's port) are not for the threads.
    execArgv: [],
  });
  pool.on('error', (error: Error) => log.warn({ reason: error.message }, 'encryption thread replaced'));
  const closing = new AbortController();
  const places = openShares(threads + queueLimit);
  const turns = openTurns(threads);
  const loaded = new WeakSet<Worker>();

  // Told of the first threads before they have loaded anything, and of later ones after: `warm` answers for the first.
  queueMicrotask(() => {
    pool.on('workerCreate', ({ id }: { id: number }) => {
      for (const thread of pool.threads) if (thread.threadId === id) loaded.add(thread);
    });
  });
  // piscina replaces a thread that dies at work, and no more once one has died while it loaded (short of memory, say):
  // without a thread the pool is not ready, so no job would come that starts one.
  pool.on('workerDestroy', () => {
    setTimeout(() => {
      if (pool.threads.length < threads && !closing.signal.aborted)
        work({ kind: 'warm' }, [], warmLimit()).catch(() => {});
    }, REVIVE_MS).unref();
  });

  async function work(job: EncryptionJob, transfer: ArrayBuffer[], limit: AbortSignal) {
    const outcome: EncryptionOutcome = await pool.run(job, { transferList: transfer, signal: limit });
    return outcome;
  }

  /** @param prepare makes the job when its turn has come, so that its bytes are not held twice while it waits */
  async function run(
    prepare: () => [job: EncryptionJob, transfer: ArrayBuffer[]],
    { owner = '', signal }: JobCaller,
  ): Promise<EncryptionOutcome & { ok: true }> {
    if (closing.signal.aborted) throw failed('the encryption pool is closed');
    const shortage = places.shortage(owner, 1);
    if (shortage !== null) throw full(shortage === 'caller');
    const leave = places.hold(owner, 1);
    const limit = AbortSignal.timeout(timeoutMs);
    const waiting = AbortSignal.any([limit, closing.signal, ...(signal === undefined ? [] : [signal])]);
    let outcome: EncryptionOutcome;
    try {
      outcome = await turns.run(owner, waiting, () => work(...prepare(), limit));
    } catch (cause) {
      if (signal?.aborted && cause === signal.reason) throw cause;
      throw failure(cause, timeoutMs);
    } finally {
      leave();
    }
    if (outcome.ok) return outcome;
    const { code, message, where, fix } = outcome;
    throw new EncryptionError(code, message, {
      ...(where === undefined ? {} : { where }),
      ...(fix === undefined ? {} : { fix }),
    });
  }

  async function warm(): Promise<void> {
    try {
      await Promise.all(Array.from({ length: threads }, () => work({ kind: 'warm' }, [], warmLimit())));
    } catch (cause) {
      throw failure(cause, WARM_LIMIT_MS);
    }
    for (const thread of pool.threads) loaded.add(thread);
  }

  const warmed = warm();
  warmed.catch((error: unknown) => {
    if (!closing.signal.aborted) log.error({ reason: String(error) }, 'encryption threads cannot start');
  });

  return {
    warmed,
    async inspectPublicKey(bytes, caller = {}) {
      const outcome = await run(() => {
        const publicKey = new Uint8Array(bytes);
        return [{ kind: 'inspect', publicKey }, [publicKey.buffer]];
      }, caller);
      if (outcome.kind !== 'inspect') throw unexpected();
      return outcome.key;
    },
    async score({ model, publicKey, request, ...caller }) {
      const outcome = await run(() => {
        // A copy, because a view would be cloned with its whole underlying buffer and a moved one is lost to its owner.
        const [key, frame] = [new Uint8Array(publicKey), new Uint8Array(request)];
        const { hash, weights, intercept } = model;
        const job: EncryptionJob = {
          kind: 'score',
          model: { hash, weights, intercept },
          publicKey: key,
          request: frame,
        };
        return [job, [key.buffer, frame.buffer]];
      }, caller);
      if (outcome.kind !== 'score') throw unexpected();
      return outcome.reply;
    },
    ready(owner) {
      if (closing.signal.aborted || !pool.threads.some((thread) => loaded.has(thread))) return false;
      const shortage = places.shortage(owner ?? '', 1);
      return shortage === null || (owner === undefined && shortage === 'caller');
    },
    async close() {
      closing.abort(failed('the encryption pool is closed'));
      await pool.destroy();
    },
  };
}

/** A pause before a thread that could not start is tried again. */
const REVIVE_MS = 500;
/** Loading SEAL takes a third of a second; a machine that needs this long is broken. */
const WARM_LIMIT_MS = 60_000;
const warmLimit = () => AbortSignal.timeout(WARM_LIMIT_MS);

function failure(cause: unknown, limitMs: number): EncryptionError {
  if (cause instanceof EncryptionError) return cause;
  const name = cause instanceof Error ? cause.name : '';
  const message = cause instanceof Error ? cause.message : '';
  // From the queue, or from piscina with the thread.
  if (name === 'TimeoutError' || (name === 'AbortError' && message !== 'pool is closed')) {
    return new EncryptionError('WORKER_TIMEOUT', `encrypted scoring took longer than ${limitMs} ms`, {
      where: 'encryption pool',
      fix: 'Send fewer transactions at once, or try again later.',
      cause,
    });
  }
  return new EncryptionError('WORKER_FAILED', 'the encryption thread ended', {
    where: 'encryption pool',
    fix: 'Try again.',
    cause,
  });
}

function full(ofCaller: boolean): EncryptionError {
  const what = ofCaller
    ? 'Your encrypted requests hold the share of the queue that one caller may have.'
    : 'The encrypted requests of all callers fill the queue that the node has.';
  return new EncryptionError('POOL_FULL', what, {
    where: 'encryption pool',
    fix: ofCaller
      ? 'Send the next request when others of yours are answered, or after the time in Retry-After.'
      : 'Try again after the time in Retry-After.',
  });
}

const failed = (what: string) => new EncryptionError('WORKER_FAILED', what, { where: 'encryption pool' });

const unexpected = () => failed('the encryption thread answered another question');
