/**
 * One fit of one family in one trust mode, with all banks in this process, and the logits of rows it has not seen.
 *
 * Settings come from public facts only: contract, number of training rows, epsilon, delta, banks and mode. Noise is
 * the operating system's. Limit: for evaluation; a process that holds several banks' data is no deployment.
 */
import type { Contract } from '../contract/contract.ts';
import { trainAdaSsp } from '../learning/adassp.ts';
import type { BinnedData } from '../learning/binned.ts';
import { defaultPlan } from '../learning/plan.ts';
import { denseLogits } from '../learning/sgd/model.ts';
import { defaultSgd } from '../learning/sgd/settings.ts';
import { trainSgd } from '../learning/sgd/train.ts';
import { logitsOf } from '../learning/site.ts';
import { trainFederatedInMemory } from '../learning/train.ts';
import { type RandomSource, systemRandom } from '../random.ts';
import type { Family, Mode } from './evaluationJob.ts';

export interface FitSettings {
  readonly contract: Contract;
  readonly family: Family;
  readonly mode: Mode;
  readonly epsilon: number;
  readonly delta: number;
  /** Of mode `sum`: colluding banks and drop-outs the noise allows for. */
  readonly colluders: number;
  readonly dropouts: number;
}

/** Logit of every row of `data`. */
export type Scorer = (data: BinnedData) => Float64Array;

/** @param banks training data of each bank; one bank in mode `single`. */
export function fitFamily(banks: readonly BinnedData[], settings: FitSettings): Scorer {
  const { contract, family, epsilon, delta } = settings;
  const sites = banks.length;
  const mode = settings.mode === 'sum' ? 'sum' : 'site';
  const rows = banks.reduce((sum, bank) => sum + bank.rows, 0);
  const randoms: RandomSource[] = banks.map(() => systemRandom());
  const { colluders, dropouts } = mode === 'sum' ? settings : { colluders: 0, dropouts: 0 };
  const facts = { contract, epsilon, delta, sites, mode, colluders, dropouts } as const;
  switch (family) {
    case 'scorecard': {
      const plan = defaultPlan({ ...facts, quorum: sites - dropouts, expectedRows: rows });
      const model = trainFederatedInMemory(banks, plan, contract, randoms);
      return (data) => logitsOf(data, model);
    }
    case 'adassp': {
      const model = trainAdaSsp(banks, contract, facts, randoms);
      return (data) => logitsOf(data, model);
    }
    case 'logistic':
    case 'mlp': {
      const model = trainSgd(banks, defaultSgd({ ...facts, family, rows }), contract, randoms);
      return (data) => denseLogits(model, data);
    }
  }
}
