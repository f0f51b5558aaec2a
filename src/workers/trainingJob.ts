/** What crosses between the training pool and its thread: plain data, and views of shared memory. */
import type { LearningErrorCode } from '../errors.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { ResidualGrid } from '../learning/plan.ts';
import type { AdditiveModel } from '../learning/site.ts';

export type TrainingJob =
  | { readonly kind: 'counts'; readonly data: BinnedData }
  | (ResidualGrid & { readonly kind: 'gradient'; readonly data: BinnedData; readonly model: AdditiveModel })
  | { readonly kind: 'scores'; readonly data: BinnedData; readonly model: AdditiveModel };

export type TrainingOutcome =
  | { readonly ok: true; readonly histogram: Float64Array }
  | {
      readonly ok: false;
      readonly code: LearningErrorCode;
      readonly message: string;
      readonly where: string | undefined;
      readonly fix: string | undefined;
    };
