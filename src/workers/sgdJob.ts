/** What crosses between the DP-SGD pool and its thread: plain data, and views of shared memory. */
import type { MessagePort } from 'node:worker_threads';
import type { Contract } from '../contract/contract.ts';
import type { BinnedData } from '../learning/binned.ts';
import type { DenseModel } from '../learning/sgd/model.ts';
import type { SgdSettings } from '../learning/sgd/settings.ts';
import type { JobFailure } from './thread.ts';

export interface SgdJob {
  readonly sites: readonly BinnedData[];
  readonly settings: SgdSettings;
  readonly contract: Contract;
  /** Takes one `SgdProgress` after each step. */
  readonly progress: MessagePort;
}

export type SgdOutcome = { readonly ok: true; readonly model: DenseModel } | JobFailure;
