/**
 * Callers' public encryption keys: registered, listed, replaced, revoked. A key is inspected in a worker thread before it
 * is stored, and belongs to the name on the API key that registered it, so that renewing an API key keeps its encryption
 * keys. Every change and its audit entry commit together; a call that changes nothing is an entry with outcome
 * `unchanged`.
 *
 * A key only ends: it expires, is brought nearer to its end by a rotation, or is revoked, and is never made usable again.
 * Keys that were registered before keys expired have no end but these two.
 *
 * Trusted: the bytes of a key are public, but who could exchange them could make replies unreadable; the key id is their
 * SHA-256, recomputed by the worker on every use.
 *
 * Limit: a registration proves no possession of the secret key. Who registers somebody else's public key first keeps its
 * owner from registering it, who then makes another; replies under it are readable for its owner only. A refusal as
 * ALREADY_EXISTS tells that another caller has this very key.
 */
import type { PresetName } from '../encryption/presets.ts';
import { RequestError, StoreError } from '../errors.ts';
import type { EncryptionKeyState } from '../store/keys.ts';
import type { StoreTransaction } from '../store/nodeStore.ts';
import type { Caller } from './authentication.ts';
import type { NodeContext } from './context.ts';
import { encryptionPool } from './encryptionRoom.ts';
import { publicKeyBytes } from './publicKeyBytes.ts';

/** Usable keys of one owner: each is 100 to 200 kB that the node keeps. */
export const MOST_USABLE_KEYS = 100;
/** New keys of one owner within 24 hours: rows are never deleted, so registering and revoking in turn has to end too. */
export const MOST_NEW_KEYS_A_DAY = 200;
/** Keys that a list shows. */
export const MOST_LISTED_KEYS = 1_000;
/** Hours that a replaced key stays usable, for requests that are on their way and for other processes of its owner. */
export const DEFAULT_GRACE_HOURS = 24;
export const MOST_GRACE_HOURS = 720;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export interface ListedEncryptionKey {
  /** SHA-256 of the public key's bytes, 64 hexadecimal digits. */
  keyId: string;
  preset: PresetName;
  /** Name of the API keys that may use it. */
  owner: string;
  createdAt: string;
  /** Null: usable until it is revoked or replaced. */
  expiresAt: string | null;
  revokedAt: string | null;
  /** Key id that a rotation put in its place. */
  replacedBy: string | null;
  standing: 'usable' | 'expired' | 'revoked';
}

export interface AuditReceipt {
  index: number;
  leafHash: string;
}

export type AuditedEncryptionKey = ListedEncryptionKey & { audit: AuditReceipt };

export interface Registration {
  caller: Caller;
  requestId: string;
  /** Bytes as they came; FORMAT.md section 4. */
  publicKey: Uint8Array;
  /** Days it is usable, 1 to `limits.keyDays`; the most without. */
  days?: number | undefined;
  /** Aborted when nobody waits for the answer any more: then a key that waits for a thread is left. */
  signal?: AbortSignal;
}

export interface Rotation extends Registration {
  /** The key that is replaced. */
  keyId: string;
  /** Hours that it stays usable at most, 0 to 720. */
  graceHours?: number | undefined;
}

/**
 * Registers a key; the same key of the same caller again changes nothing, its end included.
 *
 * @returns `created` is false when the key was there before
 * @throws EncryptionError PUBLIC_KEY_MALFORMED, PUBLIC_KEY_DEGENERATE, POOL_FULL or WORKER_*; StoreError ALREADY_EXISTS
 *   when it is another caller's; RequestError KEY_REVOKED, KEY_EXPIRED for a key that ended, KEY_LIMIT
 */
export async function registerEncryptionKey(
  context: NodeContext,
  { caller, requestId, publicKey, days, signal }: Registration,
): Promise<AuditedEncryptionKey & { created: boolean }> {
  const { owner } = caller;
  const { keyId, preset } = await inspect(context, { owner, publicKey, signal });
  return context.store.transaction(async (tx) => {
    await tx.encryptionKeys.lock(owner);
    const now = context.clock();
    const known = await tx.encryptionKeys.state(keyId);
    if (known !== null) {
      requireOwn(known, owner);
      requireUsable(known, now, 'public key');
    }
    const key = known ?? { keyId, preset, ...newRow(context, { owner, now, days }) };
    if (known === null) {
      await requireRoom(tx, owner, now);
      await insert(tx, { ...key, publicKey });
    }
    const created = known === null;
    const audit = await tx.append({
      type: 'encryption-key.register',
      actor: actorOf(caller),
      requestId,
      outcome: created ? 'created' : 'unchanged',
      details: { keyId, preset, owner, expiresAt: key.expiresAt?.toISOString() ?? null },
    });
    return { created, ...listed(key, now), audit };
  });
}

