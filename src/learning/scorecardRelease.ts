/**
 * One release of one bank under a scorecard plan: the integers that get noise, and the noise.
 *
 * GUARANTEES.md: "Scorecard training", "Federated evaluation"
 */
import { LearningError } from '../errors.ts';
import { approximately, type Rational } from '../privacy/rational.ts';
import { evaluationRound } from './modelEvaluation.ts';
import type { TrainingPlan } from './plan.ts';
import { fitToRing, ringBitsOf } from './ring.ts';
import type { PrivacyStatement } from './statement.ts';

export const GUARANTEE = 'Scorecard training';

/**
 * @param reduced exact sums at the plan's resolution, or the score histogram of an evaluation.
 * @returns `values` to which every bank adds discrete Gaussian noise of `sigmaSquared`.
 */
export function releaseOf(
  plan: TrainingPlan,
  statement: PrivacyStatement,
  round: number,
  reduced: Float64Array,
): { values: Float64Array; sigmaSquared: Rational } {
  const { sigma, sigmaSquared } = noiseOf(plan, statement, round);
  if (ringBitsOf(plan, round) === 0) {
    return { values: reduced, sigmaSquared };
  }
  const shift = isGradient(plan, round) ? plan.ringShift : 0;
  return { values: fitToRing(reduced, plan, shift, approximately(sigma)), sigmaSquared };
}

function isGradient(plan: TrainingPlan, round: number): boolean {
  return round >= 1 && round <= plan.rounds;
}

function noiseOf(plan: TrainingPlan, statement: PrivacyStatement, round: number) {
  const { sigmaCount, sigmaCountSquared, sigmaRound, sigmaRoundSquared } = statement;
  if (round === 0) return { sigma: sigmaCount, sigmaSquared: sigmaCountSquared };
  if (isGradient(plan, round)) return { sigma: sigmaRound, sigmaSquared: sigmaRoundSquared };
  const { sigmaEvaluation, sigmaEvaluationSquared } = statement;
  if (round !== evaluationRound(plan) || sigmaEvaluation === null || sigmaEvaluationSquared === null) {
    throw new LearningError('TRAINING_INPUT', 'The plan has no such round.', { where: `round ${round}` });
  }
  return { sigma: sigmaEvaluation, sigmaSquared: sigmaEvaluationSquared };
}
