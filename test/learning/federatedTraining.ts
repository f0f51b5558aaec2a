/**
 * All rounds of a plan of any family in one process: the course and the releases that aggregator and banks run, without
 * what lies between them. Sums of mode `sum` are made in the ring, as secure aggregation makes them.
 *
 * Limit: a process that holds several banks' data is for evaluation and tests.
 */
import type { Contract } from '../../src/contract/contract.ts';
import { LearningError } from '../../src/errors.ts';
import { checkBinned } from '../../src/learning/binned.ts';
import { type Course, courseFor } from '../../src/learning/course.ts';
import type { FederatedPlan } from '../../src/learning/federatedPlan.ts';
import { openSiteReleases, type SiteData } from '../../src/learning/siteRelease.ts';
import { sumOf } from '../../src/learning/train.ts';
import type { RandomSource } from '../../src/random.ts';

export interface FederatedTraining {
  readonly course: Course;
  /** State after the last training round. */
  readonly state: string;
  /** The model document. */
  readonly document: object;
  /** Sum of the last round where it evaluates the model, else null. */
  readonly evaluation: Float64Array | null;
}

/**
 * @param sites one for each bank that is there, `plan.quorum` to `plan.sites` of them. @param randoms one for each.
 * @throws LearningError TRAINING_INPUT, MODEL_INVALID; PrivacyError when no noise that can be drawn keeps the promise.
 */
export function trainTogether(
  sites: readonly SiteData[],
  plan: FederatedPlan,
  contract: Contract,
  randoms: readonly RandomSource[],
): FederatedTraining {
  if (sites.length < plan.quorum || sites.length > plan.sites || randoms.length !== sites.length) {
    throw new LearningError('TRAINING_INPUT', 'the plan needs its quorum of data sets, and a random source for each', {
      where: 'sites',
    });
  }
  for (const { training, holdout } of sites) {
    checkBinned(training);
    checkBinned(holdout);
  }
  const course = courseFor(plan, contract);
  const release = openSiteReleases(plan, contract);
  const sumIn = (round: number, state: string) => {
    const weights = course.weights(round, state);
    const sent = sites.map((data, i) => release(data, round, weights, randoms[i]));
    const bits = course.ringBits(round);
    return bits === 0 ? sumOf(sent) : ringSum(sent, bits);
  };
  let state = course.firstState();
  let counts: Float64Array | null = null;
  for (let round = course.firstRound; round <= plan.rounds; round++) {
    const sum = sumIn(round, state);
    if (round === 0) counts = sum;
    state = course.nextState(state, round, sum, course.needsCounts(round) ? counts : null, sites.length);
  }
  const { evaluation } = course;
  return {
    ...{ course, state, document: course.finish(state).document },
    evaluation: evaluation === null ? null : sumIn(evaluation, state),
  };
}

/** Sum modulo 2^bits, read as integers in [-2^(bits-1), 2^(bits-1)). @param bits 1 to 32. */
export function ringSum(vectors: readonly Float64Array[], bits: number): Float64Array {
  const size = 2 ** bits;
  return sumOf(vectors).map((value) => {
    const rest = ((value % size) + size) % size;
    return rest >= size / 2 ? rest - size : rest;
  });
}