/** Newest first, at most 1,000; of one owner, or of all with null. */
export async function listEncryptionKeys(context: NodeContext, owner: string | null): Promise<ListedEncryptionKey[]> {
  const now = context.clock();
  const keys = await context.store.encryptionKeys.list(owner, MOST_LISTED_KEYS);
  return keys.map((key) => listed(key, now));
}

/**
 * Registers a new key in the place of a usable one, which ends after the grace time or when it would have ended anyway.
 * The presets may differ. The same rotation again changes nothing, whatever became of the two keys since, so that a lost
 * reply may be asked for again.
 *
 * @throws RequestError KEY_UNKNOWN, KEY_REVOKED, KEY_EXPIRED for the key to replace; KEY_LIMIT when both would be usable
 *   and one too many; StoreError ALREADY_EXISTS when another took its place before, or the new key is not new;
 *   EncryptionError as of a registration
 */
export async function rotateEncryptionKey(
  context: NodeContext,
  { caller, requestId, keyId, publicKey, days, signal, graceHours = DEFAULT_GRACE_HOURS }: Rotation,
): Promise<{ created: boolean; key: AuditedEncryptionKey; replaced: ListedEncryptionKey }> {
  const { owner } = caller;
  const next = await inspect(context, { owner, publicKey, signal });
  return context.store.transaction(async (tx) => {
    await tx.encryptionKeys.lock(owner);
    const now = context.clock();
    const old = await tx.encryptionKeys.state(keyId);
    if (old === null || old.owner !== owner) throw unknownKey('keyId');
    const before = await tx.encryptionKeys.state(next.keyId);
    const repeated = before !== null && old.replacedBy === next.keyId;
    if (!repeated) {
      requireUsable(old, now, 'keyId');
      requireReplaceable(old, before);
    }
    const key = repeated ? before : { ...next, ...newRow(context, { owner, now, days }) };
    const replaced = repeated ? old : { ...old, replacedBy: next.keyId, expiresAt: endOf(old, now, graceHours) };
    if (!repeated) {
      await tx.encryptionKeys.replace(keyId, { replacedBy: next.keyId, expiresAt: replaced.expiresAt! });
      await requireRoom(tx, owner, now);
      await insert(tx, { ...key, publicKey });
    }
    const audit = await tx.append({
      type: 'encryption-key.rotate',
      actor: actorOf(caller),
      requestId,
      outcome: repeated ? 'unchanged' : 'rotated',
      details: {
        ...{ keyId: next.keyId, preset: next.preset, owner, expiresAt: key.expiresAt?.toISOString() ?? null },
        replaced: { keyId, expiresAt: replaced.expiresAt?.toISOString() ?? null },
      },
    });
    return { created: !repeated, key: { ...listed(key, now), audit }, replaced: listed(replaced, now) };
  });
}

/**
 * Ends a key at once, in every process that shares the database; a second time changes nothing and gives the first time.
 * What was asked for before is still answered.
 *
 * @param keyId 64 hexadecimal digits
 * @param owner whose key it has to be; null for the node's operator
 * @param actor for the audit log: `api-key:PREFIX` or `operator`
 * @throws RequestError KEY_UNKNOWN
 */
export async function revokeEncryptionKey(
  context: NodeContext,
  { keyId, owner, actor, requestId }: { keyId: string; owner: string | null; actor: string; requestId?: string },
): Promise<AuditedEncryptionKey> {
  return context.store.transaction(async (tx) => {
    const found = await tx.encryptionKeys.state(keyId);
    if (found === null || (owner !== null && found.owner !== owner)) throw unknownKey('keyId');
    await tx.encryptionKeys.lock(found.owner);
    const now = context.clock();
    const revoked = await tx.encryptionKeys.revoke(keyId, now);
    // Read after the lock: a rotation that held it may have brought the end nearer. Safe: keys are never deleted.
    const key = (await tx.encryptionKeys.state(keyId))!;
    const audit = await tx.append({
      type: 'encryption-key.revoke',
      actor,
      ...(requestId !== undefined && { requestId }),
      outcome: revoked ? 'revoked' : 'unchanged',
      details: { keyId, owner: key.owner },
    });
    return { ...listed(key, now), audit };
  });
}

/**
 * The bytes of a key that this caller may use now. Read from the database at every use, so that a key which another
 * process revoked is refused from then on.
 *
 * @throws RequestError KEY_REVOKED or KEY_EXPIRED for an own key that ended; KEY_UNKNOWN for any other
 */
export async function usableKey(context: NodeContext, caller: Caller, keyId: string): Promise<Uint8Array> {
  const where = 'request frame, key id';
  const key = await context.store.encryptionKeys.state(keyId);
  if (key === null || key.owner !== caller.owner) throw unknownKey(where);
  requireUsable(key, context.clock(), where);
  const bytes = await publicKeyBytes(context, keyId);
  if (bytes === null) throw unknownKey(where);
  return bytes;
}

