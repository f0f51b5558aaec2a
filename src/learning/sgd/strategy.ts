/**
 * What the aggregator makes of the banks' mean update: the weights of the next round.
 *
 * An update is an estimate of the mean gradient of one record, of a bank's records along its local steps. FedAvg takes
 * the banks' mean way, FedAdam a step of Adam along it; FedProx differs at the banks only. All banks count alike, and
 * sums are divided by public numbers: weights by size would tell the sizes, and let noise and signal differ in size.
 *
 * Everything here sees released sums only: post-processing.
 */
import { approximately } from '../../privacy/rational.ts';
import { type DenseStatement, unitScale } from './denseStatement.ts';
import type { OptimizerSettings, OptimizerState } from './optimizer.ts';
import type { DensePlan } from './plan.ts';
import { GRID_BITS } from './statement.ts';

/** What one unit of an exact sum of a single bank is in the mean gradient of one record of its own. */
export function bankUnit({ clippingNorm, rows, sites }: Pick<DensePlan, 'clippingNorm' | 'rows' | 'sites'>): number {
  return (clippingNorm / 2 ** GRID_BITS) * (sites / rows);
}

/** How the aggregator steps. */
export function serverOptimizer(plan: DensePlan, { sigma, steps }: DenseStatement): OptimizerSettings {
  const { strategy, rounds, sites } = plan;
  const { kind, serverLearningRate, learningRate, localSteps } = strategy;
  // Of the noise of one bank's update, in units of the exact sum.
  const perBank = steps === 1 ? approximately(sigma) / unitScale(plan) : approximately(sigma) / Math.sqrt(steps);
  const noise = (perBank * bankUnit(plan)) / Math.sqrt(sites);
  if (kind === 'fedadam') return { rule: 'adam', learningRate: serverLearningRate, steps: rounds, noise };
  return { rule: 'plain', learningRate: serverLearningRate * learningRate * localSteps, steps: rounds, noise };
}

/** The state as JSON text; numbers read back as the same binary64. */
export function stateText(state: OptimizerState): string {
  const { weights, first, second, mean, taken, averaged } = state;
  const arrays = [weights, first, second, mean].map((values) => Array.from(values));
  return JSON.stringify({ weights: arrays[0], first: arrays[1], second: arrays[2], mean: arrays[3], taken, averaged });
}

/** Reads what `stateText` wrote. */
export function stateOf(text: string): OptimizerState {
  // Safe: states are written by `stateText` and kept by whoever runs the rounds.
  const { weights, first, second, mean, taken, averaged } = JSON.parse(text) as {
    [K in keyof OptimizerState]: OptimizerState[K] extends number ? number : number[];
  };
  return {
    weights: Float64Array.from(weights),
    first: Float64Array.from(first),
    second: Float64Array.from(second),
    mean: Float64Array.from(mean),
    ...{ taken, averaged },
  };
}
