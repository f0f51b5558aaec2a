/**
 * The exact sums of a round in a thread of their own, so that scoring never waits for a pass over the records.
 *
 * Records lie in shared memory and are never sent; a job carries the model, its answer the histogram. The sums are bit
 * for bit those of learning/site.ts and learning/scoreHistogram.ts. The thread starts with the first job, and one that
 * dies is replaced. Limit: un-noised, all but `update`. Only what the mechanisms of src/privacy make of it may leave
 * the node.
 */
import type { Piscina } from 'piscina';
import { WorkerError } from '../errors.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { ResidualGrid } from '../learning/plan.ts';
import type { AdditiveModel } from '../learning/site.ts';
import type { Log } from '../log.ts';
import { errorOf, inSharedMemory, openThreads } from './thread.ts';
import type { DenseTask, Selection, SelectionRules, TrainingJob, TrainingOutcome } from './trainingJob.ts';

export interface TrainingPool {
  /** @returns as `siteCounts`. @throws WorkerError WORKER_FAILED when the thread ended or the pool is closed. */
  counts(data: BinnedData): Promise<Float64Array>;
  /** @returns as `siteGradient`. @throws WorkerError WORKER_FAILED; LearningError MODEL_INVALID. */
  gradient(data: BinnedData, model: AdditiveModel, grid: ResidualGrid): Promise<Float64Array>;
  /** Score histogram of a finished model: as `scoreHistogram` on its own grid. @throws as `gradient`. */
  scores(data: BinnedData, model: AdditiveModel): Promise<Float64Array>;
  /** Un-noised: as `denseCentres`. @throws as `gradient`, and PrivacyError. */
  centres(data: BinnedData, task: DenseTask): Promise<Float64Array>;
  /** Un-noised: as `denseScores`. @throws as `gradient`. */
  denseScores(data: BinnedData, task: DenseTask): Promise<Float64Array>;
  /**
   * As `denseRelease`, with the operating system's randomness: what comes back is private, and may be sent once paid
   * for.
   */
  update(data: BinnedData, task: DenseTask): Promise<Float64Array>;
  /**
   * The records that count: at most m of each customer, split into those that train and those that evaluate, in shared
   * memory. Takes over the memory of `all` and `subjects` (32 bytes a row), which the caller must not use any more.
   * @throws WorkerError WORKER_FAILED; LearningError TRAINING_INPUT when a bin or a label is out of range.
   */
  select(all: BinnedData, subjects: Uint8Array, rules: SelectionRules): Promise<Selection>;
  /** Ends the thread; a job under way fails with WORKER_FAILED. */
  close(): Promise<void>;
}

export function openTrainingPool({ log }: { log: Log }): TrainingPool {
  let pool: Piscina | null = null;
  let isClosed = false;
  // Data from elsewhere is copied once, however many rounds read it.
  const copies = new WeakMap<BinnedData, BinnedData>();

  function shared(data: BinnedData): BinnedData {
    const copy = copies.get(data) ?? inSharedMemory(data);
    if (copy !== data) copies.set(data, copy);
    return copy;
  }

  async function run(job: TrainingJob, given: ArrayBuffer[] = []): Promise<Float64Array | Selection> {
    if (isClosed) throw new WorkerError('WORKER_FAILED', 'the training pool is closed', { where: 'training pool' });
    pool ??= openThread(log);
    let outcome: TrainingOutcome;
    try {
      outcome = await pool.run(job, { transferList: given });
    } catch (cause) {
      throw new WorkerError('WORKER_FAILED', 'the training thread ended', {
        where: 'training pool',
        fix: 'Nothing was released; the round is computed again when the aggregator asks for it.',
        cause,
      });
    }
    if (outcome.ok) return outcome.result;
    throw errorOf(outcome);
  }

  // Safe: the worker answers every job but `select` with a histogram.
  const histogram = (job: TrainingJob) => run(job) as Promise<Float64Array>;

  return {
    counts: (data) => histogram({ kind: 'counts', data: shared(data) }),
    gradient: (data, { intercept, weights }, { residualBits, residualLimit }) =>
      histogram({ kind: 'gradient', data: shared(data), model: { intercept, weights }, residualBits, residualLimit }),
    scores: (data, { intercept, weights }) =>
      histogram({ kind: 'scores', data: shared(data), model: { intercept, weights } }),
    centres: (data, task) => histogram({ kind: 'centres', data: shared(data), ...taken(task) }),
    denseScores: (data, task) => histogram({ kind: 'dense-scores', data: shared(data), ...taken(task) }),
    update: (data, task) => histogram({ kind: 'update', data: shared(data), ...taken(task) }),
    select: ({ rows, sizes, bins, labels }, subjects, rules) => {
      const given = [bins, labels, subjects].flatMap(({ buffer }) => (buffer instanceof ArrayBuffer ? buffer : []));
      // Safe: the worker answers `select` with a selection.
      return run(
        { kind: 'select', all: { rows, sizes, bins, labels }, subjects, ...rules },
        given,
      ) as Promise<Selection>;
    },
    async close() {
      isClosed = true;
      await pool?.destroy();
    },
  };
}

/** Nothing else that a caller's object may hold crosses to the thread. */
function taken({ plan, contract, round, weights }: DenseTask): DenseTask {
  return { plan, contract, round, weights };
}

function openThread(log: Log): Piscina {
  const pool = openThreads(new URL('./trainingWorker.ts', import.meta.url), 1);
  pool.on('error', (error: Error) => log.warn({ reason: error.message }, 'training thread replaced'));
  return pool;
}