function standingOf(key: EncryptionKeyState, now: Date): ListedEncryptionKey['standing'] {
  if (key.revokedAt !== null) return 'revoked';
  return key.expiresAt !== null && key.expiresAt <= now ? 'expired' : 'usable';
}

function listed(key: EncryptionKeyState, now: Date): ListedEncryptionKey {
  return {
    keyId: key.keyId,
    // Safe: only presets that `inspectPublicKey` names are ever stored.
    preset: key.preset as PresetName,
    owner: key.owner,
    createdAt: key.createdAt.toISOString(),
    expiresAt: key.expiresAt?.toISOString() ?? null,
    revokedAt: key.revokedAt?.toISOString() ?? null,
    replacedBy: key.replacedBy,
    standing: standingOf(key, now),
  };
}

function inspect(
  context: NodeContext,
  { owner, publicKey, signal }: { owner: string; publicKey: Uint8Array; signal: AbortSignal | undefined },
): Promise<{ keyId: string; preset: PresetName }> {
  return encryptionPool(context).inspectPublicKey(publicKey, { owner, ...(signal !== undefined && { signal }) });
}

const actorOf = (caller: Caller): string => `api-key:${caller.keyPrefix}`;

function newRow(context: NodeContext, { owner, now, days }: { owner: string; now: Date; days: number | undefined }) {
  const expiresAt = new Date(now.getTime() + (days ?? context.limits.keyDays) * DAY_MS);
  return { owner, createdAt: now, expiresAt, revokedAt: null, replacedBy: null };
}

/** The earlier of its own end and the end of the grace time. */
function endOf(key: EncryptionKeyState, now: Date, graceHours: number): Date {
  const grace = new Date(now.getTime() + graceHours * HOUR_MS);
  return key.expiresAt !== null && key.expiresAt < grace ? key.expiresAt : grace;
}

async function insert(
  tx: StoreTransaction,
  { keyId, preset, owner, createdAt, expiresAt, publicKey }: EncryptionKeyState & { publicKey: Uint8Array },
): Promise<void> {
  // The lock is per owner: another owner may have registered the same key since it was looked for.
  if (!(await tx.encryptionKeys.insert({ keyId, preset, owner, createdAt, expiresAt, publicKey }))) throw taken();
}

function requireOwn(key: EncryptionKeyState, owner: string): void {
  if (key.owner !== owner) throw taken();
}

function requireUsable(key: EncryptionKeyState, now: Date, where: string): void {
  const standing = standingOf(key, now);
  if (standing === 'usable') return;
  const fix = 'Make a new key pair and register its public key with POST /v1/keys.';
  if (standing === 'revoked') throw new RequestError('KEY_REVOKED', 'The encryption key was revoked.', { where, fix });
  throw new RequestError('KEY_EXPIRED', 'The encryption key has expired.', { where, fix });
}

function requireReplaceable(old: EncryptionKeyState, next: EncryptionKeyState | null): void {
  if (old.replacedBy !== null) {
    throw new StoreError('ALREADY_EXISTS', 'Another key has taken the place of this one.', {
      where: 'keyId',
      fix: 'Rotate the key that GET /v1/keys names in replacedBy.',
    });
  }
  if (next !== null) throw taken();
}

/** Counted under the owner's lock, before the new key is inserted. */
async function requireRoom(tx: StoreTransaction, owner: string, now: Date): Promise<void> {
  const where = 'public key';
  if ((await tx.encryptionKeys.countUsable(owner, now)) >= MOST_USABLE_KEYS) {
    throw new RequestError('KEY_LIMIT', `A caller has at most ${MOST_USABLE_KEYS} usable encryption keys.`, {
      where,
      fix: 'Revoke a key with DELETE /v1/keys/{keyId}, or rotate one with "Veilrisk-Grace-Hours: 0".',
    });
  }
  if ((await tx.encryptionKeys.countNew(owner, new Date(now.getTime() - DAY_MS))) >= MOST_NEW_KEYS_A_DAY) {
    throw new RequestError('KEY_LIMIT', `A caller registers at most ${MOST_NEW_KEYS_A_DAY} keys in 24 hours.`, {
      where,
      fix: 'Use the keys that are registered, see GET /v1/keys, and register another later.',
    });
  }
}

function taken(): StoreError {
  return new StoreError('ALREADY_EXISTS', 'This public key cannot be registered.', {
    where: 'public key',
    fix: 'Make a new key pair.',
  });
}

function unknownKey(where: string): RequestError {
  return new RequestError('KEY_UNKNOWN', 'The encryption key is not registered for this caller.', {
    where,
    fix: 'Register the public key with POST /v1/keys.',
  });
}
