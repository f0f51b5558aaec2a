/**
 * What callers had scored, and how much they may: distinct vectors a caller and model version, against a limit.
 *
 * A linear model of d dimensions is known after d + 1 exact scores, in the clear or encrypted, so whoever answers
 * scores sells the model by instalments. The meter says how far each caller is, and stops it at a limit. A caller is the
 * name on its API keys, so several keys of one name share a meter; another model starts a new one, and a model that is
 * adopted again goes on with its own. In the clear, equal vectors of bins count once, whatever values they came from.
 * Encrypted, the node cannot see vectors: every transaction of a request counts, and the same request, byte for byte,
 * counts once, which makes repeating a lost one free.
 *
 * The count commits with the audit entry of the answer (store/meters.ts), and the reply leaves after that commit: a
 * crash can leave an answer counted that was never sent, never one sent that was not counted.
 *
 * What it cannot do. d + 1 scores are few (some hundreds for a scorecard): a limit above d is a brake and an alarm, not
 * a wall, and one below d leaves little to score. Equal vectors encrypted anew count again, because nobody but the
 * caller can tell. Callers under several names who share their scores are several callers; names are given by the
 * operator (`veilrisk apikey create --name`). Limits have no refill: they hold for the life of a model.
 */
import { createHash, createHmac } from 'node:crypto';
import { RequestError } from '../errors.ts';
import type { Allowance, MeterDraft, MeterOwner, MeterRow } from '../store/meters.ts';
import type { Caller } from './authentication.ts';
import type { NodeContext } from './context.ts';
import { champion } from './models.ts';
import { type Refusal, refusalLogOf } from './refusals.ts';

/**
 * How often one encrypted request is answered. Enough for every retry; the flood's worth against averaging over so many
 * answers is 1.5 bits less than against one, of 36 or more; and free answers are bounded work.
 */
export const MOST_ANSWERS = 8;

/** The most that VEILRISK_VECTOR_LIMIT takes too. */
const MOST_VECTORS = 1e12;
/** As a name of API keys (apiKeys.ts). */
const OWNER = /^[A-Za-z0-9._-]{1,64}$/;
const TAG_BYTES = 16;
const LABEL = 'veilrisk/vector/v1';

/** One meter, as its caller is told. */
export interface Usage {
  model: { hash: string; status: 'champion' | 'retired' | 'kept' };
  /** Distinct vectors so far. */
  vectors: number;
  limit: number;
  /** 0 also when the limit was lowered below `vectors`. */
  left: number;
}

export interface CallerUsage extends Usage {
  owner: string;
}

export interface VectorLimitWish {
  /** Name of the caller's API keys. */
  owner: string;
  /** 0 to 10^12; null for the node's general limit. */
  vectors: number | null;
  /** Who sets it, for the audit log. */
  actor: string;
}

export interface VectorLimitChange {
  owner: string;
  /** The caller's own limit now, and before; null for the general one. */
  vectors: number | null;
  previous: number | null;
  /** What holds now, the caller's own or the general limit as this process knows it. */
  limit: number;
  /** An API key has this name, whatever its standing. */
  known: boolean;
}

/** What the reply's RateLimit headers say. */
export interface VectorAllowance {
  limit: number;
  left: number;
}

/**
 * The first 16 bytes of HMAC-SHA-256(node's key, label | model hash | bins as 16-bit little-endian): the same for the
 * same vector under a model, and no test of a guess for whoever reads the database without the node's key.
 */
export function vectorTag(subjectKey: Uint8Array, modelHash: string, bins: ArrayLike<number>): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(2 * bins.length));
  for (let at = 0; at < bins.length; at++) bytes.setUint16(2 * at, bins[at], true);
  const mac = createHmac('sha256', subjectKey).update(LABEL).update(modelHash).update(bytes).digest();
  return mac.subarray(0, TAG_BYTES);
}

/** The first 16 bytes of SHA-256 of the whole request: ciphertexts are random, so an equal one is the same one. */
export function requestTag(request: Uint8Array): Uint8Array {
  return createHash('sha256').update(request).digest().subarray(0, TAG_BYTES);
}

export function meterOf({ limits }: Pick<NodeContext, 'limits'>, caller: Caller, modelHash: string): MeterOwner {
  return { owner: caller.owner, modelHash, generalLimit: limits.vectors };
}

/** One transaction in the clear. */
export function clearDraft(
  context: Pick<NodeContext, 'limits' | 'subjectKey'>,
  caller: Caller,
  modelHash: string,
  bins: ArrayLike<number>,
): MeterDraft {
  const tag = vectorTag(context.subjectKey, modelHash, bins);
  return { ...meterOf(context, caller, modelHash), tag, vectors: 1, mostAnswers: null };
}

/** One encrypted request. @param transactions those it can be answered for, at least 1 */
export function encryptedDraft(
  context: Pick<NodeContext, 'limits'>,
  caller: Caller,
  modelHash: string,
  { request, transactions }: { request: Uint8Array; transactions: number },
): MeterDraft {
  const tag = requestTag(request);
  return { ...meterOf(context, caller, modelHash), tag, vectors: transactions, mostAnswers: MOST_ANSWERS };
}

