/**
 * What a round asks of this bank's records, for each model family: everything that can fail without noise first, and
 * then, once it is paid for, the noise.
 *
 * Limit: between the two steps un-noised. Only what the second one gives may leave the node.
 *
 * GUARANTEES.md: "Scorecard training", "Federated evaluation", "Rotated gradient sums"
 */
import { shapeOf } from '../learning/binned.ts';
import { evaluationRound } from '../learning/modelEvaluation.ts';
import { residualGrid, type TrainingPlan } from '../learning/plan.ts';
import { resolutionOf } from '../learning/resolution.ts';
import { releaseOf } from '../learning/scorecardRelease.ts';
import { denseEvaluation } from '../learning/sgd/denseEvaluation.ts';
import { denseStatement } from '../learning/sgd/denseStatement.ts';
import type { DensePlan } from '../learning/sgd/plan.ts';
import { privacyStatement } from '../learning/statement.ts';
import type { ReleaseTask } from '../participant/port.ts';
import { addNoise, drawAround } from '../privacy/gaussianMechanism.ts';
import type { RandomSource } from '../random.ts';
import type { NodeContext } from './context.ts';
import type { TrainingData } from './trainingData.ts';

/** Draws the noise of a release, once: to be called after the release was paid for. */
export type Noising = (random: RandomSource) => Promise<Float64Array>;

/** From the records of the round's side of the hold-out. */
export async function prepareRelease(
  { training }: Pick<NodeContext, 'training'>,
  data: TrainingData,
  datasetId: number,
  task: ReleaseTask,
): Promise<Noising> {
  const { plan } = task;
  const rows = await data.load(datasetId, task.contract, plan.evaluation?.holdout ?? 0);
  return plan.family === 'scorecard'
    ? scorecardNoising(training, rows, plan, task)
    : denseNoising(training, rows, plan, task);
}

type Training = NodeContext['training'];
type Rows = Awaited<ReturnType<TrainingData['load']>>;

async function scorecardNoising(
  training: Training,
  rows: Rows,
  plan: TrainingPlan,
  { contract, round, model }: ReleaseTask,
): Promise<Noising> {
  const exact = async () => {
    if (model !== null && round === evaluationRound(plan)) return training.scores(rows.holdout, model);
    const { reduce } = resolutionOf(shapeOf(contract), plan.knots);
    if (model === null) return reduce(await training.counts(rows.training));
    return reduce(await training.gradient(rows.training, model, residualGrid(plan, round)));
  };
  const { values, sigmaSquared } = releaseOf(plan, privacyStatement(plan), round, await exact());
  return async (random) => addNoise(values, sigmaSquared, random);
}

async function denseNoising(
  training: Training,
  rows: Rows,
  plan: DensePlan,
  { contract, round, weights }: ReleaseTask,
): Promise<Noising> {
  const task = { plan, contract, round, weights: weights.flat };
  if (round === evaluationRound(plan)) {
    const release = denseEvaluation(plan, await training.denseScores(rows.holdout, task));
    return async (random) => addNoise(release.values, release.sigmaSquared, random);
  }
  const { sigmaSquared, steps } = denseStatement(plan);
  const centres = await training.centres(rows.training, task);
  if (steps === 1) return async (random) => drawAround(centres, sigmaSquared, random);
  // Later steps need the noise of earlier ones; the pass above has shown that the thread can do the first.
  return () => training.update(rows.training, task);
}
