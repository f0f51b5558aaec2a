/**
 * The thread of the training pool: reads the records where they lie, keeps nothing between jobs.
 *
 * Errors cross the thread boundary as data, because a structured clone loses their class and code.
 */
import { LearningError } from '../errors.ts';
import { siteCounts, siteGradient } from '../learning/site.ts';
import type { TrainingJob, TrainingOutcome } from './trainingJob.ts';

export default function run(job: TrainingJob): TrainingOutcome {
  try {
    const histogram = job.kind === 'counts' ? siteCounts(job.data) : siteGradient(job.data, job.model, job);
    return { ok: true, histogram };
  } catch (error) {
    if (error instanceof LearningError) {
      return { ok: false, code: error.code, message: error.message, where: error.where, fix: error.fix };
    }
    throw error;
  }
}