/**
 * Refuses early what cannot be answered, so that no work is done for it. The count that holds is made with the audit
 * entry.
 * @throws RequestError VECTOR_LIMIT, REQUEST_REPLAYED, as `auditedRefusals` does
 */
export function checkAllowance(
  context: NodeContext,
  asker: { caller: Caller; requestId: string },
  draft: MeterDraft,
): Promise<unknown> {
  return auditedRefusals(context, asker, context.store.meters.check(draft));
}

/** Passes an answer on; a refusal by a meter is first in the audit log, bounded as every refusal is (refusals.ts). */
export async function auditedRefusals<T>(
  context: NodeContext,
  { caller, requestId }: { caller: Caller; requestId: string },
  answer: Promise<T>,
): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const kind = error instanceof RequestError ? meterRefusal(error.code) : null;
    if (kind !== null) await refusalLogOf(context).record({ ...kind, keyPrefix: caller.keyPrefix }, requestId);
    throw error;
  }
}

function meterRefusal(code: RequestError['code']): Pick<Refusal, 'code' | 'why'> | null {
  if (code === 'VECTOR_LIMIT') return { code, why: 'vectors' };
  return code === 'REQUEST_REPLAYED' ? { code, why: 'answers' } : null;
}

export function allowance({ counted, limit }: Allowance): VectorAllowance {
  return { limit, left: Math.max(0, limit - counted) };
}

/** A caller's own meters; the champion first, and always listed once there is one. */
export async function usageOf(context: NodeContext, owner: string): Promise<Usage[]> {
  const [meters, own, current] = await Promise.all([
    context.store.meters.list(owner),
    context.store.vectorLimits.find(owner),
    championHash(context),
  ]);
  return usageUnder(own ?? context.limits.vectors, meters, current);
}

/** The same for every caller that has a meter or a limit of its own, by name. For the operator. */
export async function listUsage(context: NodeContext): Promise<CallerUsage[]> {
  const [meters, limits, current] = await Promise.all([
    context.store.meters.list(null),
    context.store.vectorLimits.list(),
    championHash(context),
  ]);
  const own = new Map(limits.map(({ owner, vectors }) => [owner, vectors]));
  const byOwner = Map.groupBy(meters, ({ owner }) => owner);
  return [...new Set([...byOwner.keys(), ...own.keys()])].sort().flatMap((owner) => {
    const limit = own.get(owner) ?? context.limits.vectors;
    return usageUnder(limit, byOwner.get(owner) ?? [], current).map((each) => ({ owner, ...each }));
  });
}

/**
 * Sets what one caller may have scored under each model, or takes its own limit away. Also below what is counted: then
 * nothing new is scored, and what was scored may still be repeated. Change and audit entry commit together; the limit
 * it has already changes nothing. It holds for answers that are counted after this, on every process of the node.
 *
 * @throws RequestError USAGE when the wish does not fit
 */
export async function limitVectors(context: NodeContext, wish: VectorLimitWish): Promise<VectorLimitChange> {
  const { owner, vectors, actor } = wish;
  if (!OWNER.test(owner)) throw misuse('name', 'The name of a caller is 1 to 64 of A-Z, a-z, 0-9 and "._-".');
  if (vectors !== null && !(Number.isSafeInteger(vectors) && vectors >= 0 && vectors <= MOST_VECTORS)) {
    throw misuse('vectors', `A limit is a whole number from 0 to ${MOST_VECTORS}.`);
  }
  const previous = await context.store.transaction(async (tx) => {
    const { previous } = await tx.vectorLimits.set(owner, vectors);
    if (previous === vectors) return previous;
    const details = { owner, vectors, previous };
    await tx.append({ type: 'vector-limit.set', actor, outcome: vectors === null ? 'general' : 'own', details });
    return previous;
  });
  const keys = await context.store.apiKeys.list();
  return {
    ...{ owner, vectors, previous, limit: vectors ?? context.limits.vectors },
    known: keys.some(({ name }) => name === owner),
  };
}

/** @param meters of one owner */
function usageUnder(limit: number, meters: readonly MeterRow[], current: string | null): Usage[] {
  const counted = meters.map(({ modelHash: hash, status, vectors }) => usage({ hash, status }, vectors, limit));
  if (current === null || counted.some(({ model }) => model.hash === current)) return counted;
  return [usage({ hash: current, status: 'champion' }, 0, limit), ...counted];
}

function usage(model: Usage['model'], vectors: number, limit: number): Usage {
  return { model, vectors, ...allowance({ counted: vectors, limit }) };
}

async function championHash(context: NodeContext): Promise<string | null> {
  try {
    return (await champion(context)).hash;
  } catch (error) {
    if (error instanceof RequestError && error.code === 'NO_MODEL') return null;
    throw error;
  }
}

function misuse(where: string, message: string): RequestError {
  return new RequestError('USAGE', message, { where });
}
