/**
 * The scorecard trainer: what the noisy sums of a plan's rounds become, step by step.
 *
 * Everything here sees released sums only, so it is post-processing and costs no privacy. It is a pure function of
 * its inputs: the same sums give the same model on every machine, and the state is plain JSON, so that a restarted
 * aggregator continues where it stopped.
 *
 * The base rate comes out of the first round for free (ascent.ts).
 * Limit: the intercept of a rare label is only as good as that noisy sum; later rounds correct it.
 */
import { LearningError } from '../errors.ts';
import { approximately } from '../privacy/rational.ts';
import { ascend, noisePenalty, type Progress, startProgress } from './ascent.ts';
import type { ModelShape } from './binned.ts';
import { parsePlan, type TrainingPlan } from './plan.ts';
import { resolutionOf, unitOf } from './resolution.ts';
import { type AdditiveModel, flatWeights } from './site.ts';
import { privacyStatement } from './statement.ts';

/** JSON-serialisable; replaced, never changed, by each absorbed sum. */
export interface TrainerState extends Progress {
  readonly format: 'veilrisk-trainer/3';
  readonly plan: TrainingPlan;
  /** That of the contract; what is absorbed and learnt has the plan's resolution of it. */
  readonly shape: ModelShape;
  /** Gradient rounds absorbed. */
  readonly round: number;
  /** Noisy counts of all sites that gave them, in released units; empty before the count round. */
  readonly counts: readonly number[];
}

export function createTrainer(plan: TrainingPlan, shape: ModelShape): TrainerState {
  parsePlan(plan);
  if (shape.sizes.length !== plan.fields || shape.ordered.length !== plan.fields) {
    throw new LearningError('TRAINING_INPUT', 'the plan and the contract have different numbers of fields', {
      where: 'fields',
    });
  }
  return {
    format: 'veilrisk-trainer/3',
    plan,
    shape: { sizes: [...shape.sizes], ordered: [...shape.ordered] },
    round: 0,
    counts: [],
    ...startProgress(resolutionOf(shape, plan.knots).shape),
  };
}

/** The model learnt so far, with a weight for every bin: what sites take the next gradient at. */
export function currentModel({ model, shape, plan }: TrainerState): AdditiveModel {
  return { intercept: model.intercept, weights: resolutionOf(shape, plan.knots).expand(model.weights) };
}

/** Takes the sum of the noisy counts of all sites that sent them. Refused a second time. */
export function absorbCounts(state: TrainerState, sumOfSites: Float64Array): TrainerState {
  requireSum(state, sumOfSites, 'counts');
  if (state.counts.length > 0) throw new LearningError('TRAINING_INPUT', 'the counts were absorbed already');
  return { ...state, counts: Array.from(sumOfSites) };
}

/**
 * Takes the sum of one round's noisy gradients and returns the next state.
 *
 * @param sumGradient integers on the plan's grid in released units, summed over the sites that answered.
 * @param sumCounts noisy counts in released units, summed over THE SAME sites.
 * @param contributing how many sites those are, in [quorum, sites].
 */
export function absorbRound(
  state: TrainerState,
  sumGradient: Float64Array,
  sumCounts: Float64Array,
  contributing: number,
): TrainerState {
  requireSum(state, sumGradient, 'gradient');
  requireSum(state, sumCounts, 'counts');
  const { plan } = state;
  if (state.counts.length === 0) throw new LearningError('TRAINING_INPUT', 'the counts come before the first round');
  if (state.round >= plan.rounds) throw new LearningError('TRAINING_INPUT', 'every round of the plan was absorbed');
  if (!Number.isInteger(contributing) || contributing < plan.quorum || contributing > plan.sites) {
    throw new LearningError('TRAINING_INPUT', 'the number of contributing sites is not between quorum and sites');
  }
  const unit = unitOf(plan.knots);
  const grid = unit * 2 ** (plan.residualBits - plan.ringShift);
  // Every site adds its own noise, so that of the sum grows with the sites that answered.
  const noise = (approximately(privacyStatement(plan).sigmaRound) / grid) * Math.sqrt(contributing);
  const sums = {
    gradient: sumGradient.map((value) => value / grid),
    counts: sumCounts.map((value) => value / unit),
    noise,
    residualBound: plan.residualBound,
  };
  const { shape } = resolutionOf(state.shape, plan.knots);
  const progress = ascend(state, sums, shape, state.round === 0, noisePenalty(noise, plan.rounds));
  return { ...state, ...progress, round: state.round + 1 };
}

/**
 * A state read back from storage.
 *
 * @throws LearningError TRAINING_INPUT when it is not one this trainer wrote.
 */
export function reviveTrainer(json: unknown): TrainerState {
  // Safe: every field that is used is checked below before the value is returned.
  const state = json as TrainerState;
  if (typeof json !== 'object' || json === null || state.format !== 'veilrisk-trainer/3') {
    throw new LearningError('TRAINING_INPUT', 'this is not a trainer state of format veilrisk-trainer/3', {
      where: 'format',
    });
  }
  const fresh = createTrainer(parsePlan(state.plan), state.shape);
  const { total, shape } = resolutionOf(fresh.shape, fresh.plan.knots);
  flatWeights(state.model, shape.sizes);
  flatWeights({ intercept: 0, weights: state.steps }, shape.sizes);
  flatWeights({ intercept: 0, weights: state.velocity }, shape.sizes);
  flatWeights({ intercept: 0, weights: state.noiseVariance }, shape.sizes);
  const countsFit = state.counts.length === 0 || state.counts.length === total;
  const roundFits = Number.isInteger(state.round) && state.round >= 0 && state.round <= fresh.plan.rounds;
  const energyFits = state.noiseEnergy.length === fresh.plan.fields && state.noiseEnergy.every((energy) => energy >= 0);
  if (!countsFit || !energyFits || !roundFits || !(state.baseRate > 0 && state.baseRate < 1)) {
    throw new LearningError('TRAINING_INPUT', 'the trainer state is inconsistent', { where: 'round' });
  }
  return state;
}

function requireSum(state: TrainerState, sum: Float64Array, where: string): void {
  const { total } = resolutionOf(state.shape, state.plan.knots);
  if (sum.length !== total || !sum.every(Number.isFinite)) {
    throw new LearningError('TRAINING_INPUT', `a sum must hold ${total} finite numbers`, { where });
  }
}
