/** Dense plans for tests, by the default rules from made-up facts. */
import { type DensePlan, type DensePlanFacts, defaultDensePlan } from '../../../src/learning/sgd/plan.ts';
import { contract } from './cases.ts';

export function densePlan(wishes: Partial<DensePlanFacts> = {}): DensePlan {
  const sites = wishes.sites ?? 4;
  const facts = { contract, family: 'logistic', epsilon: 2, delta: 1e-6, expectedRows: 2000 } as const;
  return defaultDensePlan({ ...facts, ...wishes, sites, quorum: wishes.quorum ?? sites });
}
