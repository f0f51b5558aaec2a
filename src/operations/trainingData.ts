/**
 * The rows a node may train on: all labelled records of a data set, at most m of each customer, kept in memory while
 * rounds follow each other, where the training thread reads them too. Un-noised; nothing of it leaves the node.
 */
import { type Contract, layoutOf } from '../contract/contract.ts';
import { type BinnedData, checkBinned, selectRows } from '../learning/binned.ts';
import { boundContributions } from '../privacy/contributions.ts';
import { SUBJECT_BYTES } from '../store/records.ts';
import { sharedMemory } from '../workers/trainingPool.ts';
import type { NodeContext } from './context.ts';

export interface TrainingData {
  load(datasetId: number, contract: Contract): Promise<BinnedData>;
}

export function openTrainingData({ store, subjectKey }: NodeContext): TrainingData {
  let cached: { datasetId: number; records: number; data: BinnedData } | null = null;
  return {
    async load(datasetId, contract) {
      const records = (await store.datasets.byId(datasetId))?.records ?? 0;
      if (cached?.datasetId === datasetId && cached.records === records) return cached.data;
      const { sizes } = layoutOf(contract);
      const rows = await store.trainingData(datasetId, sizes.length);
      const all = { rows: rows.rows, sizes, bins: rows.bins, labels: rows.labels };
      const subjects = subjectNames(rows.subjects);
      const data = selectRows(
        all,
        boundContributions(subjects, subjectKey, contract.maxRecordsPerSubject),
        sharedMemory,
      );
      checkBinned(data);
      cached = { datasetId, records, data };
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
