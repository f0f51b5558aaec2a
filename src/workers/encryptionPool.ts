/**
 * Encrypted scoring in worker threads: the event loop never waits for SEAL, and bytes that hang or kill SEAL cost one
 * thread, which is replaced.
 *
 * One reply is one job on one thread. A job that waits and works longer than `timeoutMs` is ended with its thread.
 * Limit: threads share the process's memory; a worker's WASM heap grows to the largest job it has seen and stays there.
 */
import { Piscina } from 'piscina';
import type { LinearModel } from '../encryption/encryption.ts';
import type { PresetName } from '../encryption/presets.ts';
import { EncryptionError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { EncryptionJob, EncryptionOutcome } from './encryptionJob.ts';

export interface EncryptionPoolOptions {
  /** Worker threads, at least 1. */
  readonly threads: number;
  /** Longest time from arrival to answer. */
  readonly timeoutMs: number;
  /** Jobs that may wait for a thread; one more is refused with POOL_FULL. */
  readonly queueLimit: number;
  readonly log: Log;
}

export interface EncryptionPool {
  /** @throws EncryptionError PUBLIC_KEY_MALFORMED, PUBLIC_KEY_DEGENERATE, POOL_FULL, WORKER_* */
  inspectPublicKey(bytes: Uint8Array): Promise<{ keyId: string; preset: PresetName }>;
  /**
   * @param job.publicKey the registered key that the request names
   * @param job.request whole request frame
   * @returns whole reply frame
   * @throws EncryptionError FRAME_*, CIPHERTEXT_*, PUBLIC_KEY_*, ENCRYPTION_PARAMETER, POOL_FULL, WORKER_*
   */
  score(job: { model: LinearModel; publicKey: Uint8Array; request: Uint8Array }): Promise<Uint8Array>;
  /** True once SEAL is loaded and while there is a thread and room in the queue. */
  ready(): boolean;
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
  let isWarm = false;
  let isClosed = false;
  // Counted here: piscina's own `maxQueue` does not count jobs that carry an abort signal.
  let outstanding = 0;
  const hasRoom = () => outstanding < threads + queueLimit;

  async function run(
    job: EncryptionJob,
    transfer: ArrayBuffer[],
    limitMs: number,
  ): Promise<EncryptionOutcome & { ok: true }> {
    if (isClosed) throw new EncryptionError('WORKER_FAILED', 'the encryption pool is closed', { where: 'pool' });
    if (job.kind !== 'warm' && !hasRoom()) throw full();
    let outcome: EncryptionOutcome;
    outstanding++;
    try {
      outcome = await pool.run(job, { transferList: transfer, signal: AbortSignal.timeout(limitMs) });
    } catch (cause) {
      throw failure(cause, limitMs);
    } finally {
      outstanding--;
    }
    if (outcome.ok) return outcome;
    const { code, message, where, fix } = outcome;
    throw new EncryptionError(code, message, {
      ...(where === undefined ? {} : { where }),
      ...(fix === undefined ? {} : { fix }),
    });
  }

  async function warm(): Promise<void> {
    await Promise.all(Array.from({ length: threads }, () => run({ kind: 'warm' }, [], WARM_LIMIT_MS)));
    isWarm = true;
  }

  const warmed = warm();
  warmed.catch((error: unknown) => {
    if (!isClosed) log.error({ reason: String(error) }, 'encryption threads cannot start');
  });

  return {
    warmed,
    async inspectPublicKey(bytes) {
      const publicKey = new Uint8Array(bytes);
      const outcome = await run({ kind: 'inspect', publicKey }, [publicKey.buffer], timeoutMs);
      if (outcome.kind !== 'inspect') throw unexpected();
      return outcome.key;
    },
    async score({ model, publicKey, request }) {
      // A copy, because a view would be cloned with its whole underlying buffer and a moved one is lost to its owner.
      const [key, frame] = [new Uint8Array(publicKey), new Uint8Array(request)];
      const { hash, weights, intercept } = model;
      const job: EncryptionJob = { kind: 'score', model: { hash, weights, intercept }, publicKey: key, request: frame };
      const outcome = await run(job, [key.buffer, frame.buffer], timeoutMs);
      if (outcome.kind !== 'score') throw unexpected();
      return outcome.reply;
    },
    ready: () => isWarm && !isClosed && pool.threads.length > 0 && hasRoom(),
    async close() {
      isClosed = true;
      await pool.destroy();
    },
  };
}

/** Loading SEAL takes a third of a second; a machine that needs this long is broken. */
const WARM_LIMIT_MS = 60_000;

function failure(cause: unknown, limitMs: number): EncryptionError {
  const name = cause instanceof Error ? cause.name : '';
  const message = cause instanceof Error ? cause.message : '';
  if (name === 'AbortError' && message !== 'pool is closed') {
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

function full(): EncryptionError {
  return new EncryptionError('POOL_FULL', 'too many encrypted requests are waiting', {
    where: 'encryption pool',
    fix: 'Try again after the time in Retry-After.',
  });
}

function unexpected(): EncryptionError {
  return new EncryptionError('WORKER_FAILED', 'the encryption thread answered another question', { where: 'pool' });
}
