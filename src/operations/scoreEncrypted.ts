/**
 * Scores transactions that the node cannot read.
 *
 * The node learns caller, key, layout, preset and how many transactions, and that is what the audit entry holds; there
 * is no outcome to record, because the node does not know it. Every transaction of a request counts on the caller's meter
 * (metering.ts); the same request again counts nothing, and its entry says `repeated`. The reply leaves after its entry
 * and the count are durable.
 */
import type { EntryDraft } from '../audit/entry.ts';
import { largestRequestBytes, readFrameHeader } from '../encryption/wire.ts';
import { EncryptionError, LearningError } from '../errors.ts';
import type { Caller } from './authentication.ts';
import type { NodeContext } from './context.ts';
import { usableKey } from './encryptionKeys.ts';
import { encryptionPool, roomyPool } from './encryptionRoom.ts';
import { allowance, auditedRefusals, checkAllowance, encryptedDraft, type VectorAllowance } from './metering.ts';
import { champion } from './models.ts';

export interface EncryptedRequest {
  caller: Caller;
  requestId: string;
  /** Whole frame. */
  request: Uint8Array;
  /** Aborts when nobody waits any more. */
  gone?: AbortSignal;
}

export interface EncryptedScores {
  /** Whole reply frame. */
  reply: Uint8Array;
  modelHash: string;
  audit: { index: number; leafHash: string };
  /** Of the caller under the champion, after this answer. */
  allowance: VectorAllowance;
}

/**
 * Most bytes that a request to the champion can have now; asked before a body is read.
 *
 * @throws RequestError NO_MODEL, NOT_READY; EncryptionError POOL_FULL, ENCRYPTION_INPUT when the champion cannot be
 * scored encrypted
 */
export async function largestEncryptedRequest(context: NodeContext, owner?: string): Promise<number> {
  roomyPool(context, owner);
  const { linear, presets } = await champion(context);
  if (presets.length > 0) return largestRequestBytes(linear.weights.length);
  throw new EncryptionError('ENCRYPTION_INPUT', 'The model does not offer encrypted scoring.', {
    where: 'champion model',
    fix: 'Send the transactions to POST /v1/scores, or wait for a champion that GET /v1/models lists with presets.',
  });
}

/**
 * @throws EncryptionError FRAME_*, CIPHERTEXT_*, ENCRYPTION_INPUT, POOL_FULL, WORKER_*; RequestError KEY_UNKNOWN,
 * KEY_REVOKED, KEY_EXPIRED, VECTOR_LIMIT, REQUEST_REPLAYED, NO_MODEL, NOT_READY; LearningError MODEL_CONTRACT_MISMATCH
 * when the request is for another model or contract than the champion's
 */
export async function scoreEncrypted(
  context: NodeContext,
  { caller, requestId, request, gone }: EncryptedRequest,
): Promise<EncryptedScores> {
  const pool = encryptionPool(context);
  const { keyId, contractHash, modelHash, preset, layout, transactions } = readFrameHeader('request', request);
  const model = await champion(context);
  if (contractHash !== model.contractHash || modelHash !== model.hash) {
    throw new LearningError('MODEL_CONTRACT_MISMATCH', 'The request was made for another model or contract.', {
      where: contractHash === model.contractHash ? 'request frame, model hash' : 'request frame, contract hash',
      fix: 'Get the champion from GET /v1/models and encrypt the transactions for its contract.',
    });
  }
  if (!model.presets.includes(preset)) {
    throw new EncryptionError('ENCRYPTION_INPUT', 'The model does not offer encrypted scoring with this preset.', {
      where: 'request frame, preset',
      fix: 'Use one of the presets that GET /v1/models lists for the champion.',
    });
  }
  const publicKey = await usableKey(context, caller, keyId);
  const meter = encryptedDraft(context, caller, model.hash, { request, transactions });
  await checkAllowance(context, { caller, requestId }, meter);
  const reply = await pool.score({
    model: model.linear,
    publicKey,
    request,
    owner: caller.owner,
    ...(gone && { signal: gone }),
  });
  const entry: EntryDraft = {
    type: 'decision.encrypted',
    actor: `api-key:${caller.keyPrefix}`,
    requestId,
    modelHash: model.hash,
    outcome: 'scored',
    details: { keyId, preset, layout, transactions, contractHash },
  };
  const appended = context.store.decisions.append(entry, meter);
  const { metered, ...audit } = await auditedRefusals(context, { caller, requestId }, appended);
  // Safe: an entry that is appended with a meter tells where it stands.
  return { reply, modelHash: model.hash, audit, allowance: allowance(metered!) };
}
