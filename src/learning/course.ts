/**
 * A training plan as a course of rounds: how many numbers each one sums up, what the sums make of the model, and what
 * comes out. The one place where a model family meets the machinery of rounds.
 *
 * Pure: a function of plan, contract and sums. States travel as JSON text; JSON numbers written by JavaScript read back as
 * the same binary64, so a stored state is the state.
 */
import type { Contract } from '../contract/contract.ts';
import { shapeOf } from './binned.ts';
import type { FederatedPlan } from './federatedPlan.ts';
import { evaluationRound } from './modelEvaluation.ts';
import { planHash, type TrainingPlan } from './plan.ts';
import { resolutionOf } from './resolution.ts';
import { ringBitsOf } from './ring.ts';
import { toModel } from './scorecard.ts';
import { SCORE_CELLS } from './scoreHistogram.ts';
import { denseCourse } from './sgd/denseCourse.ts';
import { flatWeights } from './site.ts';
import { absorbCounts, absorbRound, createTrainer, currentModel, reviveTrainer, type TrainerState } from './trainer.ts';

/** What sites compute on in a round: an intercept and all weights, one after the other. */
export interface CourseWeights {
  readonly intercept: number;
  readonly flat: Float64Array;
}

export interface Course {
  readonly plan: FederatedPlan;
  /** 64 hex digits. */
  readonly planHash: string;
  readonly contract: Contract;
  /** 0 where the rounds begin with bin counts, else 1. */
  readonly firstRound: number;
  /** The last round of all: the evaluation where there is one. */
  readonly lastRound: number;
  /** Number of the round that evaluates the finished model, or null. */
  readonly evaluation: number | null;
  /** Numbers a site sends in a round. */
  dimension(round: number): number;
  /** Bits of the ring in which a round's values are summed under masks; 0 where each site's message is read by itself. */
  ringBits(round: number): number;
  /** Whether `nextState` of a round needs the sum of round 0 over the same sites. */
  needsCounts(round: number): boolean;
  /** State before the first round. */
  firstState(): string;
  /**
   * State after a training round (not after the evaluation).
   * @param sum exact integers summed over `contributors` sites. @param counts their sum of round 0, where needed.
   * @throws LearningError TRAINING_INPUT.
   */
  nextState(state: string, round: number, sum: Float64Array, counts: Float64Array | null, contributors: number): string;
  /** What sites compute on: nothing (intercept 0, no weights) in round 0, the finished model in the evaluation. */
  weights(round: number, state: string): CourseWeights;
  /**
   * The model document after the last training round; RFC 8785 form and hash are the caller's. `intercept`: about which
   * the scores of an evaluation lie.
   */
  finish(state: string): { readonly document: object; readonly intercept: number };
}

export const NO_WEIGHTS: CourseWeights = { intercept: 0, flat: new Float64Array(0) };

/** @throws LearningError TRAINING_INPUT when plan and contract do not fit each other. */
export function courseFor(plan: FederatedPlan, contract: Contract): Course {
  return plan.family === 'scorecard' ? scorecardCourse(plan, contract) : denseCourse(plan, contract);
}

function scorecardCourse(plan: TrainingPlan, contract: Contract): Course {
  const shape = shapeOf(contract);
  const dimension = resolutionOf(shape, plan.knots).total;
  const evaluation = evaluationRound(plan);
  // The state that comes out of a round goes into its successor, and into its weights: as text each time, parsed once.
  let last: { text: string; state: TrainerState } | undefined;
  const revive = (text: string): TrainerState => {
    if (last?.text !== text) last = { text, state: reviveTrainer(JSON.parse(text)) };
    return last.state;
  };
  const finish = (state: string) => toModel(revive(state), contract);
  // Refuses a plan that does not fit the contract before any site sees it.
  const first = createTrainer(plan, shape);
  return {
    plan,
    planHash: planHash(plan),
    contract,
    firstRound: 0,
    lastRound: evaluation ?? plan.rounds,
    evaluation,
    dimension: (round) => (round === evaluation ? SCORE_CELLS : dimension),
    ringBits: (round) => ringBitsOf(plan, round),
    needsCounts: (round) => round >= 1 && round <= plan.rounds,
    firstState: () => JSON.stringify(first),
    nextState(state, round, sum, counts, contributors) {
      const before = revive(state);
      const after =
        round === 0 ? absorbCounts(before, sum) : absorbRound(before, sum, counts ?? new Float64Array(0), contributors);
      last = { text: JSON.stringify(after), state: after };
      return last.text;
    },
    weights(round, state) {
      if (round === 0) return NO_WEIGHTS;
      const model = round === evaluation ? finish(state) : currentModel(revive(state));
      return { intercept: model.intercept, flat: flatWeights(model, shape.sizes) };
    },
    finish(state) {
      const document = finish(state);
      return { document, intercept: document.intercept };
    },
  };
}
