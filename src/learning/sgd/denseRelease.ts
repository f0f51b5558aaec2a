/**
 * What one bank releases in a round of a dense plan.
 *
 * One step a round: the clipped gradient sum of all its records at the round's weights, rotated, encoded and drawn
 * around (encoding/gradientCode.ts). Several steps (McMahan et al. 2017): each takes the noisy sum as its gradient,
 * FedProx with the pull back to the round's weights; the message is the way made, encoded. The number of records is
 * used nowhere.
 *
 * GUARANTEES.md: "Rotated gradient sums"
 */
import { canonicalHash } from '../../canonical.ts';
import type { Contract } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import { addNoise, drawAround } from '../../privacy/gaussianMechanism.ts';
import type { RandomSource } from '../../random.ts';
import type { BinnedData } from '../binned.ts';
import { encodeReleased, encodeSum, type GradientCode } from '../encoding/gradientCode.ts';
import { rotationAt } from './denseCourse.ts';
import { type DenseStatement, denseStatement, unitScale } from './denseStatement.ts';
import { encodingOf, featureMapOf } from './features.ts';
import { gradientSummer } from './gradient.ts';
import { networkOf } from './network.ts';
import { type DensePlan, requireDenseContract } from './plan.ts';
import { GRID_BITS } from './statement.ts';
import { bankUnit } from './strategy.ts';

export const GUARANTEE = 'Rotated gradient sums';

/** Un-noised: the real values around which a round's integers are drawn. Plans of one step a round only. */
export function denseCentres(
  plan: DensePlan,
  contract: Contract,
  data: BinnedData,
  round: number,
  weights: Float64Array,
): Float64Array {
  const { sum, code } = openBank(plan, contract, data, round, weights);
  return encodeSum(sum(weights), code);
}

/** @returns exact integers, `plan.dimension` of them, private: what the bank's message or masked input carries. */
export function denseRelease(
  plan: DensePlan,
  contract: Contract,
  data: BinnedData,
  round: number,
  weights: Float64Array,
  random: RandomSource,
): Float64Array {
  const { sigmaSquared, steps } = denseStatement(plan);
  if (steps === 1) return drawAround(denseCentres(plan, contract, data, round, weights), sigmaSquared, random);
  const { sum, code } = openBank(plan, contract, data, round, weights);
  const { learningRate, proximal } = plan.strategy;
  const unit = bankUnit(plan);
  const here = Float64Array.from(weights);
  for (let step = 0; step < steps; step++) {
    const noisy = addNoise(sum(here), sigmaSquared, random);
    for (let i = 0; i < here.length; i++) {
      here[i] -= learningRate * (noisy[i] * unit + proximal * (here[i] - weights[i]));
    }
  }
  // The way made, as the mean gradient along it, in units of the exact sum.
  const way = here.map((value, i) => (weights[i] - value) / (learningRate * steps * unit));
  return encodeReleased(way, code, random);
}

function openBank(plan: DensePlan, contract: Contract, data: BinnedData, round: number, weights: Float64Array) {
  requireDenseContract(plan, contract);
  if (!(Number.isInteger(round) && round >= 1 && round <= plan.rounds) || weights.length !== plan.dimension) {
    throw new LearningError('TRAINING_INPUT', 'The plan has no such round, or its weights another number.', {
      where: `round ${round}`,
    });
  }
  const map = featureMapOf(encodingOf(contract));
  const network = networkOf(map.width, plan.hidden);
  const rule = { clippingNorm: plan.clippingNorm, gridBits: GRID_BITS };
  const summer = gradientSummer(network, map, data, rule);
  const rows = Int32Array.from({ length: data.rows }, (_, row) => row);
  return {
    sum: (at: Float64Array) => summer.sum(rows, data.rows, at),
    code: codeOf(plan, denseStatement(plan), round),
  };
}

/** How a round's updates are encoded, by every bank alike. */
export function codeOf(plan: DensePlan, { limit }: Pick<DenseStatement, 'limit'>, round: number): GradientCode {
  return { rotation: rotationAt(plan, canonicalHash(plan), round), scale: unitScale(plan), limit };
}
