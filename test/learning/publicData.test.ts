/**
 * What the scorecard is worth on real data, with the noise it promises: test AUC over seeded 80/20 splits.
 *
 * Splits and noise are seeded, so these figures are constants of the code; the bars leave room for retuning. The bars of
 * the design page are means over five random splits and are measured by `npm run bench:training`.
 */
import { describe, expect, test } from '@jest/globals';
import { auc } from '../../src/learning/evaluation.ts';
import { defaultPlan } from '../../src/learning/plan.ts';
import { logitsOf } from '../../src/learning/site.ts';
import { trainFederatedInMemory } from '../../src/learning/train.ts';
import { dealRows, type PublicName, publicData, seededRandom, splitRows } from '../support/publicData.ts';

const CASES: { name: PublicName; sites: number; splits: number; atLeast: number }[] = [
  { name: 'taiwan', sites: 4, splits: 5, atLeast: 0.77 },
  { name: 'adult', sites: 1, splits: 2, atLeast: 0.907 },
  { name: 'telco', sites: 1, splits: 3, atLeast: 0.843 },
  { name: 'ulb', sites: 1, splits: 3, atLeast: 0.96 },
];

describe.each(CASES)(
  '$name in site mode with $sites banks at epsilon 1, delta 1e-6',
  ({ name, sites, splits, atLeast }) => {
    const real = publicData(name);
    if (real === null) {
      test.skip(`the shared data set ${name} is not in this checkout`, () => {});
      return;
    }
    test(`mean test AUC of ${splits} splits is at least ${atLeast}`, () => {
      const { data, contract } = real;
      let sum = 0;
      for (let split = 1; split <= splits; split++) {
        const { train, test: held } = splitRows(data, split);
        const facts = { contract, epsilon: 1, delta: 1e-6, sites, quorum: sites, expectedRows: train.rows };
        const randoms = Array.from({ length: sites }, (_, site) => seededRandom(100 * split + site));
        const model = trainFederatedInMemory(dealRows(train, sites), defaultPlan(facts), contract, randoms);
        sum += auc(logitsOf(held, model), held.labels);
      }
      expect(sum / splits).toBeGreaterThan(atLeast);
    });
  },
);
