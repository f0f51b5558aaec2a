/** What crosses between the evaluation pool and its threads: plain data, and views of shared memory. */
import type { Contract } from '../contract/contract.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { JobFailure } from './thread.ts';

export const FAMILIES = ['scorecard', 'logistic', 'mlp', 'adassp'] as const;
export type Family = (typeof FAMILIES)[number];

/** `single`: one bank holds everything. `site`, `sum`: the trust modes of a plan. */
export const MODES = ['site', 'sum', 'single'] as const;
export type Mode = (typeof MODES)[number];

/** Which rows of the data are trained on, by which bank, and which are kept for the test; shared memory. */
export interface RowsOfFit {
  /** One list of row numbers per bank. */
  readonly banks: readonly Uint32Array[];
  readonly test: Uint32Array;
}

export interface FitJob extends RowsOfFit {
  readonly kind: 'fit';
  readonly data: BinnedData;
  readonly contract: Contract;
  readonly family: Family;
  readonly mode: Mode;
  readonly epsilon: number;
  readonly delta: number;
  readonly colluders: number;
  readonly dropouts: number;
}

export interface ReferenceJob extends RowsOfFit {
  readonly kind: 'reference';
  readonly data: BinnedData;
  readonly contract: Contract;
}

export interface BoundJob {
  readonly kind: 'bound';
  /** Number of the customer of each row. */
  readonly customers: Uint32Array;
  readonly most: number;
}

export type EvaluationJob = FitJob | ReferenceJob | BoundJob;

/** Test AUC of one fit, exact and hence NOT private, and the seconds that training alone took. */
export interface FitResult {
  readonly auc: number;
  readonly seconds: number;
}

export type EvaluationOutcome = { readonly ok: true; readonly value: FitResult | Uint32Array } | JobFailure;
