/**
 * What the demo compares the federation with: each bank alone under the same privacy, and all data pooled without any.
 * This is a researcher's view on data nobody owns; its numbers are not private and no node ever computes them.
 */
import { createHmac } from 'node:crypto';
import type { Contract } from '../../contract/contract.ts';
import { layoutOf } from '../../contract/layout.ts';
import type { BinnedData } from '../../learning/binnedData.ts';
import { auc } from '../../learning/evaluation.ts';
import type { TrainingPlan } from '../../learning/plan.ts';
import { logitOf, type Scorecard } from '../../learning/scorecard.ts';
import { trainPlain, trainPrivate } from '../../learning/train.ts';
import { boundContributions } from '../../privacy/contributions.ts';
import type { RandomSource } from '../../random.ts';
import { readRows } from '../importRecords.ts';

export interface LabelledRows {
  data: BinnedData;
  /** Customer key of each row. */
  subjects: string[];
}

/** Reads a labelled file through the contract; rows that do not fit are left out, as the import leaves them out. */
export async function readLabelled(contract: Contract, path: string): Promise<LabelledRows> {
  const { sizes } = layoutOf(contract);
  const bins: Uint16Array[] = [];
  const labels: number[] = [];
  const subjects: string[] = [];
  for await (const row of readRows(contract, path)) {
    if ('issues' in row || row.label === null) continue;
    bins.push(row.bins);
    labels.push(row.label);
    subjects.push(row.subject ?? `line ${labels.length}`);
  }
  const flat = new Uint16Array(bins.length * sizes.length);
  bins.forEach((record, row) => {
    flat.set(record, row * sizes.length);
  });
  return { data: { rows: bins.length, sizes, bins: flat, labels: Uint8Array.from(labels) }, subjects };
}

/** The rows a bank may train on: at most `m` of each customer, chosen by a keyed hash. */
export function bounded({ data, subjects }: LabelledRows, m: number): BinnedData {
  const key = createHmac('sha256', 'veilrisk demo').digest();
  return select(data, boundContributions(subjects, key, m));
}

export function concatenate(parts: readonly BinnedData[]): BinnedData {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const width = parts[0].sizes.length;
  const bins = new Uint16Array(rows * width);
  const labels = new Uint8Array(rows);
  let at = 0;
  for (const part of parts) {
    bins.set(part.bins, at * width);
    labels.set(part.labels, at);
    at += part.rows;
  }
  return { rows, sizes: parts[0].sizes, bins, labels };
}

/** Area under the ROC curve of a model on held-out rows. */
export function aucOn(model: Scorecard, test: BinnedData): number {
  const width = test.sizes.length;
  const logits = new Float64Array(test.rows);
  for (let row = 0; row < test.rows; row++) {
    logits[row] = logitOf(model, test.bins.subarray(row * width, (row + 1) * width));
  }
  return auc(logits, test.labels);
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
  const alone: TrainingPlan = { ...plan, id: `${plan.id}-alone`, sites: 1, quorum: 1 };
  return {
    aucAlone: banks.map((bank) => aucOn(trainPrivate(bank, alone, contract, random), test)),
    aucPooledNonPrivate: aucOn(trainPlain(concatenate(banks), contract), test),
  };
}

function select(data: BinnedData, rows: ArrayLike<number>): BinnedData {
  const width = data.sizes.length;
  const bins = new Uint16Array(rows.length * width);
  const labels = new Uint8Array(rows.length);
  for (let i = 0; i < rows.length; i++) {
    bins.set(data.bins.subarray(rows[i] * width, (rows[i] + 1) * width), i * width);
    labels[i] = data.labels[rows[i]];
  }
  return { rows: rows.length, sizes: data.sizes, bins, labels };
}
