/**
 * Budget arithmetic: a ledger adds up mu^2 and compares with the mu^2 that its (epsilon, delta) allows.
 *
 * One mu budget for everything released about the same customers: GDP composes exactly (mu^2 add), while splitting
 * (epsilon, delta) and adding the parts wastes 11 to 14 per cent of noise. Sums are rounded up, the limit down.
 *
 * GUARANTEES.md: "Budget"
 */
import { PrivacyError } from '../errors.ts';
import { gdpEpsilon, muFor, roundDown, roundUp, sumUp } from './gdp.ts';

export const GUARANTEE = 'Budget';

/** What one bank allows to be released about the customers of one data set, in total. */
export interface Budget {
  readonly epsilon: number;
  readonly delta: number;
  /** The same limit as mu^2, rounded down. */
  readonly muSquared: number;
}

/** @param epsilon > 0. @param delta in (0, 1). */
export function openBudget(epsilon: number, delta: number): Budget {
  if (!(epsilon > 0)) throw new PrivacyError('PRIVACY_PARAMETER', 'epsilon must be positive', { where: 'epsilon' });
  const mu = muFor(epsilon, delta);
  return { epsilon, delta, muSquared: roundDown(mu * mu) };
}

/** Whether a release of loss `muSquared` still fits after `spent`; an equal sum fits. */
export function canSpend(budget: Budget, spent: number, muSquared: number): boolean {
  if (!(muSquared >= 0) || !(spent >= 0)) return false;
  return sumUp([spent, muSquared]) <= budget.muSquared || (spent === 0 && muSquared <= budget.muSquared);
}

/** @throws PrivacyError BUDGET_EXHAUSTED naming what was asked and what is left, as epsilon at the budget's delta. */
export function requireBudget(budget: Budget, spent: number, muSquared: number, where: string): void {
  if (canSpend(budget, spent, muSquared)) return;
  const asked = epsilonOf(muSquared, budget.delta);
  const used = epsilonOf(spent, budget.delta);
  throw new PrivacyError(
    'BUDGET_EXHAUSTED',
    `the release costs epsilon ${asked.toPrecision(4)} at delta ${budget.delta}; ` +
      `${used.toPrecision(4)} of ${budget.epsilon} is already spent or reserved`,
    { where, fix: 'train with a smaller epsilon, or have the budget of this data set raised by its owner' },
  );
}

/** Epsilon at `delta` of a total loss, rounded up. Losses add as mu^2, so epsilons shown side by side do not add. */
export function epsilonOf(muSquared: number, delta: number): number {
  if (muSquared === 0) return 0;
  return gdpEpsilon(roundUp(Math.sqrt(muSquared)), delta);
}
