/**
 * The plans that banks train together, whatever the family of their model, and what the rest of the house asks of them.
 */
import { LearningError } from '../errors.ts';
import type { Rational } from '../privacy/rational.ts';
import { parsePlan, type TrainingPlan } from './plan.ts';
import { unitOf } from './resolution.ts';
import { denseStatement } from './sgd/denseStatement.ts';
import { recordSensitivity } from './sgd/gradient.ts';
import { type DensePlan, parseDensePlan } from './sgd/plan.ts';
import { GRID_BITS } from './sgd/statement.ts';
import {
  countSensitivitySquared,
  evaluationSensitivitySquared,
  type PlanStatement,
  privacyStatement,
  type Release,
  roundSensitivitySquared,
} from './statement.ts';

export type FederatedPlan = TrainingPlan | DensePlan;

/** Reads a plan of any family from outside. @throws LearningError TRAINING_INPUT with one issue per rule broken. */
export function parseFederatedPlan(json: unknown): FederatedPlan {
  const family = typeof json === 'object' && json !== null && 'family' in json ? json.family : undefined;
  return family === 'logistic' || family === 'mlp' ? parseDensePlan(json) : parsePlan(json);
}

/** @throws PrivacyError PRIVACY_PARAMETER when no noise that can be drawn keeps the promise. */
export function statementOf(plan: FederatedPlan): PlanStatement {
  return plan.family === 'scorecard' ? privacyStatement(plan) : denseStatement(plan);
}

/** The round in which a plan begins: 0 with bin counts, else 1. */
export function firstRoundOf({ family }: Pick<FederatedPlan, 'family'>): 0 | 1 {
  return family === 'scorecard' ? 0 : 1;
}

/** What is charged for a round. @throws LearningError TRAINING_INPUT when the plan has no such round. */
export function releaseIn(plan: FederatedPlan, { releases }: Pick<PlanStatement, 'releases'>, round: number): Release {
  const release = releases[round - firstRoundOf(plan)];
  if (release !== undefined) return release;
  throw new LearningError('TRAINING_INPUT', 'The plan has no such round.', { where: `round ${round}` });
}

/**
 * A release as a mechanism: L2 sensitivity to one customer, squared, and the noise a bank adds, in released integers.
 */
export interface Mechanism {
  readonly sensitivitySquared: number;
  readonly sigma: Rational | null;
  /** Releases of this kind in the round; more than 1 where a bank takes several private steps. */
  readonly times: number;
  /** Released integers that stand for one record in a bin; of a dense plan, for a gradient of the clipping norm. */
  readonly recordUnit: number;
}

/** @throws LearningError TRAINING_INPUT when the plan has no such round. */
export function mechanismIn(plan: FederatedPlan, round: number): Mechanism {
  const { name } = releaseIn(plan, statementOf(plan), round);
  if (plan.family !== 'scorecard') {
    const { sensitivitySquared, sigma, sigmaEvaluation, steps } = denseStatement(plan);
    if (name === 'evaluation') return evaluationMechanism(plan, sigmaEvaluation);
    const recordUnit = steps === 1 ? plan.encoding.scale : recordSensitivity({ gridBits: GRID_BITS });
    return { sensitivitySquared, sigma, times: steps, recordUnit };
  }
  const { sigmaCount, sigmaRound, sigmaEvaluation } = privacyStatement(plan);
  if (name === 'evaluation') return evaluationMechanism(plan, sigmaEvaluation);
  // Through knots a record counts in units of theirs.
  const unit = unitOf(plan.knots);
  if (name === 'counts') {
    return { sensitivitySquared: countSensitivitySquared(plan), sigma: sigmaCount, times: 1, recordUnit: unit };
  }
  const recordUnit = unit * 2 ** (plan.residualBits - plan.ringShift);
  return { sensitivitySquared: roundSensitivitySquared(plan, round), sigma: sigmaRound, times: 1, recordUnit };
}

function evaluationMechanism(plan: FederatedPlan, sigma: Rational | null): Mechanism {
  return { sensitivitySquared: evaluationSensitivitySquared(plan), sigma, times: 1, recordUnit: 1 };
}
