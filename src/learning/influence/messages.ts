/**
 * The messages of a scorecard plan of mode `site` in units of records, with the noise that is known to be in them.
 *
 * Limit: what the aggregator has anyway, so whatever is computed from it is post-processing and costs no privacy.
 */
import { approximately } from '../../privacy/rational.ts';
import type { ModelShape } from '../binned.ts';
import { fieldMean, precision } from '../fieldSums.ts';
import { residualGrid, type TrainingPlan } from '../plan.ts';
import { resolutionOf, unitOf } from '../resolution.ts';
import { privacyStatement } from '../statement.ts';

/** What the sites of one round sent, exact integers as they came; those in its sum and no others. */
export type RoundMessages = ReadonlyMap<string, Float64Array>;

export interface Scales {
  /** Of what is released: fields, and their bins or knots. */
  readonly sizes: readonly number[];
  readonly ordered: readonly number[];
  /** Integers of a released count, and of a released gradient, for one record. */
  readonly countUnit: number;
  readonly gradientUnit: number;
  /** Standard deviation of a site's noise in each number, in records. */
  readonly countNoise: number;
  readonly gradientNoise: number;
  /** Largest residual of a record in a round. */
  largestResidual(round: number): number;
}

export function scalesOf(plan: TrainingPlan, contractShape: ModelShape): Scales {
  const { shape } = resolutionOf(contractShape, plan.knots);
  const { sigmaCount, sigmaRound } = privacyStatement(plan);
  const countUnit = unitOf(plan.knots);
  const gradientUnit = countUnit * 2 ** plan.residualBits;
  return {
    ...{ ...shape, countUnit, gradientUnit },
    countNoise: approximately(sigmaCount) / countUnit,
    gradientNoise: approximately(sigmaRound) / gradientUnit,
    largestResidual: (round) => residualGrid(plan, round).residualLimit / 2 ** plan.residualBits,
  };
}

/** A total over records that every field says, its noise included. */
export interface Total {
  readonly value: number;
  /** Standard deviation of its noise. */
  readonly noise: number;
  /** Sum over the fields of the squared distance of their totals from it, in standard deviations: chi-square of K - 1. */
  readonly disagreement: number;
}

/** @param values in records. @param noise standard deviation in each of them. */
export function totalOf(values: Float64Array, sizes: readonly number[], noise: number): Total {
  const value = fieldMean(values, sizes);
  let disagreement = 0;
  let at = 0;
  for (const size of sizes) {
    let field = 0;
    for (let j = 0; j < size; j++) field += values[at++];
    disagreement += (field - value) ** 2 / (size * noise * noise);
  }
  return { value, noise: noise / Math.sqrt(precision(sizes)), disagreement };
}

export function inRecords(values: Float64Array, unit: number): Float64Array {
  return values.map((value) => value / unit);
}

/** Sum of all messages but one. */
export function sumWithout(messages: RoundMessages, without: string | null): Float64Array {
  let sum = new Float64Array(0);
  for (const [site, values] of messages) {
    if (site === without) continue;
    if (sum.length === 0) sum = Float64Array.from(values);
    else for (let at = 0; at < sum.length; at++) sum[at] += values[at];
  }
  return sum;
}
