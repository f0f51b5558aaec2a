/**
 * Trials of a privacy audit in threads, so that the event loop can report progress and stop.
 *
 * Trials are independent, each with fresh noise, so it does not matter which thread runs which.
 */
import { PrivacyError, WorkerError } from '../../errors.ts';
import type { Trials } from '../../privacy/canary.ts';
import { openThreads } from '../thread.ts';
import type { About, AuditSetting, Promised } from './setting.ts';

export interface AuditJob {
  readonly setting: AuditSetting;
  /** Trials of each kind, with and without the customer; 0 asks for a description. */
  readonly trials: number;
}

export type AuditOutcome =
  | ({ readonly kind: 'trials' } & Trials)
  | { readonly kind: 'description'; readonly about: About; readonly promised: Promised }
  | { readonly kind: 'refused'; readonly message: string; readonly where: string };

export interface AuditPool {
  /**
   * What would be run and what it promises.
   *
   * @throws PrivacyError PRIVACY_PARAMETER for a promise that the mechanism cannot make; WorkerError WORKER_FAILED.
   */
  describe(setting: AuditSetting): Promise<{ about: About; promised: Promised }>;
  /**
   * @param trials of each kind. @param onProgress called with how many of them are done.
   * @throws WorkerError WORKER_FAILED when a thread ended or a trial failed.
   */
  run(setting: AuditSetting, trials: number, onProgress: (done: number) => void): Promise<Trials>;
  close(): Promise<void>;
}

// Long enough that a thread's work dwarfs the message, short enough that progress moves.
const TRIALS_A_JOB = 2_000;

export function openAuditPool(threads: number): AuditPool {
  const pool = openThreads(new URL('./auditWorker.ts', import.meta.url), threads);

  async function run(job: AuditJob): Promise<AuditOutcome> {
    let outcome: AuditOutcome;
    try {
      outcome = await pool.run(job);
    } catch (cause) {
      throw new WorkerError('WORKER_FAILED', 'a trial of the audit failed', { where: job.setting.mechanism, cause });
    }
    if (outcome.kind === 'refused') throw new PrivacyError('PRIVACY_PARAMETER', outcome.message, outcome);
    return outcome;
  }

  return {
    async describe(setting) {
      const outcome = await run({ setting, trials: 0 });
      if (outcome.kind !== 'description') throw unexpected(setting);
      return outcome;
    },
    async run(setting, trials, onProgress) {
      const result: Trials = { without: new Float64Array(trials), with: new Float64Array(trials) };
      const starts = Array.from({ length: Math.ceil(trials / TRIALS_A_JOB) }, (_, i) => i * TRIALS_A_JOB);
      let done = 0;
      await Promise.all(
        starts.map(async (start) => {
          const share = Math.min(TRIALS_A_JOB, trials - start);
          const outcome = await run({ setting, trials: share });
          if (outcome.kind !== 'trials') throw unexpected(setting);
          result.without.set(outcome.without, start);
          result.with.set(outcome.with, start);
          done += share;
          onProgress(done);
        }),
      );
      return result;
    },
    close: () => pool.destroy(),
  };
}

function unexpected({ mechanism }: AuditSetting): WorkerError {
  return new WorkerError('WORKER_FAILED', 'the audit thread answered another question', { where: mechanism });
}
