/** The operator compares completed plans by their signed evaluations. Limit: plans without an evaluation have nothing to show. */
import { LearningError, RequestError } from '../errors.ts';
import { type Candidate, compareModels, type ModelComparison } from '../learning/modelComparison.ts';
import { readEvaluation } from '../learning/modelEvaluation.ts';
import { type Operator, publishedModel } from './trainingPlans.ts';

export type { ComparedModel, ModelComparison } from '../learning/modelComparison.ts';

/** @throws FederationError as fetching a model does; RequestError USAGE for a plan without an evaluation. */
export async function comparePlans(operator: Operator, planIds: readonly string[]): Promise<ModelComparison> {
  if (planIds.length < 2 || new Set(planIds).size !== planIds.length) {
    throw new RequestError('USAGE', 'A comparison needs two or more different plans.', {
      where: 'plan',
      fix: 'veilrisk train compare PLAN PLAN ...',
    });
  }
  const candidates: Candidate[] = [];
  for (const planId of planIds) {
    const { model, evidence } = await publishedModel(operator, planId);
    if (evidence.evaluation === null) {
      throw new RequestError('USAGE', 'The plan has no evaluation, so its model cannot be compared.', {
        where: planId,
        fix: 'Propose plans with an evaluation (the default of veilrisk train propose).',
      });
    }
    candidates.push({ planId, contractHash: contractOf(model), evaluation: readEvaluation(evidence.evaluation) });
  }
  return compareModels(candidates);
}

function contractOf(model: unknown): string {
  if (
    typeof model === 'object' &&
    model !== null &&
    'contractHash' in model &&
    typeof model.contractHash === 'string'
  ) {
    return model.contractHash;
  }
  throw new LearningError('MODEL_INVALID', 'The model names no contract.', { where: 'contractHash' });
}
