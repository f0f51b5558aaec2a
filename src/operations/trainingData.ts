/**
 * The rows a node may train and evaluate on: all labelled records of a data set, at most m of each customer, kept in
 * memory while rounds follow each other, where the training thread chose them and reads them. Un-noised; nothing of it
 * leaves the node. A customer's records are all on one side.
 */
import { type Contract, layoutOf } from '../contract/contract.ts';
import type { Selection } from '../workers/trainingJob.ts';
import type { NodeContext } from './context.ts';

export interface TrainingData {
  /** @param holdout share of the customers that evaluate and do not train, in [0, 1]. */
  load(datasetId: number, contract: Contract, holdout: number): Promise<Selection>;
}

export function openTrainingData({
  store,
  subjectKey,
  training,
}: Pick<NodeContext, 'store' | 'subjectKey' | 'training'>): TrainingData {
  let cached: { datasetId: number; records: number; holdout: number; data: Selection } | null = null;
  return {
    async load(datasetId, contract, holdout) {
      const records = (await store.datasets.byId(datasetId))?.records ?? 0;
      if (cached?.datasetId === datasetId && cached.records === records && cached.holdout === holdout) {
        return cached.data;
      }
      const { sizes } = layoutOf(contract);
      const { rows, bins, labels, subjects } = await store.trainingData(datasetId, sizes.length);
      const rules = { key: subjectKey, most: contract.maxRecordsPerSubject, holdout };
      const data = await training.select({ rows, sizes, bins, labels }, subjects, rules);
      cached = { datasetId, records, holdout, data };
      return data;
    },
  };
}
