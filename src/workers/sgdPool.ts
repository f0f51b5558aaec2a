/**
 * Whole DP-SGD trainings in a thread of their own, so that the event loop stays free.
 *
 * Records lie in shared memory and are never sent. The model is that of `trainSgd` with the operating system's
 * randomness. Trainings are taken one after another; a thread that dies fails its training and is replaced.
 * Limit: several banks' data in one process is for evaluation and tests, as in learning/sgd/train.ts.
 */
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import type { Piscina } from 'piscina';
import type { Contract } from '../contract/contract.ts';
import { WorkerError } from '../errors.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { DenseModel } from '../learning/sgd/model.ts';
import type { SgdSettings } from '../learning/sgd/settings.ts';
import type { SgdProgress } from '../learning/sgd/train.ts';
import type { Log } from '../log.ts';
import type { SgdJob, SgdOutcome } from './sgdJob.ts';
import { errorOf, inSharedMemory, openThreads } from './thread.ts';

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
      const job: SgdJob = { sites: sites.map(inSharedMemory), settings, contract, progress: port2 };
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
      throw errorOf(outcome);
    },
    async close() {
      isClosed = true;
      await pool?.destroy();
    },
  };
}

function openThread(log: Log): Piscina {
  const pool = openThreads(new URL('./sgdWorker.ts', import.meta.url), 1);
  pool.on('error', (error: Error) => log.warn({ reason: error.message }, 'training thread replaced'));
  return pool;
}
