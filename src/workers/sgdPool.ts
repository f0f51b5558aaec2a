/**
 * Whole DP-SGD trainings in a thread of their own, so that the event loop stays free.
 *
 * Records lie in shared memory and are never sent. The model is that of `trainSgd` with the operating system's
 * randomness. Trainings are taken one after another; a thread that dies fails its training and is replaced.
 * Limit: several banks' data in one process is for evaluation and tests, as in learning/sgd/train.ts.
 */
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { Contract } from '../contract/contract.ts';
import { LearningError, PrivacyError, WorkerError } from '../errors.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { DenseModel } from '../learning/sgd/model.ts';
import type { SgdSettings } from '../learning/sgd/settings.ts';
import type { SgdProgress } from '../learning/sgd/train.ts';
import type { Log } from '../log.ts';
import type { SgdJob, SgdOutcome } from './sgdJob.ts';
import { sharedMemory } from './trainingPool.ts';

export interface SgdPool {
  /**
   * @returns as `trainSgd`. @throws LearningError or PrivacyError as `trainSgd`; WorkerError WORKER_FAILED when the
   *   thread ended or the pool is closed.
   */
  train(
    sites: readonly BinnedData[],
    settings: SgdSettings,
    contract: Contract,
    onProgress?: (progress: SgdProgress) => void,
  ): Promise<DenseModel>;
  /** Ends the thread at once, which is how a training is cancelled: it fails with WORKER_FAILED. */
  close(): Promise<void>;
}

export function openSgdPool({ log }: { log: Log }): SgdPool {
  let pool: Piscina | null = null;
  let isClosed = false;

  return {
    async train(sites, settings, contract, onProgress) {
      if (isClosed) throw new WorkerError('WORKER_FAILED', 'the training pool is closed', { where: 'sgd pool' });
      pool ??= openThread(log);
      const { port1, port2 } = new MessageChannel();
      // Safe: only sgdWorker.ts holds the other end, and it posts nothing else.
      port1.on('message', (progress: SgdProgress) => onProgress?.(progress));
      const job: SgdJob = { sites: sites.map(toShared), settings, contract, progress: port2 };
      let outcome: SgdOutcome;
      try {
        outcome = await pool.run(job, { transferList: [port2] });
      } catch (cause) {
        throw new WorkerError('WORKER_FAILED', 'the training thread ended', {
          where: 'sgd pool',
          fix: 'Nothing was released; start the training again.',
          cause,
        });
      } finally {
        // The outcome may overtake the last steps' messages.
        for (let late = receiveMessageOnPort(port1); late !== undefined; late = receiveMessageOnPort(port1)) {
          onProgress?.(late.message);
        }
        port1.close();
      }
      if (outcome.ok) return outcome.model;
      throw failureOf(outcome);
    },
    async close() {
      isClosed = true;
      await pool?.destroy();
    },
  };
}

function failureOf({ error, message, where, fix }: Extract<SgdOutcome, { ok: false }>): LearningError | PrivacyError {
  const detail = { ...(where === undefined ? {} : { where }), ...(fix === undefined ? {} : { fix }) };
  if (error.room === 'learning') return new LearningError(error.code, message, detail);
  return new PrivacyError(error.code, message, detail);
}

function openThread(log: Log): Piscina {
  const pool = new Piscina({
    filename: new URL('./sgdWorker.ts', import.meta.url).href,
    minThreads: 1,
    maxThreads: 1,
    // A parent's loader flags (a test runner's, a debugger's port) are not for the thread.
    execArgv: [],
  });
  pool.on('error', (error: Error) => log.warn({ reason: error.message }, 'training thread replaced'));
  return pool;
}

/** The same records in memory that the thread sees, copied unless they lie there already. */
function toShared(data: BinnedData): BinnedData {
  if (data.bins.buffer instanceof SharedArrayBuffer && data.labels.buffer instanceof SharedArrayBuffer) return data;
  const bins = new Uint16Array(sharedMemory(data.bins.byteLength));
  const labels = new Uint8Array(sharedMemory(data.labels.byteLength));
  bins.set(data.bins);
  labels.set(data.labels);
  return { ...data, bins, labels };
}
