/**
 * From transactions to logits over ciphertexts: contract, encoding, layout, upload, decryption of one batch.
 *
 * A batch is made for the champion; when the node refuses it as made for another model, what is left of it is checked
 * against the new contract and encrypted again. A request that may have been answered is only ever repeated as the
 * same bytes (service.ts), so nothing is counted twice.
 * Limit: what this returns is the raw decoding of a CKKS ciphertext. It stays inside the SDK (client.ts rounds it) and
 * the measurement of errors; see encryption/THREATS.md on IND-CPA-D.
 */
import { binRecord, layoutOf } from '../contract/contract.ts';
import {
  type FrameHeader,
  type LayoutName,
  MAX_INPUT_MASS,
  MEDIA_TYPE,
  maxTransactions,
  openEncryption,
  PRESETS,
  type PresetName,
  type SecretKey,
  type SparseVector,
} from '../encryption/encryption.ts';
import { ClientError, ContractError } from '../errors.ts';
import type { Champion } from './champion.ts';
import { chooseLayout } from './layout.ts';
import type { ServedModel } from './replies.ts';
import type { Call, Service } from './service.ts';
import { inTurns } from './waiting.ts';

/** A record with the contract's fields; a field that is left out or null is missing. */
export type Transaction = Readonly<Record<string, unknown>>;

/** A transaction at its place in the source, coded by a contract or refused by it. */
export interface Entry {
  readonly position: number;
  readonly transaction: Transaction;
  readonly contractHash: string;
  readonly coded: SparseVector | ContractError;
}

/** One transaction's outcome inside the SDK. */
export type RawScore = { readonly position: number } & (
  | { readonly logit: number; readonly model: ServedModel }
  | { readonly refused: ContractError }
);

