/**
 * Who calls: API keys `vrk_<prefix>_<secret>`.
 *
 * The prefix (8 characters) finds the key and may stand in logs; the secret has 256 random bits, so one unsalted
 * SHA-256 is as hard to invert as the secret is to guess, and no password hash is needed (NIST SP 800-63B section
 * 5.1.2.2 asks for stretching only below 112 bits). Only the hash of the whole token is stored.
 *
 * Limit: a key revoked by another process works here until its cache entry ends, at most `CACHE_MS`.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { RequestError } from '../errors.ts';
import type { NodeContext } from './context.ts';
import { type Refusal, type RefusalReason, refusalLogOf } from './refusals.ts';

export const SCOPES = ['score', 'keys', 'models'] as const;
export type Scope = (typeof SCOPES)[number];

export interface Caller {
  /** Prefix of the API key; also its name in logs and in the audit log. */
  keyPrefix: string;
  /** Who was given the key; owns the encryption keys registered with it. */
  owner: string;
}

/** What the registry holds of an API key. */
export interface RegisteredKey extends Caller {
  /** SHA-256 of the token, 64 hexadecimal digits. */
  secretHash: string;
  scopes: readonly string[];
  expiresAt: Date | null;
  revokedAt: Date | null;
}

export interface Authenticator {
  /**
   * @param authorization the Authorization header as sent
   * @throws RequestError UNAUTHENTICATED or FORBIDDEN, after the refusal is audited
   */
  authenticate(authorization: string | undefined, scope: Scope, requestId: string): Promise<Caller>;
  close(): Promise<void>;
}

const CACHE_MS = 3_000;
/** Bounds memory; there are seldom more callers than this. */
const CACHE_ENTRIES = 1_000;
export const PREFIX_ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
export const PREFIX_LENGTH = 8;
/** 43 characters of base64url in the token. */
export const SECRET_BYTES = 32;
const TOKEN = /^vrk_([a-z2-7]{8})_([A-Za-z0-9_-]{43})$/;

interface Cache {
  keys: Map<string, { key: RegisteredKey; untilMs: number }>;
  /** Changes of the registry so far: a look-up that began before one must not be kept after it. */
  changes: number;
}

// Safe: one process-wide cache per store, so that a revocation reaches every authenticator of that store at once.
const caches = new WeakMap<object, Cache>();

function cacheOf(store: object): Cache {
  const cache = caches.get(store) ?? { keys: new Map(), changes: 0 };
  caches.set(store, cache);
  return cache;
}

/** Forgets a cached key; called with every change of the registry in this process. */
export function forgetKey(store: object, prefix: string): void {
  const cache = cacheOf(store);
  cache.keys.delete(prefix);
  cache.changes++;
}

/** SHA-256 of a token, 64 hexadecimal digits. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/** Tells a key's standing apart from whether it exists; null when it may be used with `scope` now. */
function objection(key: RegisteredKey, scope: Scope, now: Date): RefusalReason | null {
  if (key.revokedAt !== null) return 'revoked';
  if (key.expiresAt !== null && key.expiresAt <= now) return 'expired';
  return key.scopes.includes(scope) ? null : 'scope';
}

export function openAuthenticator(
  context: Pick<NodeContext, 'store' | 'log' | 'clock'>,
  findKey: (prefix: string) => Promise<RegisteredKey | null>,
): Authenticator {
  const cache = cacheOf(context.store);
  const refusals = refusalLogOf(context);

  async function lookUp(prefix: string): Promise<RegisteredKey | null> {
    const nowMs = context.clock().getTime();
    const cached = cache.keys.get(prefix);
    if (cached !== undefined && nowMs < cached.untilMs) return cached.key;
    const { changes } = cache;
    const key = await findKey(prefix);
    cache.keys.delete(prefix);
    if (key === null) return null;
    // Safe: a full cache has a first key.
    if (cache.keys.size >= CACHE_ENTRIES) cache.keys.delete(cache.keys.keys().next().value!);
    if (cache.changes === changes) cache.keys.set(prefix, { key, untilMs: nowMs + CACHE_MS });
    return key;
  }

  async function refuse(refusal: Refusal, requestId: string): Promise<never> {
    await refusals.record(refusal, requestId);
    if (refusal.code === 'FORBIDDEN') {
      throw new RequestError('FORBIDDEN', 'This API key does not have the scope of this route.', {
        fix: 'Ask the operator of the node for a key with that scope.',
      });
    }
    // One message for every reason: which keys exist, expired or were revoked is nobody's business before the secret fits.
    throw new RequestError('UNAUTHENTICATED', 'A valid API key is needed.', {
      where: 'Authorization',
      fix: 'Send "Authorization: Bearer vrk_..." with a key from "veilrisk apikey create".',
    });
  }

  return {
    async authenticate(authorization, scope, requestId) {
      const anonymous = (why: RefusalReason) => refuse({ code: 'UNAUTHENTICATED', why, keyPrefix: null }, requestId);
      if (authorization === undefined) return anonymous('missing');
      const token = /^Bearer ([\x21-\x7e]{1,100})$/i.exec(authorization)?.[1] ?? '';
      const prefix = TOKEN.exec(token)?.[1];
      if (prefix === undefined) return anonymous('malformed');
      const key = await lookUp(prefix);
      const presented = Buffer.from(hashToken(token), 'hex');
      // A hash of zeros matches no token, so an unknown prefix takes the same steps as a wrong secret.
      const fits = timingSafeEqual(presented, key === null ? Buffer.alloc(32) : Buffer.from(key.secretHash, 'hex'));
      if (key === null) return anonymous('unknown');
      const refused = (code: Refusal['code'], why: RefusalReason) =>
        refuse({ code, why, keyPrefix: prefix }, requestId);
      if (!fits) return refused('UNAUTHENTICATED', 'wrong-secret');
      const why = objection(key, scope, context.clock());
      if (why !== null) return refused(why === 'scope' ? 'FORBIDDEN' : 'UNAUTHENTICATED', why);
      return { keyPrefix: prefix, owner: key.owner };
    },
    close: () => refusals.close(),
  };
}
