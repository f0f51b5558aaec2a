/**
 * The rows a node may train and evaluate on: all labelled records of a data set, at most m of each customer, kept in
 * memory while rounds follow each other, where the training thread reads them too. Un-noised; nothing of it leaves the
 * node. A customer's records are all on one side.
 */
import { type Contract, layoutOf } from '../contract/contract.ts';
import { type BinnedData, checkBinned, selectRows } from '../learning/binned.ts';
import { boundContributions } from '../privacy/contributions.ts';
import { SUBJECT_BYTES } from '../store/records.ts';
import { sharedMemory } from '../workers/trainingPool.ts';
import type { NodeContext } from './context.ts';
import { splitHoldout } from './holdout.ts';

export interface BoundedData {
  /** Counts and gradients read these. */
  training: BinnedData;
  /** The evaluation reads these; no rows without a hold-out. */
  holdout: BinnedData;
}

export interface TrainingData {
  /** @param holdout share of the customers that evaluate and do not train, in [0, 1]. */
  load(datasetId: number, contract: Contract, holdout: number): Promise<BoundedData>;
}

export function openTrainingData({ store, subjectKey }: NodeContext): TrainingData {
  let cached: { datasetId: number; records: number; holdout: number; data: BoundedData } | null = null;
  return {
    async load(datasetId, contract, holdout) {
      const records = (await store.datasets.byId(datasetId))?.records ?? 0;
      if (cached?.datasetId === datasetId && cached.records === records && cached.holdout === holdout) {
        return cached.data;
      }
      const { sizes } = layoutOf(contract);
      const rows = await store.trainingData(datasetId, sizes.length);
      const all = { rows: rows.rows, sizes, bins: rows.bins, labels: rows.labels };
      const bounded = boundContributions(subjectNames(rows.subjects), subjectKey, contract.maxRecordsPerSubject);
      const split = splitHoldout(rows.subjects, bounded, subjectKey, holdout);
      const data = {
        training: selectRows(all, split.training, sharedMemory),
        holdout: selectRows(all, split.holdout, sharedMemory),
      };
      checkBinned(data.training);
      checkBinned(data.holdout);
      cached = { datasetId, records, holdout, data };
      return data;
    },
  };
}

function subjectNames(flat: Uint8Array): string[] {
  const bytes = Buffer.from(flat.buffer, flat.byteOffset, flat.length);
  return Array.from({ length: flat.length / SUBJECT_BYTES }, (_, row) =>
    bytes.toString('latin1', row * SUBJECT_BYTES, (row + 1) * SUBJECT_BYTES),
  );
}
