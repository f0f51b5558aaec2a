/**
 * What a simulated federation computes: a training plan over banks' records, or sums of made-up vectors of any dimension.
 *
 * Limit: noise comes from the seed, so that a run can be repeated. It hides nothing from who knows the seed.
 */
import { canonicalHash } from '../../../federated/protocol/canonical.ts';
import { type Course, type CourseWeights, NO_WEIGHTS } from '../../learning/course.ts';
import { openSiteReleases, type SiteData } from '../../learning/siteRelease.ts';
import { seededRandom } from '../../simulator/random.ts';

/** The part of a plan that rounds go by. */
export interface Terms {
  readonly planHash: string;
  readonly sites: number;
  readonly quorum: number;
  /** Shares that open a secret; 0 where nothing is masked. */
  readonly threshold: number;
  readonly deadlineMs: number;
}

export interface Workload {
  readonly terms: Terms;
  readonly firstRound: number;
  readonly lastRound: number;
  dimension(round: number): number;
  /** 0 for a round without masks. */
  ringBits(round: number): number;
  needsCounts(round: number): boolean;
  /** What the sites compute on; of the round that is open, or of round 0. */
  weights(round: number): CourseWeights;
  /** Noised integers of one site, the same for the same site, round and weights. */
  release(site: number, round: number, weights: CourseWeights): Float64Array;
  /** Takes the sum of a round. @param counts over the same sites, where the round needs them. */
  absorb(round: number, sum: Float64Array, counts: Float64Array | null, contributors: number): void;
}

type Finished = ReturnType<Course['finish']>;

/** A plan over the banks' records. `finished` gives the model after the last training round, and null before. */
export interface CourseWorkload extends Workload {
  readonly finished: () => Finished | null;
}

/** @param banks one data set for each site, un-noised; only this process sees them. */
export function courseWorkload(course: Course, banks: readonly SiteData[], seed: number): CourseWorkload {
  const { plan, contract } = course;
  const release = openSiteReleases(plan, contract);
  let state = course.firstState();
  let finished: Finished | null = null;
  return {
    terms: termsOf(course),
    firstRound: course.firstRound,
    lastRound: course.lastRound,
    dimension: (round) => course.dimension(round),
    ringBits: (round) => course.ringBits(round),
    needsCounts: (round) => course.needsCounts(round),
    weights: (round) => course.weights(round, state),
    release(site, round, weights) {
      return release(banks[site], round, weights, seededRandom(seed, `site ${site} round ${round} noise`));
    },
    absorb(round, sum, counts, contributors) {
      if (round === course.evaluation) return;
      state = course.nextState(state, round, sum, counts, contributors);
      if (round === plan.rounds) finished = course.finish(state);
    },
    finished: () => finished,
  };
}

function termsOf({ plan, planHash }: Course): Terms {
  const { sites, quorum, threshold, roundDeadlineMs: deadlineMs } = plan;
  return { planHash, sites, quorum, threshold, deadlineMs };
}

/** Sums of vectors whose every coordinate a site draws anew, as large as the ring allows; nothing is learnt. */
export function vectorWorkload(
  settings: Omit<Terms, 'planHash'> & { dimension: number; bits: number; rounds: number; seed: number },
): Workload {
  const { dimension, bits, rounds, seed, ...terms } = settings;
  // Half of what a site may contribute to a sum that fits the ring.
  const limit = Math.floor(2 ** ((bits === 0 ? 32 : bits) - 2) / terms.sites);
  return {
    terms: { ...terms, planHash: canonicalHash({ vectors: settings }) },
    firstRound: 1,
    lastRound: rounds,
    dimension: () => dimension,
    ringBits: () => bits,
    needsCounts: () => false,
    weights: () => NO_WEIGHTS,
    release(site, round) {
      const random = seededRandom(seed, `site ${site} round ${round} vector`);
      return Float64Array.from({ length: dimension }, () => (random.nextUint32() % (2 * limit + 1)) - limit);
    },
    absorb: () => {},
  };
}
