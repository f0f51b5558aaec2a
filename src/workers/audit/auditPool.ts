/**
 * Trials of a privacy audit in threads, so that the event loop can report progress and stop.
 *
 * Trials are independent, each with fresh noise, so it does not matter which thread runs which.
 */
import { Piscina } from 'piscina';
import { WorkerError } from '../../errors.ts';
import type { Trials } from '../../privacy/canary.ts';
import type { AuditSetting } from './setting.ts';

/** Trials for a thread to run. */
export interface AuditJob {
  readonly setting: AuditSetting;
  /** Trials without the customer. */
  readonly without: number;
  /** Trials with the customer. */
  readonly present: number;
}

export interface AuditPool {
  /**
   * @param trials of each kind. @param onProgress called with the number of trials done, both kinds together.
   * @throws WorkerError WORKER_FAILED when a thread ended or a trial failed.
   */
  run(setting: AuditSetting, trials: number, onProgress?: (done: number) => void): Promise<Trials>;
  close(): Promise<void>;
}

// Long enough that a thread's work dwarfs the message, short enough that progress moves.
const TRIALS_A_JOB = 2_000;

export function openAuditPool(threads: number): AuditPool {
  const pool = new Piscina({
    filename: new URL('./auditWorker.ts', import.meta.url).href,
    minThreads: threads,
    maxThreads: threads,
    // A parent's loader flags (a test runner's, a debugger's port) are not for the thread.
    execArgv: [],
  });

  return {
    async run(setting, trials, onProgress) {
      const jobs: AuditJob[] = [];
      for (let at = 0; at < trials; at += TRIALS_A_JOB) {
        const share = Math.min(TRIALS_A_JOB, trials - at);
        jobs.push({ setting, without: share, present: share });
      }
      const result: Trials = { without: new Float64Array(trials), with: new Float64Array(trials) };
      let done = 0;
      try {
        await Promise.all(
          jobs.map(async (job, i) => {
            // Safe: what the worker's only export returns.
            const part = (await pool.run(job)) as Trials;
            result.without.set(part.without, i * TRIALS_A_JOB);
            result.with.set(part.with, i * TRIALS_A_JOB);
            done += job.without + job.present;
            onProgress?.(done);
          }),
        );
      } catch (cause) {
        throw new WorkerError('WORKER_FAILED', 'a trial of the audit failed', { where: setting.mechanism, cause });
      }
      return result;
    },
    close: () => pool.destroy(),
  };
}
