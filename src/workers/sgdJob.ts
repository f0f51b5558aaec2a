/** What crosses between the DP-SGD pool and its thread: plain data, and views of shared memory. */
import type { MessagePort } from 'node:worker_threads';
import type { Contract } from '../contract/contract.ts';
import type { LearningErrorCode, PrivacyErrorCode } from '../errors.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { DenseModel } from '../learning/sgd/model.ts';
import type { SgdSettings } from '../learning/sgd/settings.ts';

export interface SgdJob {
  readonly sites: readonly BinnedData[];
  readonly settings: SgdSettings;
  readonly contract: Contract;
  /** Takes one `SgdProgress` after each step. */
  readonly progress: MessagePort;
}

export type SgdOutcome =
  | { readonly ok: true; readonly model: DenseModel }
  | {
      readonly ok: false;
      readonly error:
        | { readonly room: 'learning'; readonly code: LearningErrorCode }
        | { readonly room: 'privacy'; readonly code: PrivacyErrorCode };
      readonly message: string;
      readonly where: string | undefined;
      readonly fix: string | undefined;
    };
