/**
 * A plan as the learning math sees it: parsed once, then one state after the other.
 *
 * States travel as JSON text; JSON numbers written by JavaScript read back as the same binary64, so a stored state is
 * the state.
 */

import { type Contract, contractHash, parseContract } from '../../src/contract/contract.ts';
import { FederationError, VeilriskError } from '../../src/errors.ts';
import { type ModelShape, shapeOf } from '../../src/learning/binned.ts';
import { evaluationRound } from '../../src/learning/modelEvaluation.ts';
import { parsePlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { resolutionOf } from '../../src/learning/resolution.ts';
import { type Scorecard, toModel } from '../../src/learning/scorecard.ts';
import { SCORE_CELLS } from '../../src/learning/scoreHistogram.ts';
import { flatWeights } from '../../src/learning/site.ts';
import { absorbCounts, absorbRound, createTrainer, currentModel, reviveTrainer } from '../../src/learning/trainer.ts';
import { canonicalHash, parseCanonical } from '../protocol/canonical.ts';
import { NO_WEIGHTS, type Weights } from '../protocol/weights.ts';
import type { Plan } from './store/database.ts';

export interface Course {
  readonly plan: TrainingPlan;
  readonly planHash: string;
  readonly contract: Contract;
  readonly shape: ModelShape;
  /** Coordinates of a histogram of counts or gradients, at the resolution of the plan. */
  readonly dimension: number;
  /** Number of the round that evaluates the finished model, or null. */
  readonly evaluation: number | null;
}

/** Throws MESSAGE_MALFORMED or PLAN_REFUSED unless plan and contract are valid, canonical and belong together. */
export function openCourse(planJson: Uint8Array, contractJson: Uint8Array): Course {
  const json = parseCanonical(planJson, 'plan');
  const contractDocument = parseCanonical(contractJson, 'contract');
  try {
    const plan = parsePlan(json);
    const contract = parseContract(contractDocument);
    const hash = planHash(plan);
    if (contractHash(contract) !== plan.contractHash || canonicalHash(json) !== hash) {
      throw new FederationError('PLAN_REFUSED', 'The plan names another contract than the one sent with it.', {
        where: 'contractHash',
        fix: 'Propose the plan with the contract it was made for.',
      });
    }
    const shape = shapeOf(contract);
    // Refuses a plan that does not fit the contract before any site sees it.
    createTrainer(plan, shape);
    return {
      plan,
      planHash: hash,
      contract,
      shape,
      dimension: resolutionOf(shape, plan.knots).total,
      evaluation: evaluationRound(plan),
    };
  } catch (error) {
    if (error instanceof FederationError || !(error instanceof VeilriskError)) throw error;
    throw new FederationError('PLAN_REFUSED', error.message, {
      ...(error.where === undefined ? {} : { where: error.where }),
      ...(error.fix === undefined ? {} : { fix: error.fix }),
      issues: error.issues,
      cause: error,
    });
  }
}

const courses = new Map<string, Course>();
const COURSES_KEPT = 64;

/** The course of a stored plan, which never changes; parsed once per process. */
export function courseOf(plan: Pick<Plan, 'planHash' | 'planJson' | 'contractJson'>): Course {
  let course = courses.get(plan.planHash);
  if (course === undefined) {
    course = openCourse(plan.planJson, plan.contractJson);
    if (courses.size >= COURSES_KEPT) courses.clear();
    courses.set(plan.planHash, course);
  }
  return course;
}

/** Coordinates of the histograms of a round. */
export function dimensionOf(course: Course, round: number): number {
  return round === course.evaluation ? SCORE_CELLS : course.dimension;
}

/** State before the count round. */
export function firstState(course: Course): string {
  return JSON.stringify(createTrainer(course.plan, course.shape));
}

/** State after a round: of counts when `gradient` is null, else of a gradient of the same `sites` contributors. */
export function nextState(state: string, counts: Float64Array, gradient: Float64Array | null, sites: number): string {
  const before = reviveTrainer(JSON.parse(state));
  const after = gradient === null ? absorbCounts(before, counts) : absorbRound(before, gradient, counts, sites);
  return JSON.stringify(after);
}

/** What a site works on in round `number`: nothing in the count round, the finished model in the evaluation. */
export function weightsOf(course: Course, number: number, state: string): Weights {
  if (number === 0) return NO_WEIGHTS;
  const model = number === course.evaluation ? finish(course, state) : currentModel(reviveTrainer(JSON.parse(state)));
  return { intercept: model.intercept, flat: flatWeights(model, course.shape.sizes) };
}

/** The scorecard after the last round. */
export function finish(course: Course, state: string): Scorecard {
  return toModel(reviveTrainer(JSON.parse(state)), course.contract);
}
