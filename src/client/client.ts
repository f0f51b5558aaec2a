/**
 * The SDK: score transactions in the clear, or encrypted so that the node can read neither them nor their scores.
 *
 * One source for Node and browser: `fetch`, WebCrypto and WebAssembly, no `node:` module. Everything a partner needs is
 * exported from here; `keyFile.ts` (exported too) keeps the secret key under a passphrase.
 * Limit: results of encrypted scoring are rounded (score to 1 of 1000, probability to 1e-4) on purpose. Nothing finer
 * may leave the caller, because exact CKKS decodings help to recover the secret key (Li and Micciancio, EUROCRYPT 2021).
 */
import { type LayoutName, openEncryption, type PresetName, SecretKey } from '../encryption/encryption.ts';
import { ContractError, EncryptionError, type FieldIssue } from '../errors.ts';
import { probabilityOf, scoreOf } from '../learning/score.ts';
import { type Champion, listModels, openChampion } from './champion.ts';
import { codeEntry, type RawScore, type Transaction } from './encryptedScoring.ts';
import { registerPublicKey, rotatePublicKey } from './keyRegistry.ts';
import { invalid, once } from './options.ts';
import {
  type Decision,
  type KeyReply,
  type KeyState,
  parseKey,
  parseKeys,
  parseScore,
  parseUsage,
  type Rotation,
  type ScoreReply,
  type ServedModel,
  type Usage,
} from './replies.ts';
import { streamLogits } from './scoreStream.ts';
import { openService, type ServiceOptions } from './service.ts';
import type { Source } from './source.ts';
import { nextTurn } from './waiting.ts';

export {
  exportSecretKey,
  importSecretKey,
  type LayoutName,
  type PresetName,
  SecretKey,
} from '../encryption/encryption.ts';
export {
  ClientError,
  type ClientErrorCode,
  ContractError,
  EncryptionError,
  type FieldIssue,
  VeilriskError,
} from '../errors.ts';
export type { Transaction } from './encryptedScoring.ts';
export { openKeyFile, publicPart, sealKeyFile } from './keyFile.ts';
export type { Decision, KeyReply, KeyState, Rotation, ScoreReply, ServedModel, Usage } from './replies.ts';
export type { ServiceOptions } from './service.ts';
export type { Source } from './source.ts';

export interface ClientOptions extends ServiceOptions {
  /**
   * The key pair (`createKeys`, `openKeyFile`), or a callback that fetches it, such as from a vault: asked once, when
   * first needed; when it fails, its error is the caller's and it is asked again. Not needed for `score`, `models`,
   * `keys` and `usage`.
   */
  readonly secretKey?: SecretKey | (() => SecretKey | Promise<SecretKey>);
}

export interface EncryptedScore {
  /** Whole points, 0 to 1000, higher is riskier. */
  readonly score: number;
  /** Rounded to 1e-4. */
  readonly probability: number;
  /** By the node's public thresholds; absent when the node publishes none. */
  readonly decision?: Decision;
  /** The model that scored it, 64 hexadecimal digits: the champion may change between two results of one call. */
  readonly model: { readonly hash: string };
}

/** `position` counts from 0 in the source. `issues`: the transaction does not fit the contract and was not sent. */
export type StreamedScore = { readonly position: number } & (
  | EncryptedScore
  | { readonly issues: readonly FieldIssue[] }
);

export type StreamedScores = AsyncGenerator<StreamedScore, undefined, undefined>;

/** Counts since the call began. */
export interface Progress {
  /** Transactions with a result, whether or not it was taken from the generator yet. */
  scored: number;
  /** Transactions that do not fit the contract. */
  invalid: number;
  /** Requests answered with results. */
  requests: number;
  /** Attempts that failed and were made again. */
  retries: number;
  /** Bytes of bodies, those of repeats included. */
  bytesUp: number;
  bytesDown: number;
}

