/**
 * What one bank releases to evaluate a finished dense model: the score histogram of its held-out customers, on a grid
 * about the model's `scoreCentre`, which the bank computes from the weights itself.
 *
 * GUARANTEES.md: "Federated evaluation"
 */
import type { Contract } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import { approximately, type Rational } from '../../privacy/rational.ts';
import type { BinnedData } from '../binned.ts';
import { fitToRing } from '../ring.ts';
import { DENSE_GRID, scoreEdges, scoreHistogram } from '../scoreHistogram.ts';
import { denseStatement, EVALUATION_RING_BITS } from './denseStatement.ts';
import { encodingOf, featureMapOf } from './features.ts';
import { LARGEST_WEIGHT, networkCentre, networkLogits } from './model.ts';
import { networkOf } from './network.ts';
import { type DensePlan, requireDenseContract } from './plan.ts';

export const GUARANTEE = 'Federated evaluation';

/**
 * Exact counts, un-noised. @param holdout records of customers who train nothing.
 * @throws LearningError TRAINING_INPUT; MODEL_INVALID for weights no model may have, before any record is read: their
 * logits may be no numbers for some records and not for others.
 */
export function denseScores(
  plan: DensePlan,
  contract: Contract,
  holdout: BinnedData,
  weights: Float64Array,
): Float64Array {
  requireDenseContract(plan, contract);
  if (weights.length !== plan.dimension || !weights.every((value) => Math.abs(value) <= LARGEST_WEIGHT)) {
    throw new LearningError('MODEL_INVALID', 'the weights are not those of a model of the plan', { where: 'weights' });
  }
  const encoding = encodingOf(contract);
  const map = featureMapOf(encoding);
  const network = networkOf(map.width, plan.hidden);
  const edges = scoreEdges({ intercept: networkCentre(network, weights, encoding) }, DENSE_GRID);
  return scoreHistogram(networkLogits(network, weights, map, holdout), holdout.labels, edges);
}

/** @returns `values` to which every bank adds discrete Gaussian noise of `sigmaSquared`; in mode `sum` they fit the ring. */
export function denseEvaluation(
  plan: DensePlan,
  exact: Float64Array,
): { values: Float64Array; sigmaSquared: Rational } {
  const { sigmaEvaluation, sigmaEvaluationSquared } = denseStatement(plan);
  if (sigmaEvaluation === null || sigmaEvaluationSquared === null) {
    throw new LearningError('TRAINING_INPUT', 'The plan has no evaluation.', { where: 'evaluation' });
  }
  if (plan.mode === 'site') return { values: exact, sigmaSquared: sigmaEvaluationSquared };
  const ring = { ringBits: EVALUATION_RING_BITS, sites: plan.sites };
  return { values: fitToRing(exact, ring, 0, approximately(sigmaEvaluation)), sigmaSquared: sigmaEvaluationSquared };
}
