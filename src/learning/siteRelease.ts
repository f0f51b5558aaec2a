/**
 * What one bank sends in a round: the same function of plan, records, weights and randomness at a node, in a simulation
 * and in a test. A node splits it in two, so that what can fail without noise comes before the budget is charged.
 *
 * GUARANTEES.md: "Scorecard training", "Federated evaluation", "Rotated gradient sums"
 */
import type { Contract } from '../contract/contract.ts';
import { LearningError } from '../errors.ts';
import { addNoise } from '../privacy/gaussianMechanism.ts';
import type { RandomSource } from '../random.ts';
import { type BinnedData, offsetsOf, shapeOf } from './binned.ts';
import type { CourseWeights } from './course.ts';
import type { FederatedPlan } from './federatedPlan.ts';
import { evaluationRound } from './modelEvaluation.ts';
import { residualGrid, type TrainingPlan } from './plan.ts';
import { resolutionOf } from './resolution.ts';
import { releaseOf } from './scorecardRelease.ts';
import { scoreEdges, scoreHistogram } from './scoreHistogram.ts';
import { denseEvaluation, denseScores } from './sgd/denseEvaluation.ts';
import { denseRelease } from './sgd/denseRelease.ts';
import type { DensePlan } from './sgd/plan.ts';
import { type AdditiveModel, logitsOf, siteCounts, siteGradient } from './site.ts';
import { privacyStatement } from './statement.ts';

export const GUARANTEE = 'Scorecard training';

/** One bank's records of a plan; a customer's are all on one side. */
export interface SiteData {
  readonly training: BinnedData;
  /** Read by the evaluation only; no rows without a hold-out. */
  readonly holdout: BinnedData;
}

/** @returns exact integers, `course.dimension(round)` of them: what the bank's message or masked input carries. */
export type SiteReleaser = (
  data: SiteData,
  round: number,
  weights: CourseWeights,
  random: RandomSource,
) => Float64Array;

/** Prepares the releases of one plan; the statement is computed once. */
export function openSiteReleases(plan: FederatedPlan, contract: Contract): SiteReleaser {
  return plan.family === 'scorecard' ? scorecardReleases(plan, contract) : denseReleases(plan, contract);
}

function denseReleases(plan: DensePlan, contract: Contract): SiteReleaser {
  const evaluation = evaluationRound(plan);
  return ({ training, holdout }, round, { flat }, random) => {
    if (round !== evaluation) return denseRelease(plan, contract, training, round, flat, random);
    const { values, sigmaSquared } = denseEvaluation(plan, denseScores(plan, contract, holdout, flat));
    return addNoise(values, sigmaSquared, random);
  };
}

function scorecardReleases(plan: TrainingPlan, contract: Contract): SiteReleaser {
  const statement = privacyStatement(plan);
  const shape = shapeOf(contract);
  const { reduce } = resolutionOf(shape, plan.knots);
  const evaluation = evaluationRound(plan);
  const exact = ({ training, holdout }: SiteData, round: number, weights: CourseWeights) => {
    if (round === 0) return reduce(siteCounts(training));
    const model = additiveModel(weights, shape.sizes);
    if (round !== evaluation) return reduce(siteGradient(training, model, residualGrid(plan, round)));
    return scoreHistogram(logitsOf(holdout, model), holdout.labels, scoreEdges(model));
  };
  return (data, round, weights, random) => {
    const { values, sigmaSquared } = releaseOf(plan, statement, round, exact(data, round, weights));
    return addNoise(values, sigmaSquared, random);
  };
}

/** A single release; see `openSiteReleases` for many. */
export function siteRelease(
  plan: FederatedPlan,
  contract: Contract,
  data: SiteData,
  round: number,
  weights: CourseWeights,
  random: RandomSource,
): Float64Array {
  return openSiteReleases(plan, contract)(data, round, weights, random);
}

/** The weights of a round as the additive model they are. @throws LearningError MODEL_INVALID for another length. */
function additiveModel({ intercept, flat }: CourseWeights, sizes: readonly number[]): AdditiveModel {
  const { offsets, total } = offsetsOf(sizes);
  if (flat.length !== total) {
    throw new LearningError('MODEL_INVALID', `the model must have ${total} weights`, { where: 'weights' });
  }
  return { intercept, weights: sizes.map((size, k) => Array.from(flat.subarray(offsets[k], offsets[k] + size))) };
}
