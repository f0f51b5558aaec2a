/**
 * The thread of the training pool: reads the records where they lie, keeps nothing between jobs.
 *
 * Errors cross the thread boundary as data, because a structured clone loses their class and code.
 */
import { LearningError } from '../errors.ts';
import { scoreEdges, scoreHistogram } from '../learning/scoreHistogram.ts';
import { logitsOf, siteCounts, siteGradient } from '../learning/site.ts';
import type { TrainingJob, TrainingOutcome } from './trainingJob.ts';

export default function run(job: TrainingJob): TrainingOutcome {
  try {
    return { ok: true, histogram: histogramOf(job) };
  } catch (error) {
    if (error instanceof LearningError) {
      return { ok: false, code: error.code, message: error.message, where: error.where, fix: error.fix };
    }
    throw error;
  }
}

function histogramOf(job: TrainingJob): Float64Array {
  switch (job.kind) {
    case 'counts':
      return siteCounts(job.data);
    case 'gradient':
      return siteGradient(job.data, job.model, job);
    case 'scores':
      return scoreHistogram(logitsOf(job.data, job.model), job.data.labels, scoreEdges(job.model));
  }
}