/** What one call of the SDK scores with. */
export interface Scoring {
  readonly service: Service;
  readonly champion: Champion;
  /** The client's key now; a rotation changes it. */
  readonly secretKey: () => Promise<SecretKey>;
  readonly layout: LayoutName | undefined;
  readonly call: Call;
  /** Runs one piece of encryption at a time, in the order asked for. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
}

const PATH = '/v1/scores/encrypted';
/** Refusals of a request for a model or contract that is not the champion's any more. */
const STALE_CODES = ['FRAME_MISMATCH', 'MODEL_CONTRACT_MISMATCH', 'CONTRACT_HASH_MISMATCH', 'NOT_FOUND'];
/** Champions that one batch is encrypted for before the last refusal is the caller's. */
const MOST_CHAMPIONS = 4;

export function codeEntry(model: ServedModel, position: number, transaction: Transaction): Entry {
  const { contract, contractHash } = model;
  const common = { position, transaction, contractHash };
  try {
    const { offsets } = layoutOf(contract);
    const { bins } = binRecord(contract, transaction);
    return { ...common, coded: Array.from(bins, (bin, field) => [offsets[field] + bin, 1] as const) };
  } catch (error) {
    if (!(error instanceof ContractError)) throw error;
    const { code, message, issues, fix } = error;
    const detail = { where: `transaction ${position}`, issues, ...(fix === undefined ? {} : { fix }) };
    return { ...common, coded: new ContractError(code, message, detail) };
  }
}

/**
 * The outcomes of a batch, in order.
 *
 * @param stopAtRefused end with the first transaction that the contract refuses, and do not send what comes after it
 * @throws ClientError; EncryptionError
 */
export async function scoreBatch(
  scoring: Scoring,
  batch: readonly Entry[],
  stopAtRefused: boolean,
): Promise<RawScore[]> {
  const { signal } = scoring.call;
  const outcomes: RawScore[] = [];
  let model = await scoring.champion.current(signal);
  let champions = 1;
  for (let left = batch; left.length > 0; ) {
    left = left.map((entry) =>
      entry.contractHash === model.contractHash ? entry : codeEntry(model, entry.position, entry.transaction),
    );
    if (stopAtRefused) left = untilRefused(left);
    const plan = planOf(await scoring.secretKey(), model, left.filter(isValid).length, scoring.layout);
    const request = firstRequest(left, plan.most);
    try {
      outcomes.push(...(await scoreRequest(scoring, plan, request)));
    } catch (error) {
      if (!(error instanceof ClientError) || !STALE_CODES.includes(error.serviceCode ?? '')) throw error;
      const current = await scoring.champion.after(model.hash, signal);
      if (current.hash === model.hash || ++champions > MOST_CHAMPIONS) throw error;
      model = current;
      continue;
    }
    left = left.slice(request.length);
  }
  return outcomes;
}

/** How so many transactions are sent; the last request of several may hold fewer. */
export interface Plan {
  readonly key: SecretKey;
  readonly model: ServedModel;
  readonly dimension: number;
  readonly layout: LayoutName;
  /** Transactions that one request holds. */
  readonly most: number;
}

/** @throws ClientError REPLY_MALFORMED when the model cannot be scored under this key */
export function planOf(key: SecretKey, model: ServedModel, transactions: number, wanted: LayoutName | undefined): Plan {
  const dimension = usableDimension(model, key.preset);
  const layout = wanted ?? chooseLayout(key.preset, dimension, Math.max(1, transactions));
  return { key, model, dimension, layout, most: maxTransactions(key.preset, layout, dimension) };
}

function isValid({ coded }: Entry): boolean {
  return !(coded instanceof ContractError);
}

function untilRefused(entries: readonly Entry[]): readonly Entry[] {
  const refused = entries.findIndex((entry) => !isValid(entry));
  return refused < 0 ? entries : entries.slice(0, refused + 1);
}

/** As many of the first entries as one request can score, and the refused ones between them. */
function firstRequest(entries: readonly Entry[], most: number): readonly Entry[] {
  let valid = 0;
  const end = entries.findIndex((entry) => isValid(entry) && ++valid > most);
  return end < 0 ? entries : entries.slice(0, end);
}

/** Entries of which at most one request's number are valid. */
async function scoreRequest(scoring: Scoring, plan: Plan, entries: readonly Entry[]): Promise<RawScore[]> {
  const vectors = entries.flatMap(({ coded }) => (coded instanceof ContractError ? [] : [coded]));
  const logits = vectors.length === 0 ? [] : await fetchLogits(scoring, plan, vectors);
  let next = 0;
  return entries.map(({ position, coded }) =>
    coded instanceof ContractError
      ? { position, refused: coded }
      : { position, logit: logits[next++], model: plan.model },
  );
}

async function fetchLogits(
  { service, call, inTurn }: Scoring,
  { key, model, dimension, layout }: Plan,
  vectors: readonly SparseVector[],
): Promise<ArrayLike<number>> {
  const encryption = await openEncryption(key.preset);
  const header: FrameHeader = {
    preset: key.preset,
    layout,
    transactions: vectors.length,
    dimension,
    keyId: key.keyId,
    contractHash: model.contractHash,
    modelHash: model.hash,
  };
  const bytes = await inTurn(() => inTurns(encryption.encryptSteps(key, header, vectors), call.signal));
  const reply = await service.bytes('POST', PATH, { ...call, body: { type: MEDIA_TYPE, bytes } });
  return inTurns(encryption.decryptSteps(key, header, reply), call.signal);
}

function usableDimension(model: ServedModel, preset: PresetName): number {
  const { total } = layoutOf(model.contract);
  const offered = model.encryption;
  const usable =
    offered?.presets.includes(preset) &&
    offered.dimension === total &&
    // A larger one fits no ciphertext: a request of it would hold no transaction, and asking would have no end.
    total <= PRESETS[preset].degree &&
    model.contract.fields.length <= MAX_INPUT_MASS;
  if (usable) return total;
  throw new ClientError('REPLY_MALFORMED', `the node's model cannot be scored encrypted at preset ${preset}`, {
    where: '/v1/models',
    fix: `The node offers ${offered?.presets.join(', ') || 'no preset'}; create keys for one of these.`,
  });
}
