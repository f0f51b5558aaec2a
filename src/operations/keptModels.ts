/**
 * Models of families this node does not score with: logistic regression and networks trained between banks. They are
 * kept with the evidence of their training and audited; the champion stays what it is.
 *
 * Limit: the REST API scores with scorecards, which can give reasons and be evaluated under encryption. A kept model is
 * its bank's own to use, for instance as ONNX (inference/export.ts).
 */
import { contractHash, parseContract } from '../contract/contract.ts';
import { type DenseModel, denseHash, parseDense } from '../learning/sgd/model.ts';
import type { NodeContext } from './context.ts';
import { evaluationIn, type ListedEvaluation } from './listedEvaluation.ts';
import { refuseOtherHash, refuseOtherTraining, refuseSecondModel } from './modelChecks.ts';
import type { Adopted, Adoption } from './models.ts';

/** Whether a document says it is of a family that is kept; whether it is one shows when it is parsed. */
export function isDense(model: unknown): boolean {
  return typeof model === 'object' && model !== null && 'format' in model && model.format === 'veilrisk-dense/1';
}

/**
 * Stores a model and its audit entry in one transaction. The same model again changes nothing.
 *
 * @throws as `adoptModel`; nothing is written
 */
export async function keepModel(context: NodeContext, adoption: Adoption): Promise<Adopted> {
  const contract = parseContract(adoption.contract);
  const model = parseDense(adoption.model, contract);
  const hash = denseHash(model);
  refuseOtherHash(hash, adoption.expectedHash);
  const { training, family } = model;
  refuseOtherTraining(training, adoption.expectedTraining ?? {});
  const planId = adoption.planId ?? null;
  const audit = await context.store.transaction(async (tx) => {
    const { added } = await tx.models.keep({
      ...{ hash, contractHash: model.contractHash, contract, model, planId },
      ...{ evidence: adoption.evidence ?? null, adoptedAt: context.clock() },
    });
    // After `keep`, whose lock keeps a second adoption out until this one has committed or failed.
    if (planId !== null) refuseSecondModel(planId, hash, await tx.models.list());
    if (!added) return null;
    return tx.append({
      type: 'model.adopt',
      actor: adoption.actor,
      ...(adoption.requestId !== undefined && { requestId: adoption.requestId }),
      modelHash: hash,
      outcome: 'kept',
      details: {
        ...{ family, contractHash: model.contractHash, contract: contract.name, contractVersion: contract.version },
        ...{ planId, planHash: planHashOf(training), epsilon: training.epsilon, delta: training.delta },
      },
    });
  });
  return { hash, adopted: audit !== null, audit };
}

export interface KeptModel {
  hash: string;
  status: 'kept';
  family: DenseModel['family'];
  contractHash: string;
  keptAt: string;
  /** 64 hex; null for a model of this bank alone. */
  planHash: string | null;
  training: { mode: string; sites: number; rounds: number | null; epsilon: number; delta: number };
  /** Of the federated evaluation that was signed with the model; null when there was none, or it failed. */
  evaluation: ListedEvaluation | null;
  /** Weights of the model. */
  parameters: number;
}

/** Last kept first. @throws LearningError MODEL_INVALID when a stored model was changed outside Veilrisk. */
export async function listKept({ store }: Pick<NodeContext, 'store'>): Promise<KeptModel[]> {
  const rows = (await store.models.list()).filter(({ status }) => status === 'kept');
  return rows.map((row) => {
    const contract = parseContract(row.contract);
    const model = parseDense(row.model, contract);
    refuseOtherHash(denseHash(model), row.hash);
    const { mode, sites, epsilon, delta } = model.training;
    return {
      ...{ hash: row.hash, status: 'kept', family: model.family, contractHash: contractHash(contract) },
      ...{ keptAt: row.adoptedAt.toISOString(), planHash: planHashOf(model.training) },
      training: { mode, sites, rounds: 'rounds' in model.training ? model.training.rounds : null, epsilon, delta },
      evaluation: evaluationIn(row.evidence),
      parameters: model.layers.reduce((sum, { weights, biases }) => sum + weights.length + biases.length, 0),
    };
  });
}

function planHashOf(training: DenseModel['training']): string | null {
  return 'planHash' in training ? training.planHash : null;
}
