/**
 * What the demo compares the federation with: each bank alone under the same privacy, and all data pooled without any.
 * This is a researcher's view on data nobody owns; its numbers are not private and no node ever computes them.
 */
import { type Contract, layoutOf } from '../../contract/contract.ts';
import { type BinnedData, poolRows, selectRows } from '../../learning/binned.ts';
import { auc } from '../../learning/evaluation.ts';
import type { TrainingPlan } from '../../learning/plan.ts';
import { type AdditiveModel, logitsOf } from '../../learning/site.ts';
import { trainPlain, trainPrivate } from '../../learning/train.ts';
import { boundContributions } from '../../privacy/contributions.ts';
import type { RandomSource } from '../../random.ts';
import { readRows } from '../readRows.ts';

export interface LabelledRows {
  data: BinnedData;
  /** Customer key of each row; null where the contract has none. */
  subjects: (string | null)[];
}

/** Reads a labelled file through the contract; rows that do not fit are left out, as the import leaves them out. */
export async function readLabelled(contract: Contract, path: string): Promise<LabelledRows> {
  const { sizes } = layoutOf(contract);
  const bins: Uint16Array[] = [];
  const labels: number[] = [];
  const subjects: (string | null)[] = [];
  for await (const row of readRows(contract, path)) {
    if ('issues' in row || row.label === null) continue;
    bins.push(row.bins);
    labels.push(row.label);
    subjects.push(row.subject);
  }
  const flat = new Uint16Array(bins.length * sizes.length);
  bins.forEach((record, row) => {
    flat.set(record, row * sizes.length);
  });
  return { data: { rows: bins.length, sizes, bins: flat, labels: Uint8Array.from(labels) }, subjects };
}

/** The rows a bank may train on: at most `m` of each customer, chosen by keyed hash. */
export function bounded({ data, subjects }: LabelledRows, m: number): BinnedData {
  return selectRows(data, boundContributions(subjects, new Uint8Array(32), m));
}

/** Area under the ROC curve of a model on held-out rows. */
export function aucOn(model: AdditiveModel, test: BinnedData): number {
  return auc(logitsOf(test, model), test.labels);
}

export interface Baselines {
  aucAlone: number[];
  aucPooledNonPrivate: number;
}

export function computeBaselines(
  contract: Contract,
  plan: TrainingPlan,
  banks: readonly BinnedData[],
  test: BinnedData,
  random: RandomSource,
): Baselines {
  return {
    aucAlone: banks.map((bank) => aucOn(trainPrivate(bank, plan, contract, random), test)),
    aucPooledNonPrivate: aucOn(trainPlain(poolRows(banks), contract), test),
  };
}
