/**
 * Callers' public encryption keys. A key is inspected in a worker thread before it is stored, and belongs to the name
 * on the API key that registered it, so that renewing an API key keeps its encryption keys.
 *
 * Trusted: the bytes of a key are public, but who could exchange them could make replies unreadable; the key id is their
 * SHA-256, recomputed by the worker on every use.
 */
import type { PresetName } from '../encryption/presets.ts';
import { RequestError, StoreError } from '../errors.ts';
import type { Caller } from './authentication.ts';
import type { NodeContext } from './context.ts';
import { encryptionPool } from './encryptionRoom.ts';

export interface KeyRegistration {
  /** The same key was not registered before. */
  created: boolean;
  keyId: string;
  preset: PresetName;
  createdAt: string;
  audit: { index: number; leafHash: string };
}

/**
 * Registers a key; the same key of the same caller again gives the same key id and time. Either way the call is an
 * audit entry.
 *
 * @throws EncryptionError PUBLIC_KEY_MALFORMED, PUBLIC_KEY_DEGENERATE, POOL_FULL or WORKER_*
 * @throws StoreError ALREADY_EXISTS when the key is another caller's, or revoked
 */
export async function registerEncryptionKey(
  context: NodeContext,
  { caller, requestId, publicKey }: { caller: Caller; requestId: string; publicKey: Uint8Array },
): Promise<KeyRegistration> {
  const { keyId, preset } = await encryptionPool(context).inspectPublicKey(publicKey);
  const now = context.clock();
  return context.store.transaction(async (tx) => {
    const created = await tx.encryptionKeys.insert({ keyId, preset, owner: caller.owner, publicKey, createdAt: now });
    const stored = created ? null : await tx.encryptionKeys.find(keyId);
    if (stored !== null && (stored.owner !== caller.owner || stored.revokedAt !== null)) {
      throw new StoreError('ALREADY_EXISTS', 'This public key cannot be registered.', {
        where: 'public key',
        fix: 'Make a new key pair.',
      });
    }
    const audit = await tx.append({
      type: 'encryption-key.register',
      actor: `api-key:${caller.keyPrefix}`,
      requestId,
      outcome: created ? 'created' : 'unchanged',
      details: { keyId, preset, owner: caller.owner },
    });
    return { created, keyId, preset, createdAt: (stored?.createdAt ?? now).toISOString(), audit };
  });
}

/**
 * The bytes of a key that this caller may use now.
 * @throws RequestError KEY_UNKNOWN, the same for a key that does not exist, is revoked, expired or another caller's
 */
export async function usableKey(context: NodeContext, caller: Caller, keyId: string): Promise<Uint8Array> {
  const key = await context.store.encryptionKeys.find(keyId);
  const usable =
    key !== null &&
    key.owner === caller.owner &&
    key.revokedAt === null &&
    (key.expiresAt === null || key.expiresAt > context.clock());
  if (usable) return key.publicKey;
  throw new RequestError('KEY_UNKNOWN', 'The encryption key of the request is not registered for this caller.', {
    where: 'request frame, key id',
    fix: 'Register the public key with POST /v1/keys.',
  });
}
