/**
 * The models of a node: adopt one, list them, and hold the champion ready for scoring.
 *
 * A model is parsed and its hash checked before it is adopted and again when it is loaded, so that a row changed in the
 * database is refused instead of scored with. The champion is kept in memory for `CACHE_MS`; an adoption in this
 * process shows at once, one by another process within that time, and every decision names the model that made it.
 */
import { type Contract, contractHash, layoutOf, parseContract } from '../contract/contract.ts';
import { checkModel, type LinearModel } from '../encryption/model.ts';
import { MAX_INPUT_MASS, PRESETS, type PresetName } from '../encryption/presets.ts';
import { ContractError, LearningError, RequestError, VeilriskError } from '../errors.ts';
import { modelHash, parseScorecard, type Scorecard } from '../learning/scorecard.ts';
import { flatWeights } from '../learning/site.ts';
import type { NodeContext } from './context.ts';
import { isDense, keepModel } from './keptModels.ts';
import { evaluationIn, type ListedEvaluation } from './listedEvaluation.ts';
import { refuseOtherHash, refuseOtherTraining, refuseSecondModel } from './modelChecks.ts';
import { policyHash } from './policy.ts';

export interface Adoption {
  contract: unknown;
  model: unknown;
  /** Refuses the model when its hash is another one, e.g. the one that a signature covers. */
  expectedHash?: string | undefined;
  /**
   * Refuses the model when its `training` block says something else, e.g. than the plan that this node took part in.
   */
  expectedTraining?: Partial<Omit<Scorecard['training'], 'unit'>> | undefined;
  /** Training plan it came from, which gives one model; null for a model of this bank alone. */
  planId?: string | null | undefined;
  /** The aggregator's signature and what it covers, as received. */
  evidence?: Uint8Array | null | undefined;
  /** Who adopts it, for the audit log. */
  actor: string;
  requestId?: string | undefined;
}

export interface Adopted {
  hash: string;
  /** False when nothing changed. */
  adopted: boolean;
  audit: { index: number; leafHash: string } | null;
}

/** A model ready to score with. */
export interface LoadedModel {
  hash: string;
  contract: Contract;
  contractHash: string;
  scorecard: Scorecard;
  /** The same weights over the one-hot dimensions of the contract. */
  linear: LinearModel;
  /**
   * Presets that can carry a transaction of this contract; none when weights or fields are outside the limits of CKKS
   * scoring.
   */
  presets: PresetName[];
}

export interface ListedModel {
  hash: string;
  status: 'champion' | 'retired';
  family: 'scorecard';
  contractHash: string;
  contract: Contract;
  adoptedAt: string;
  training: { mode: string; sites: number; rounds: number; epsilon: number; delta: number };
  /** Of the federated evaluation that was signed with the model; null when there was none, or it failed. */
  evaluation: ListedEvaluation | null;
  scaling: Scorecard['scaling'];
  decisionThresholds: { version: number; hash: string; reviewFrom: number; declineFrom: number };
  encryption: { presets: PresetName[]; dimension: number };
}

const CACHE_MS = 1_000;

interface Cache {
  held: { loaded: LoadedModel; untilMs: number } | null;
  /** Adoptions so far: a read that began before one must not be kept after it. */
  adoptions: number;
}

// Safe: one cache a store, and a loaded model is never changed.
const caches = new WeakMap<object, Cache>();

function cacheOf({ store }: Pick<NodeContext, 'store'>): Cache {
  const cache = caches.get(store) ?? { held: null, adoptions: 0 };
  caches.set(store, cache);
  return cache;
}

/**
 * Makes a scorecard the champion and retires the one before; model, status and audit entry commit together. Adopting
 * the champion again changes nothing. A model of another family is kept and does not become champion (keptModels.ts).
 *
 * @throws ContractError CONTRACT_INVALID, LearningError MODEL_INVALID or MODEL_CONTRACT_MISMATCH, and MODEL_SIGNATURE
 * for a second model of one plan; nothing is written
 */
