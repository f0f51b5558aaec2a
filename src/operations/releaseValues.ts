/**
 * What a round asks of this bank's records: the un-noised integers and the noise they get, for each model family.
 *
 * Limit: un-noised. Only what `addNoise` makes of it may leave the node.
 */
import { shapeOf } from '../learning/binned.ts';
import { evaluationRound } from '../learning/modelEvaluation.ts';
import { residualGrid } from '../learning/plan.ts';
import { resolutionOf } from '../learning/resolution.ts';
import { releaseOf } from '../learning/scorecardRelease.ts';
import type { PrivacyStatement } from '../learning/statement.ts';
import type { ReleaseTask } from '../participant/port.ts';
import type { Rational } from '../privacy/rational.ts';
import type { NodeContext } from './context.ts';
import type { TrainingData } from './trainingData.ts';

/** From the records of the round's side of the hold-out. */
export async function valuesToRelease(
  { training }: Pick<NodeContext, 'training'>,
  data: TrainingData,
  datasetId: number,
  { plan, contract, round, model }: ReleaseTask,
  statement: PrivacyStatement,
): Promise<{ values: Float64Array; sigmaSquared: Rational }> {
  const rows = await data.load(datasetId, contract, plan.evaluation?.holdout ?? 0);
  if (round === evaluationRound(plan) && model !== null) {
    return releaseOf(plan, statement, round, await training.scores(rows.holdout, model));
  }
  const { reduce } = resolutionOf(shapeOf(contract), plan.knots);
  const exact =
    model === null
      ? await training.counts(rows.training)
      : await training.gradient(rows.training, model, residualGrid(plan, round));
  return releaseOf(plan, statement, round, reduce(exact));
}