export interface EncryptedOptions {
  /** Chosen by the number of transactions when left out. */
  readonly layout?: LayoutName;
  /** Stops the call at once with CANCELLED. Requests that were sent may have been counted by the node. */
  readonly signal?: AbortSignal;
  /** Called with a copy after every batch and before every repeat; what it throws ends the call. */
  readonly onProgress?: (progress: Progress) => void;
}

export interface StreamOptions extends EncryptedOptions {
  /** Most transactions of a request, at least 1; as many as one holds when left out: thousands, see `lingerMs`. */
  readonly batch?: number;
  /** Requests that are encrypted, under way or wait for the reader of the generator, 1 to 16; 2 when left out. */
  readonly inFlight?: number;
  /** What a transaction does that the contract refuses: end the call with RECORD_INVALID, or be a result with `issues`. */
  readonly onInvalid?: 'stop' | 'report';
  /**
   * Longest time, in milliseconds, that a transaction of a slow source waits for others to fill its request; without
   * limit when left out, so a live source needs it.
   */
  readonly lingerMs?: number;
}

export interface Client {
  /**
   * Registers the public half of the secret key; doing so again changes nothing.
   *
   * @param options days that the key is usable, 1 to the node's limit, which is taken when left out
   */
  registerKey(options?: { days?: number }): Promise<KeyReply>;
  /** The keys of this API key's owner, newest first. */
  keys(): Promise<KeyState[]>;
  /**
   * Registers `next` in place of the client's key and uses it from then on; the old one ends after the grace time.
   *
   * @param options days as for `registerKey`; graceHours 0 to 720, 24 when left out; 0 also ends what is under
   * way with the old key
   */
  rotateKey(next: SecretKey, options?: { days?: number; graceHours?: number }): Promise<Rotation>;
  /** Ends a key now; the client's own when no key id is given. Doing so again changes nothing. */
  revokeKey(keyId?: string): Promise<KeyState>;
  /** What was scored under each model and what is left, champion first. */
  usage(): Promise<Usage[]>;
  /** The node's models, the champion and retired ones, each with its contract. */
  models(): Promise<ServedModel[]>;
  /** Scores one transaction in the clear. The same idempotency key never makes a second decision. */
  score(transaction: Transaction, options?: { id?: string; idempotencyKey?: string }): Promise<ScoreReply>;
  /**
   * Scores transactions under the champion model without showing them; results in order.
   *
   * @throws ContractError RECORD_INVALID naming the first transaction that does not fit, before anything is sent, unless
   * the contract changes on the way
   */
  scoreEncrypted(transactions: readonly Transaction[], options?: EncryptedOptions): Promise<EncryptedScore[]>;
  /**
   * The same for a source of any length, in bounded memory; results in the source's order.
   *
   * An error comes after the results of everything before it. Leaving the loop early aborts what is under way. Repeats
   * within a call are never counted twice; the same transactions in another call are other ciphertexts, and are counted
   * again.
   */
  scoreEncryptedStream(source: Source, options?: StreamOptions): StreamedScores;
}

/** A new key pair. It exists only in memory until `sealKeyFile` or `exportSecretKey` is called. */
export async function createKeys(preset: PresetName = 'standard'): Promise<SecretKey> {
  return (await openEncryption(preset)).createKeys();
}

/**
 * @throws ClientError OPTION_INVALID. Of every method: ClientError SERVICE_UNREACHABLE, SERVICE_REFUSED with the
 * service's code, REPLY_MALFORMED, CANCELLED; EncryptionError ENCRYPTION_INPUT when a secret key is needed and absent
 */