export async function adoptModel(context: NodeContext, adoption: Adoption): Promise<Adopted> {
  if (isDense(adoption.model)) return keepModel(context, adoption);
  const contract = parseContract(adoption.contract);
  const scorecard = parseScorecard(adoption.model, contract);
  const hash = modelHash(scorecard);
  refuseOtherHash(hash, adoption.expectedHash);
  const { training } = scorecard;
  refuseOtherTraining(training, adoption.expectedTraining ?? {});
  const planId = adoption.planId ?? null;
  const audit = await context.store.transaction(async (tx) => {
    const { previous } = await tx.models.makeChampion({
      hash,
      contractHash: scorecard.contractHash,
      contract,
      model: scorecard,
      planId,
      evidence: adoption.evidence ?? null,
      adoptedAt: context.clock(),
    });
    // After `makeChampion`, whose lock keeps a second adoption out until this one has committed or failed.
    if (planId !== null) refuseSecondModel(planId, hash, await tx.models.list());
    if (previous === hash) return null;
    return tx.append({
      type: 'model.adopt',
      actor: adoption.actor,
      ...(adoption.requestId !== undefined && { requestId: adoption.requestId }),
      modelHash: hash,
      outcome: 'champion',
      details: {
        contractHash: scorecard.contractHash,
        contract: contract.name,
        contractVersion: contract.version,
        planId,
        planHash: training.planHash,
        previous,
        epsilon: training.epsilon,
        delta: training.delta,
      },
    });
  });
  const cache = cacheOf(context);
  cache.held = null;
  cache.adoptions++;
  return { hash, adopted: audit !== null, audit };
}

/** The champion. @throws RequestError NO_MODEL before the first adoption */
export async function champion(context: NodeContext): Promise<LoadedModel> {
  const nowMs = context.clock().getTime();
  const cache = cacheOf(context);
  const { held, adoptions } = cache;
  if (held !== null && nowMs < held.untilMs) return held.loaded;
  const row = await context.store.models.champion();
  if (row === null) {
    throw new RequestError('NO_MODEL', 'This node has not adopted a model yet.', {
      fix: 'Try again when the node has taken part in a training plan that ended.',
    });
  }
  const loaded = held?.loaded.hash === row.hash ? held.loaded : load(row);
  if (cache.adoptions === adoptions) cache.held = { loaded, untilMs: nowMs + CACHE_MS };
  return loaded;
}

/** Scorecards: the champion first, then the retired ones, last adopted first. */
export async function listModels(context: NodeContext): Promise<ListedModel[]> {
  const rows = (await context.store.models.list()).filter(({ status }) => status !== 'kept');
  const { version, reviewFrom, declineFrom } = context.policy;
  const decisionThresholds = { version, hash: policyHash(context.policy), reviewFrom, declineFrom };
  return rows.map((row) => {
    const { hash, contract, scorecard, linear, presets } = load(row);
    const { mode, sites, rounds, epsilon, delta } = scorecard.training;
    return {
      hash,
      status: row.status === 'champion' ? 'champion' : 'retired',
      family: 'scorecard',
      contractHash: scorecard.contractHash,
      contract,
      adoptedAt: row.adoptedAt.toISOString(),
      training: { mode, sites, rounds, epsilon, delta },
      evaluation: evaluationIn(row.evidence),
      scaling: scorecard.scaling,
      decisionThresholds,
      encryption: { presets, dimension: linear.weights.length },
    };
  });
}

function load(row: { hash: string; contract: unknown; model: unknown }): LoadedModel {
  try {
    const contract = parseContract(row.contract);
    const scorecard = parseScorecard(row.model, contract);
    const hash = modelHash(scorecard);
    if (hash !== row.hash) throw new LearningError('MODEL_INVALID', 'The stored model does not have its hash.');
    const weights = flatWeights(scorecard, layoutOf(contract).sizes);
    const linear = { hash, weights, intercept: scorecard.intercept };
    return {
      hash,
      contract,
      contractHash: contractHash(contract),
      scorecard,
      linear,
      presets: presetsFor(linear, contract),
    };
  } catch (cause) {
    if (!(cause instanceof ContractError || cause instanceof LearningError)) throw cause;
    throw new LearningError('MODEL_INVALID', 'A stored model was changed outside Veilrisk.', {
      where: `model ${row.hash}`,
      fix: 'Restore the database from a backup and verify the audit log.',
      cause,
    });
  }
}

function presetsFor(linear: LinearModel, contract: Contract): PresetName[] {
  // The range of a reply is made for this many one-hot fields.
  if (contract.fields.length > MAX_INPUT_MASS) return [];
  try {
    checkModel(linear);
  } catch (cause) {
    if (cause instanceof VeilriskError && cause.code === 'ENCRYPTION_PARAMETER') return [];
    throw cause;
  }
  return Object.values(PRESETS)
    .filter(({ degree }) => linear.weights.length <= degree)
    .map(({ name }) => name);
}
