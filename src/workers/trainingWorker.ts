/**
 * The thread of the training pool: reads the records where they lie, keeps nothing between jobs.
 */
import { checkBinned, selectRows } from '../learning/binned.ts';
import { scoreEdges, scoreHistogram } from '../learning/scoreHistogram.ts';
import { denseScores } from '../learning/sgd/denseEvaluation.ts';
import { denseCentres, denseRelease } from '../learning/sgd/denseRelease.ts';
import { logitsOf, siteCounts, siteGradient } from '../learning/site.ts';
import { boundContributions } from '../privacy/contributions.ts';
import { splitHoldout } from '../privacy/holdout.ts';
import { systemRandom } from '../random.ts';
import { failureOf, sharedMemory } from './thread.ts';
import type { Selection, TrainingJob, TrainingOutcome } from './trainingJob.ts';

export default function run(job: TrainingJob): TrainingOutcome {
  try {
    return { ok: true, result: job.kind === 'select' ? select(job) : histogramOf(job) };
  } catch (error) {
    return failureOf(error);
  }
}

type Job<Kind> = Extract<TrainingJob, { kind: Kind }>;

function histogramOf(job: Exclude<TrainingJob, Job<'select'>>): Float64Array {
  switch (job.kind) {
    case 'counts':
      return siteCounts(job.data);
    case 'gradient':
      return siteGradient(job.data, job.model, job);
    case 'scores':
      return scoreHistogram(logitsOf(job.data, job.model), job.data.labels, scoreEdges(job.model));
    case 'centres':
      return denseCentres(job.plan, job.contract, job.data, job.round, job.weights);
    case 'dense-scores':
      return denseScores(job.plan, job.contract, job.data, job.weights);
    case 'update':
      return denseRelease(job.plan, job.contract, job.data, job.round, job.weights, systemRandom());
  }
}

const SUBJECT_BYTES = 32;

function select({ all, subjects, key, most, holdout }: Job<'select'>): Selection {
  const bytes = Buffer.from(subjects.buffer, subjects.byteOffset, subjects.length);
  const names = Array.from({ length: all.rows }, (_, row) =>
    bytes.toString('latin1', row * SUBJECT_BYTES, (row + 1) * SUBJECT_BYTES),
  );
  const split = splitHoldout(subjects, boundContributions(names, key, most), key, holdout);
  const held = (rows: Uint32Array) => {
    const data = selectRows(all, rows, sharedMemory);
    checkBinned(data);
    return data;
  };
  return { training: held(split.training), holdout: held(split.holdout) };
}
