/** What crosses between the training pool and its thread: plain data, and views of shared memory. */
import type { Contract } from '../contract/contract.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { ResidualGrid } from '../learning/plan.ts';
import type { DensePlan } from '../learning/sgd/plan.ts';
import type { AdditiveModel } from '../learning/site.ts';
import type { JobFailure } from './thread.ts';

export type TrainingJob =
  | { readonly kind: 'counts'; readonly data: BinnedData }
  | (ResidualGrid & { readonly kind: 'gradient'; readonly data: BinnedData; readonly model: AdditiveModel })
  | { readonly kind: 'scores'; readonly data: BinnedData; readonly model: AdditiveModel }
  | (DenseTask & { readonly kind: 'centres' | 'update' | 'dense-scores'; readonly data: BinnedData })
  | (SelectionRules & { readonly kind: 'select'; readonly all: BinnedData; readonly subjects: Uint8Array });

/** A round of a dense plan. */
export interface DenseTask {
  readonly plan: DensePlan;
  readonly contract: Contract;
  readonly round: number;
  /** Weights of the round. */
  readonly weights: Float64Array;
}

/** Which records of a data set count, and which of them only evaluate. */
export interface SelectionRules {
  /** HMAC key of the node. */
  readonly key: Uint8Array;
  /** Most records of a customer, m. */
  readonly most: number;
  /** Share of the customers that evaluate and do not train, in [0, 1]. */
  readonly holdout: number;
}

export interface Selection {
  /** Counts and gradients read these. */
  readonly training: BinnedData;
  /** The evaluation reads these; no rows without a hold-out. */
  readonly holdout: BinnedData;
}

export type TrainingOutcome = { readonly ok: true; readonly result: Float64Array | Selection } | JobFailure;
