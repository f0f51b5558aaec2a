/** What a node checks of every model before it adopts or keeps it, whatever its family. */
import { LearningError } from '../errors.ts';

/** @param expected the hash that was announced, or undefined. @throws LearningError MODEL_INVALID. */
export function refuseOtherHash(hash: string, expected: string | undefined): void {
  if (expected === undefined || expected === hash) return;
  throw new LearningError('MODEL_INVALID', 'The model has another hash than the one that was announced.', {
    where: 'model',
    fix: 'Fetch the model again; if it stays different, its source is not to be trusted.',
  });
}

/**
 * A model that states less privacy loss, or other sites, than were agreed on is not the one that was trained.
 * @throws LearningError MODEL_INVALID with one issue for each member that differs.
 */
export function refuseOtherTraining(stated: object, expected: object): void {
  const said = new Map<string, unknown>(Object.entries(stated));
  const wrong = Object.entries(expected).filter(([name, value]) => value !== undefined && said.get(name) !== value);
  if (wrong.length === 0) return;
  const names = wrong.map(([name]) => name);
  throw new LearningError('MODEL_INVALID', `The model states another training: ${names.join(', ')}.`, {
    where: 'model, training',
    fix: 'Ask the aggregator for the model of the plan that was accepted; the one sent is not to be used.',
    issues: wrong.map(([name, value]) => ({
      field: `training.${name}`,
      rule: `must be ${value}, is ${said.get(name)}`,
    })),
  });
}

/** @throws LearningError MODEL_SIGNATURE when the plan gave another model before. */
export function refuseSecondModel(
  planId: string,
  hash: string,
  models: readonly { hash: string; planId: string | null }[],
): void {
  const first = models.find((model) => model.planId === planId && model.hash !== hash);
  if (first === undefined) return;
  throw new LearningError('MODEL_SIGNATURE', 'The plan has given another model before, and a plan gives one.', {
    where: `plan ${planId}: model ${first.hash} was adopted, now comes ${hash}`,
    fix: 'Ask the operator why two models were signed for one plan; the first stays.',
  });
}