export function createClient(options: ClientOptions): Client {
  const service = openService(options);
  const champion = openChampion(service);
  let secretKey = secretKeyOf(options);
  const common = { service, champion, secretKey: () => secretKey() };

  async function* scores(source: Source, options: StreamOptions, expected?: number): StreamedScores {
    for await (const raw of streamLogits(common, source, options, expected)) yield present(raw);
    return undefined;
  }

  return {
    registerKey: async (options) => registerPublicKey(service, await secretKey(), options),
    async keys() {
      const path = '/v1/keys';
      return parseKeys(path, await service.json('GET', path));
    },
    async rotateKey(next, options) {
      const { keyId } = await secretKey();
      const rotation = await rotatePublicKey(service, keyId, next, options);
      secretKey = async () => next;
      return rotation;
    },
    async revokeKey(keyId) {
      const id = keyId ?? (await secretKey()).keyId;
      const path = `/v1/keys/${encodeURIComponent(id)}`;
      return parseKey(path, await service.json('DELETE', path), id);
    },
    async usage() {
      const path = '/v1/usage';
      return parseUsage(path, await service.json('GET', path));
    },
    models: () => listModels(service),
    async score(transaction, { id, idempotencyKey = crypto.randomUUID() } = {}) {
      if (!IDEMPOTENCY_KEY.test(idempotencyKey)) throw invalid('idempotencyKey', '1 to 128 visible ASCII characters');
      const path = '/v1/scores';
      const body = id === undefined ? { transaction } : { transaction, id };
      const bytes = new TextEncoder().encode(JSON.stringify(body));
      const call = { headers: { 'idempotency-key': idempotencyKey }, body: { type: 'application/json', bytes } };
      return parseScore(path, await service.json('POST', path, call));
    },
    async scoreEncrypted(transactions, options = {}) {
      await secretKey();
      await requireValid(champion, transactions, options.signal);
      const results: EncryptedScore[] = [];
      const all = { ...options, onInvalid: 'stop' } as const;
      for await (const result of scores(transactions, all, transactions.length)) {
        if ('issues' in result) continue;
        const { position: _, ...score } = result;
        results.push(score);
      }
      return results;
    },
    scoreEncryptedStream: (source, options = {}) => scores(source, options),
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
  { layout }: Pick<EncryptedOptions, 'layout'> = {},
): Promise<Float64Array> {
  const service = openService(options);
  const common = { service, champion: openChampion(service), secretKey: secretKeyOf(options) };
  const logits = new Float64Array(transactions.length);
  const wanted = layout === undefined ? {} : { layout };
  for await (const raw of streamLogits(common, transactions, wanted, transactions.length)) {
    if ('logit' in raw) logits[raw.position] = raw.logit;
  }
  return logits;
}

/** Before the first request, so that a mistake in the last transaction costs nothing. */
async function requireValid(
  champion: Champion,
  transactions: readonly Transaction[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const model = await champion.current(signal);
  for (const [position, transaction] of transactions.entries()) {
    const { coded } = codeEntry(model, position, transaction);
    if (coded instanceof ContractError) throw coded;
    if (position % TRANSACTIONS_A_TURN === 0) await nextTurn();
  }
}

/** Checked without a break: about 10 ms. */
const TRANSACTIONS_A_TURN = 1024;
/** As the API takes it. */
const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,128}$/;

/** The only form in which a decrypted logit leaves the SDK. */
function present(raw: RawScore): StreamedScore {
  const { position } = raw;
  if ('refused' in raw) return { position, issues: raw.refused.issues };
  const { logit, model } = raw;
  const score = scoreOf(model.scaling, logit);
  const probability = Math.round(probabilityOf(logit, model.scaling.residualBound) * 1e4) / 1e4;
  const result = { position, score, probability, model: { hash: model.hash } };
  const thresholds = model.decisionThresholds;
  if (thresholds === undefined) return result;
  const decision = score >= thresholds.declineFrom ? 'decline' : score >= thresholds.reviewFrom ? 'review' : 'approve';
  return { ...result, decision };
}

function secretKeyOf({ secretKey }: ClientOptions): () => Promise<SecretKey> {
  return once(secretKey, (key) => {
    if (key instanceof SecretKey) return key;
    throw new EncryptionError('ENCRYPTION_INPUT', 'encrypted scoring needs a secret key', {
      where: 'createClient',
      fix: 'Pass secretKey: await createKeys(), and call registerKey() once.',
    });
  });
}
