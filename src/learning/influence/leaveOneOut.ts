/**
 * What the model would have been without one site, to first order; and what it is worth on the others' held-out customers.
 *
 * The rounds' sums without the site are replayed through the same course. The others took their gradients at the weights of
 * the real run, not at those of the replay, so each is moved to where the replay stands by its first-order change, minus
 * Hessian times difference, with the Hessian of independent fields: the curvature p (1 - p) of the base rate in each bin
 * by the others' own noisy counts, and the rest of the logit through its mean. Without it a replay runs away from any
 * optimum. Exact retraining is not possible: the others would have to be asked again. The estimate is first-order in the
 * site's weight and takes no dependence between fields into account (test/learning/influence.test.ts compares it with
 * retraining).
 */
import type { Contract } from '../../contract/contract.ts';
import { shapeOf } from '../binned.ts';
import { courseFor } from '../course.ts';
import type { TrainingPlan } from '../plan.ts';
import { reviveTrainer, type TrainerState } from '../trainer.ts';
import { inRecords, type RoundMessages, type Scales, scalesOf, sumWithout } from './messages.ts';

export interface Replay {
  /** Root mean square, over the portfolio, of how far the logit would move; in logits. */
  readonly logitShift: number;
  /** The same, its mean alone: the part a calibration would notice. */
  readonly meanShift: number;
  /** The same spread over each field, in contract order. */
  readonly fieldShifts: number[];
}

/**
 * @param rounds messages of rounds 0 (counts) to the last gradient round.
 * @returns for each site the model without it; null where nobody else took part in a round.
 */
export function openReplays(
  plan: TrainingPlan,
  contract: Contract,
  rounds: readonly RoundMessages[],
): (site: string) => Replay | null {
  const scales = scalesOf(plan, shapeOf(contract));
  const full = replay(null, plan, contract, rounds, scales, null);
  return (site) => {
    const without = full === null ? null : replay(site, plan, contract, rounds, scales, full);
    if (full === null || without === null) return null;
    const last = full.length - 1;
    const counts = inRecords(sumWithout(rounds[0], site), scales.countUnit);
    const { mean, fields } = differenceOf(without[last], full[last], counts, scales);
    const spreads = fields.map((field) => field.spread);
    const logitShift = Math.sqrt(mean * mean + spreads.reduce((sum, spread) => sum + spread * spread, 0));
    return { logitShift, meanShift: mean, fieldShifts: spreads };
  };
}

/** States before each round and after the last one. @param along states of the real run, whose gradients are moved. */
function replay(
  site: string | null,
  plan: TrainingPlan,
  contract: Contract,
  rounds: readonly RoundMessages[],
  scales: Scales,
  along: readonly TrainerState[] | null,
): TrainerState[] | null {
  const fewest = Math.min(...rounds.map((round) => round.size - (site !== null && round.has(site) ? 1 : 0)));
  if (fewest < 1) return null;
  const course = courseFor({ ...plan, quorum: Math.min(plan.quorum, fewest) }, contract);
  let text = course.firstState();
  const states: TrainerState[] = [];
  for (const [number, messages] of rounds.entries()) {
    states.push(reviveTrainer(JSON.parse(text)));
    const contributors = [...messages.keys()].filter((each) => each !== site);
    const sum = sumWithout(messages, site);
    const taking: RoundMessages = new Map([...rounds[0]].filter(([each]) => contributors.includes(each)));
    const counts = number === 0 ? null : sumWithout(taking, site);
    if (along !== null && counts !== null && number > 1) {
      const moved = responseOf(states[number], along[number], inRecords(counts, scales.countUnit), scales);
      for (let at = 0; at < sum.length; at++) sum[at] += moved[at] * scales.gradientUnit;
    }
    text = course.nextState(text, number, sum, counts, contributors.length);
  }
  states.push(reviveTrainer(JSON.parse(text)));
  return states;
}

/** By how much the gradient of the records behind `counts` changes from the model of `from` to that of `to`. */
function responseOf(to: TrainerState, from: TrainerState, counts: Float64Array, scales: Scales): Float64Array {
  const { mean, fields } = differenceOf(to, from, counts, scales);
  const curvature = from.baseRate * (1 - from.baseRate);
  const change = new Float64Array(counts.length);
  let at = 0;
  for (const field of fields) {
    for (const delta of field.deltas) {
      // The record's logit moves by this bin's part and, on average, by the mean of all others.
      change[at] = -curvature * Math.max(0, counts[at]) * (mean + delta - field.mean);
      at++;
    }
  }
  return change;
}

interface Difference {
  /** Mean over the portfolio of how far the logit moves, fields taken as independent. */
  mean: number;
  fields: { deltas: number[]; mean: number; spread: number }[];
}

function differenceOf(to: TrainerState, from: TrainerState, counts: Float64Array, { sizes }: Scales): Difference {
  let at = 0;
  const fields = sizes.map((size, k) => {
    const own = counts.subarray(at, at + size).map((count) => Math.max(0, count));
    at += size;
    const records = Math.max(
      1,
      own.reduce((sum, count) => sum + count, 0),
    );
    const deltas = Array.from({ length: size }, (_, j) => to.model.weights[k][j] - from.model.weights[k][j]);
    const mean = deltas.reduce((sum, delta, j) => sum + delta * own[j], 0) / records;
    const square = deltas.reduce((sum, delta, j) => sum + (delta - mean) ** 2 * own[j], 0) / records;
    return { deltas, mean, spread: Math.sqrt(square) };
  });
  const intercept = to.model.intercept - from.model.intercept;
  return { mean: intercept + fields.reduce((sum, field) => sum + field.mean, 0), fields };
}
