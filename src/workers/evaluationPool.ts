/**
 * Fits for `veilrisk evaluate` in threads of their own. Records lie in shared memory and are never sent.
 *
 * Limit: for researchers. What comes back is exact and hence NOT private.
 */
import { WorkerError } from '../errors.ts';
import type { BoundJob, EvaluationJob, EvaluationOutcome, FitJob, FitResult, ReferenceJob } from './evaluationJob.ts';
import { errorOf, openThreads } from './thread.ts';

export interface EvaluationPool {
  /** @throws LearningError or PrivacyError as the fit did; WorkerError WORKER_FAILED when the thread ended. */
  fit(job: Omit<FitJob, 'kind'>): Promise<FitResult>;
  /** The non-private scorecard on all banks' rows together. */
  reference(job: Omit<ReferenceJob, 'kind'>): Promise<FitResult>;
  /** Row numbers, ascending, with at most `most` of each customer, chosen under a fresh key. */
  bound(job: Omit<BoundJob, 'kind'>): Promise<Uint32Array>;
  /** Ends the threads at once; a job under way fails with WORKER_FAILED. */
  close(): Promise<void>;
}

/** @param threads fits that run side by side, at least 1. */
export function openEvaluationPool(threads: number): EvaluationPool {
  const pool = openThreads(new URL('./evaluationWorker.ts', import.meta.url), threads);
  // The failure is reported by the job that it ended.
  pool.on('error', () => {});

  async function run(job: EvaluationJob): Promise<FitResult | Uint32Array> {
    let outcome: EvaluationOutcome;
    try {
      outcome = await pool.run(job);
    } catch (cause) {
      throw new WorkerError('WORKER_FAILED', 'the evaluation thread ended', {
        where: 'evaluation pool',
        fix: 'Nothing was written. If memory ran out, give fewer --jobs or fewer rows.',
        cause,
      });
    }
    if (outcome.ok) return outcome.value;
    throw errorOf(outcome);
  }

  return {
    // Safe (all three): the worker answers each kind of job with that kind's value.
    fit: (job) => run({ ...job, kind: 'fit' }) as Promise<FitResult>,
    reference: (job) => run({ ...job, kind: 'reference' }) as Promise<FitResult>,
    bound: (job) => run({ ...job, kind: 'bound' }) as Promise<Uint32Array>,
    close: () => pool.destroy(),
  };
}
