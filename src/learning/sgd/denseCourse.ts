/**
 * A dense plan as a course of rounds: what the sum of the banks' encoded updates makes of the weights.
 *
 * Pure: a function of plan, contract and sums. Rounds are 1 to `rounds`, and one more where the plan has an evaluation;
 * there are no counts.
 */
import { canonicalHash } from '../../canonical.ts';
import type { Contract } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import type { Course } from '../course.ts';
import { decodeSum } from '../encoding/gradientCode.ts';
import { type Rotation, rotationOf } from '../encoding/rotation.ts';
import { evaluationRound } from '../modelEvaluation.ts';
import { SCORE_CELLS } from '../scoreHistogram.ts';
import { denseStatement, EVALUATION_RING_BITS, unitScale } from './denseStatement.ts';
import { encodingOf, featureMapOf } from './features.ts';
import { networkOfModel, scoreCentre, toFederatedDense } from './model.ts';
import { networkOf, startWeights } from './network.ts';
import { resultOf, startState, stepped } from './optimizer.ts';
import { type DensePlan, requireDenseContract } from './plan.ts';
import { bankUnit, serverOptimizer, stateOf, stateText } from './strategy.ts';

/**
 * @throws LearningError TRAINING_INPUT when plan and contract do not fit; PrivacyError when no noise keeps the promise.
 */
export function denseCourse(plan: DensePlan, contract: Contract): Course {
  requireDenseContract(plan, contract);
  const planHash = canonicalHash(plan);
  const map = featureMapOf(encodingOf(contract));
  const network = networkOf(map.width, plan.hidden);
  const settings = serverOptimizer(plan, denseStatement(plan));
  const first = startState(startWeights(network, map.largestNorm ** 2, planHash), settings);
  const evaluation = evaluationRound(plan);
  const finish = (state: string) => toFederatedDense(resultOf(stateOf(state)), plan, planHash, contract);
  return {
    ...{ plan, planHash, contract, firstRound: 1, lastRound: evaluation ?? plan.rounds, evaluation },
    dimension: (round) => (round === evaluation ? SCORE_CELLS : plan.dimension),
    ringBits: (round) => (round === evaluation && plan.mode === 'sum' ? EVALUATION_RING_BITS : plan.ringBits),
    needsCounts: () => false,
    firstState: () => stateText(first),
    nextState(state, round, sum, _counts, contributors) {
      const before = stateOf(state);
      if (before.taken !== round - 1 || sum.length !== plan.dimension || contributors < 1) {
        throw new LearningError('TRAINING_INPUT', 'the sum is not the next one of this plan', {
          where: `round ${round}`,
        });
      }
      const rotation = rotationAt(plan, planHash, round);
      const unit = bankUnit(plan) / contributors;
      const gradient = decodeSum(sum, { rotation, scale: unitScale(plan) }).map((value) => value * unit);
      return stateText(stepped(before, gradient, settings));
    },
    weights: (round, state) => ({
      intercept: 0,
      flat: round === evaluation ? networkOfModel(finish(state)).parameters : stateOf(state).weights,
    }),
    finish(state) {
      const document = finish(state);
      return { document, intercept: scoreCentre(document) };
    },
  };
}

/** The rotation of a round, the same at every bank. */
export function rotationAt(plan: DensePlan, planHash: string, round: number): Rotation {
  return rotationOf(plan.dimension, `${planHash}#${round}`);
}
