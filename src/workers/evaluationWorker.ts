/**
 * A thread of the evaluation pool: reads the rows where they lie, fits, scores the test rows, keeps no row of them.
 */
import { type BinnedData, poolRows, selectRows } from '../learning/binned.ts';
import { auc } from '../learning/evaluation.ts';
import { logitsOf } from '../learning/site.ts';
import { trainPlain } from '../learning/train.ts';
import { boundContributions } from '../privacy/contributions.ts';
import { systemRandom } from '../random.ts';
import { fitFamily, type Scorer } from './evaluationFit.ts';
import type { EvaluationJob, EvaluationOutcome, FitJob, FitResult, ReferenceJob } from './evaluationJob.ts';
import { failureOf } from './thread.ts';

export default function run(job: EvaluationJob): EvaluationOutcome {
  try {
    return { ok: true, value: job.kind === 'bound' ? bound(job.customers, job.most) : measure(job) };
  } catch (error) {
    return failureOf(error);
  }
}

function measure(job: FitJob | ReferenceJob): FitResult {
  const banks = job.banks.map((rows) => selectRows(job.data, rows));
  const test = selectRows(job.data, job.test);
  warmUp(job, banks);
  const start = performance.now();
  const score = job.kind === 'fit' ? fitFamily(banks, job) : reference(poolRows(banks), job);
  const seconds = (performance.now() - start) / 1000;
  return { auc: auc(score(test), test.labels), seconds };
}

const warm = new Set<string>();
const WARM_UP_ROWS = 2000;

/** One fit on a few rows, so that the first measured one is not that of code not yet compiled. */
function warmUp(job: FitJob | ReferenceJob, banks: readonly BinnedData[]): void {
  const what = job.kind === 'fit' ? job.family : job.kind;
  if (warm.has(what)) return;
  warm.add(what);
  const few = banks.map((bank) =>
    selectRows(
      bank,
      Uint32Array.from({ length: Math.min(bank.rows, WARM_UP_ROWS) }, (_, row) => row),
    ),
  );
  if (job.kind === 'fit') fitFamily(few, job);
  else reference(poolRows(few), job);
}

function reference(pooled: BinnedData, { contract }: ReferenceJob): Scorer {
  const model = trainPlain(pooled, contract);
  return (data) => logitsOf(data, model);
}

/** The rows that training may use, under a key that is forgotten; a customer's number stands for the customer. */
function bound(customers: Uint32Array, most: number): Uint32Array {
  const key = new Uint8Array(32);
  systemRandom().fill(key);
  return boundContributions(Array.from(customers, String), key, most);
}
