/**
 * The SDK: score transactions in the clear, or encrypted so that the node can read neither them nor their scores.
 *
 * One source for Node and browser: `fetch`, WebCrypto and WebAssembly, no `node:` module.
 * Limit: results of encrypted scoring are rounded (score to 1 of 1000, probability to 1e-4) on purpose. Nothing finer
 * may leave the caller, because exact CKKS decodings help to recover the secret key (Li and Micciancio, EUROCRYPT 2021).
 */
import { type LayoutName, openEncryption, type PresetName, type SecretKey } from '../encryption/encryption.ts';
import { ClientError, EncryptionError } from '../errors.ts';
import { probabilityOf, scoreOf } from '../learning/score.ts';
import { fetchLogits, type Transaction } from './encryptedScoring.ts';
import {
  type Decision,
  type KeyReply,
  parseKey,
  parseModels,
  parseScore,
  type ScoreReply,
  type ServedModel,
} from './replies.ts';
import { openService, type Service, type ServiceOptions } from './service.ts';

export {
  exportSecretKey,
  importSecretKey,
  type LayoutName,
  type PresetName,
  SecretKey,
} from '../encryption/encryption.ts';
export type { Transaction } from './encryptedScoring.ts';
export type { Decision, KeyReply, ScoreReply, ServedModel } from './replies.ts';

export interface ClientOptions extends ServiceOptions {
  /** Needed for `registerKey` and `scoreEncrypted` only; see `createKeys`. */
  readonly secretKey?: SecretKey;
}

export interface EncryptedScore {
  /** Whole points, 0 to 1000, higher is riskier. */
  readonly score: number;
  /** Rounded to 1e-4. */
  readonly probability: number;
  /** By the node's public thresholds; absent when the node publishes none. */
  readonly decision?: Decision;
}

export interface EncryptedOptions {
  /** Chosen by the number of transactions when left out. */
  readonly layout?: LayoutName;
}

export interface Client {
  /** Registers the public half of the secret key; doing so again changes nothing. */
  registerKey(): Promise<KeyReply>;
  /** The node's models, the champion and retired ones, each with its contract. */
  models(): Promise<ServedModel[]>;
  /** Scores one transaction in the clear. The same idempotency key never makes a second decision. */
  score(transaction: Transaction, options?: { id?: string; idempotencyKey?: string }): Promise<ScoreReply>;
  /** Scores transactions under the champion model without showing them; results in order. */
  scoreEncrypted(transactions: readonly Transaction[], options?: EncryptedOptions): Promise<EncryptedScore[]>;
}

/** Refusals after which the model list is fetched again: the champion changed between listing and scoring. */
const STALE_CODES = ['FRAME_MISMATCH', 'MODEL_CONTRACT_MISMATCH', 'CONTRACT_HASH_MISMATCH', 'NOT_FOUND'];

/** A new key pair. It exists only in memory until `exportSecretKey` is called. */
export async function createKeys(preset: PresetName = 'standard'): Promise<SecretKey> {
  return (await openEncryption(preset)).createKeys();
}

/** @throws ClientError of every method; ContractError for transactions that do not fit the contract; EncryptionError */
export function createClient(options: ClientOptions): Client {
  const service = openService(options);
  const champion = championOf(service);
  return {
    async registerKey() {
      const key = requireKey(options);
      const path = '/v1/keys';
      const reply = parseKey(path, await service.postBytes(path, 'application/octet-stream', key.publicKey, 'json'));
      if (reply.keyId === key.keyId && reply.preset === key.preset) return reply;
      throw new ClientError('REPLY_MALFORMED', 'the node registered another key than was sent', { where: path });
    },
    models: () => listModels(service),
    async score(transaction, { id, idempotencyKey = crypto.randomUUID() } = {}) {
      const path = '/v1/scores';
      const body = id === undefined ? { transaction } : { transaction, id };
      return parseScore(path, await service.postJson(path, body, { 'idempotency-key': idempotencyKey }));
    },
    async scoreEncrypted(transactions, { layout } = {}) {
      const { logits, model } = await scoreLogits(service, champion, options, transactions, layout);
      return Array.from(logits, (logit) => present(model, logit));
    },
  };
}

/**
 * DANGER: the raw decodings, for measuring the error of encrypted scoring in tests and demonstrations only.
 *
 * Whoever shows these numbers, or anything computed from them at more than the SDK's precision, to anybody gives up
 * the secrecy of the key that decrypted them. Use a key that is thrown away afterwards.
 */
export async function decryptLogitsForMeasurement(
  options: ClientOptions,
  transactions: readonly Transaction[],
  { layout }: EncryptedOptions = {},
): Promise<Float64Array> {
  const service = openService(options);
  return (await scoreLogits(service, championOf(service), options, transactions, layout)).logits;
}

/** How a champion is found: from memory, or asked for again. */
type Champion = (refresh: boolean) => Promise<ServedModel>;

function championOf(service: Service): Champion {
  let known: Promise<ServedModel> | undefined;
  return async (refresh) => {
    if (known === undefined || refresh) {
      known = listModels(service).then((models) => {
        const champion = models.find((model) => model.status === 'champion');
        if (champion !== undefined) return champion;
        throw new ClientError('SERVICE_REFUSED', 'the node has no model yet', {
          where: '/v1/models',
          serviceCode: 'NO_MODEL',
          fix: 'Try again when a model has been adopted.',
        });
      });
      // A failure is not remembered.
      known.catch(() => {
        known = undefined;
      });
    }
    return known;
  };
}

async function scoreLogits(
  service: Service,
  champion: Champion,
  options: ClientOptions,
  transactions: readonly Transaction[],
  layout: LayoutName | undefined,
): Promise<{ logits: Float64Array; model: ServedModel }> {
  const key = requireKey(options);
  const encryption = await openEncryption(key.preset);
  const model = await champion(false);
  try {
    return { logits: await fetchLogits(service, encryption, key, model, transactions, layout), model };
  } catch (error) {
    if (!(error instanceof ClientError) || !STALE_CODES.includes(error.serviceCode ?? '')) throw error;
    const current = await champion(true);
    if (current.hash === model.hash) throw error;
    return { logits: await fetchLogits(service, encryption, key, current, transactions, layout), model: current };
  }
}

async function listModels(service: Service): Promise<ServedModel[]> {
  const path = '/v1/models';
  return parseModels(path, await service.getJson(path));
}

/** The only form in which a decrypted logit leaves the SDK. */
function present(model: ServedModel, logit: number): EncryptedScore {
  const score = scoreOf(model.scaling, logit);
  const probability = Math.round(probabilityOf(logit, model.scaling.residualBound) * 1e4) / 1e4;
  const thresholds = model.decisionThresholds;
  if (thresholds === undefined) return { score, probability };
  const decision = score >= thresholds.declineFrom ? 'decline' : score >= thresholds.reviewFrom ? 'review' : 'approve';
  return { score, probability, decision };
}

function requireKey(options: ClientOptions): SecretKey {
  if (options.secretKey !== undefined) return options.secretKey;
  throw new EncryptionError('ENCRYPTION_INPUT', 'encrypted scoring needs a secret key', {
    where: 'createClient',
    fix: 'Pass secretKey: await createKeys(), and call registerKey() once.',
  });
}
