/**
 * Exact sums as integers that fit the ring of secure aggregation: divided, rounded, and cut off where they would not fit.
 *
 * Sums of all banks are made modulo 2^b and read back as integers in [-2^(b-1), 2^(b-1)), so no bank may contribute more
 * than its part of that range, and the noise of all of them has to fit as well. Division happens once, on a bank's exact
 * sum and not on each record, so it costs half a unit of accuracy per bank; in return a neighbouring sum may round to one
 * unit more in each coordinate it differs in, which the stated sensitivity contains (`shiftedSensitivitySquared`).
 * Cutting off moves no two sums apart (it is 1-Lipschitz), so it changes no promise.
 *
 * GUARANTEES.md: "Scorecard training"
 */
import { LearningError, PrivacyError } from '../errors.ts';
import { roundUp } from '../privacy/gdp.ts';
import type { TrainingPlan } from './plan.ts';

export const GUARANTEE = 'Scorecard training';

/** Standard deviations of the noise in a sum that are kept free: more occurs with probability below 1e-80. */
const NOISE_ROOM = 20;

/** Bits of the ring in which a round's values are summed under masks; 0 where each site's message is read by itself. */
export function ringBitsOf(plan: Pick<TrainingPlan, 'mode' | 'ringBits' | 'quorum' | 'sites'>, round: number): number {
  if (plan.mode === 'site') return 0;
  // Counts are needed for every set of banks that makes a round. Where banks may be absent, each bank's are private by
  // themselves and charged as such (statement.ts), and a sum over one set would not do for another.
  if (round === 0 && plan.quorum < plan.sites) return 0;
  return plan.ringBits;
}

/** Largest magnitude of a coordinate a bank may contribute. @param sigma of the noise each bank adds. */
export function ringLimit(plan: Pick<TrainingPlan, 'ringBits' | 'sites'>, sigma: number): number {
  const room = 2 ** (plan.ringBits - 1) - 1 - Math.ceil(NOISE_ROOM * sigma * Math.sqrt(plan.sites));
  const limit = Math.floor(room / plan.sites);
  if (limit >= 1) return limit;
  throw new PrivacyError('PRIVACY_PARAMETER', 'the noise of all banks does not fit the ring', {
    where: 'ringBits',
    fix: 'use more ring bits, a larger ring shift, a larger epsilon, or fewer records per customer',
  });
}

/** A bank's exact sum as it is released, before noise. @param shift 0 leaves the integers as they are. */
export function fitToRing(
  exact: Float64Array,
  plan: Pick<TrainingPlan, 'ringBits' | 'sites'>,
  shift: number,
  sigma: number,
): Float64Array {
  if (!exact.every(Number.isSafeInteger)) {
    throw new LearningError('TRAINING_INPUT', 'only integers can be fitted to a ring', { where: 'ring' });
  }
  const limit = ringLimit(plan, sigma);
  const divisor = 2 ** shift;
  return exact.map((value) => Math.max(-limit, Math.min(limit, Math.round(value / divisor))));
}

/**
 * Square of the L2 sensitivity after division by 2^shift, rounded up.
 * @param squared before it. @param touched coordinates in which neighbouring sums differ at most.
 */
export function shiftedSensitivitySquared(squared: number, shift: number, touched: number): number {
  if (shift === 0) return squared;
  return roundUp(roundUp(roundUp(Math.sqrt(squared)) / 2 ** shift + roundUp(Math.sqrt(touched))) ** 2);
}
