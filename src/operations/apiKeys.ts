/**
 * API keys: made, listed, revoked. Each change and its audit entry commit together; a key is shown once, when it is
 * made, and only its SHA-256 is stored (see authentication.ts for why that is enough).
 */
import { RequestError, StoreError } from '../errors.ts';
import {
  type Authenticator,
  forgetKey,
  hashToken,
  openAuthenticator,
  PREFIX_ALPHABET,
  PREFIX_LENGTH,
  SCOPES,
  type Scope,
  SECRET_BYTES,
} from './authentication.ts';
import type { NodeContext } from './context.ts';

export { SCOPES, type Scope };

export interface ApiKeyWish {
  /** Who gets the key, 1 to 64 of A-Z, a-z, 0-9 and "._-"; encryption keys belong to this name. */
  name: string;
  scopes: readonly Scope[];
  /** Days until it expires; without it the key does not expire. */
  days?: number | undefined;
  /** Who makes it, for the audit log. */
  actor: string;
}

export interface CreatedApiKey {
  /** The key itself; never to be had again. */
  key: string;
  prefix: string;
  name: string;
  scopes: readonly Scope[];
  expiresAt: string | null;
}

export interface ListedApiKey {
  prefix: string;
  name: string;
  scopes: readonly string[];
  createdAt: string;
  expiresAt: string | null;
  revokedAt: string | null;
  standing: 'valid' | 'expired' | 'revoked';
}

const NAME = /^[A-Za-z0-9._-]{1,64}$/;
const DAY_MS = 86_400_000;
const MAX_DAYS = 36_500;

/** @throws RequestError USAGE when the wish does not fit */
export async function createApiKey(context: NodeContext, wish: ApiKeyWish): Promise<CreatedApiKey> {
  const { name, days, actor } = wish;
  const scopes = SCOPES.filter((scope) => wish.scopes.includes(scope));
  if (!NAME.test(name)) throw misuse('name', 'must be 1 to 64 of A-Z, a-z, 0-9 and "._-"');
  if (scopes.length === 0) throw misuse('scopes', `must name at least one of ${SCOPES.join(', ')}`);
  if (days !== undefined && !(Number.isInteger(days) && days >= 1 && days <= MAX_DAYS)) {
    throw misuse('days', `must be a whole number from 1 to ${MAX_DAYS}`);
  }
  const prefix = randomPrefix(context);
  const key = `vrk_${prefix}_${randomSecret(context)}`;
  const now = context.clock();
  const expiresAt = days === undefined ? null : new Date(now.getTime() + days * DAY_MS);
  await context.store.transaction(async (tx) => {
    await tx.apiKeys.insert({ prefix, secretHash: hashToken(key), name, scopes, createdAt: now, expiresAt });
    await tx.append({
      type: 'api-key.create',
      actor,
      outcome: 'created',
      details: { prefix, name, scopes, expiresAt: expiresAt?.toISOString() ?? null },
    });
  });
  return { key, prefix, name, scopes, expiresAt: expiresAt?.toISOString() ?? null };
}

/** All keys, newest first. */
export async function listApiKeys(context: NodeContext): Promise<ListedApiKey[]> {
  const now = context.clock();
  const keys = await context.store.apiKeys.list();
  return keys.map(({ prefix, name, scopes, createdAt, expiresAt, revokedAt }) => ({
    prefix,
    name,
    scopes,
    createdAt: createdAt.toISOString(),
    expiresAt: expiresAt?.toISOString() ?? null,
    revokedAt: revokedAt?.toISOString() ?? null,
    standing: revokedAt !== null ? 'revoked' : expiresAt !== null && expiresAt <= now ? 'expired' : 'valid',
  }));
}

/**
 * Ends a key; a second time changes nothing and gives the first time.
 * @throws StoreError NOT_FOUND
 */
export async function revokeApiKey(
  context: NodeContext,
  { prefix, actor }: { prefix: string; actor: string },
): Promise<{ prefix: string; revokedAt: string }> {
  const now = context.clock();
  const revokedAt = await context.store.transaction(async (tx) => {
    const key = await tx.apiKeys.find(prefix);
    if (key === null) {
      throw new StoreError('NOT_FOUND', 'There is no API key with this prefix.', {
        where: 'prefix',
        fix: 'See "veilrisk apikey list"; the prefix is the 8 characters after "vrk_".',
      });
    }
    if (key.revokedAt !== null) return key.revokedAt;
    await tx.apiKeys.revoke(prefix, now);
    await tx.append({ type: 'api-key.revoke', actor, outcome: 'revoked', details: { prefix, name: key.name } });
    return now;
  });
  forgetKey(context.store, prefix);
  return { prefix, revokedAt: revokedAt.toISOString() };
}

/** The authenticator of the REST API over this node's keys. */
export function openApiKeyAuthenticator(context: NodeContext): Authenticator {
  return openAuthenticator(context, async (prefix) => {
    const key = await context.store.apiKeys.find(prefix);
    if (key === null) return null;
    const { secretHash, name: owner, scopes, expiresAt, revokedAt } = key;
    return { keyPrefix: prefix, owner, secretHash, scopes, expiresAt, revokedAt };
  });
}

function randomPrefix(context: NodeContext): string {
  const bytes = new Uint8Array(PREFIX_LENGTH);
  context.random.fill(bytes);
  // 256 is a multiple of the alphabet's 32 letters, so the remainder is uniform.
  return Array.from(bytes, (byte) => PREFIX_ALPHABET[byte % PREFIX_ALPHABET.length]).join('');
}

function randomSecret(context: NodeContext): string {
  const bytes = new Uint8Array(SECRET_BYTES);
  context.random.fill(bytes);
  return Buffer.from(bytes).toString('base64url');
}

function misuse(where: string, rule: string): RequestError {
  return new RequestError('USAGE', `The ${where} of an API key ${rule}.`, { where, issues: [{ field: where, rule }] });
}
