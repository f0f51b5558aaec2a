/**
 * The bytes of registered public keys, kept in memory for the callers that come again.
 *
 * A key id is the SHA-256 of the bytes, so they cannot change under it; whether a key may be used is read from the
 * database each time. Reading 98 to 197 kB of bytea with it took longer than the scoring.
 * Limit: the 64 keys used last of each store, 13 MB at most.
 */
import type { NodeContext } from './context.ts';

const KEYS_KEPT = 64;

// Safe: one cache per store and process; nothing in it is of use to another store.
const caches = new WeakMap<object, Map<string, Uint8Array>>();

/** @returns the bytes, not to be changed; null when no such key is registered */
export async function publicKeyBytes({ store }: Pick<NodeContext, 'store'>, keyId: string): Promise<Uint8Array | null> {
  const cache = caches.get(store) ?? new Map<string, Uint8Array>();
  caches.set(store, cache);
  const bytes = cache.get(keyId) ?? (await store.encryptionKeys.find(keyId))?.publicKey;
  if (bytes === undefined) return null;
  // Moves a key that was there to the end: the first is the one that was used longest ago.
  cache.delete(keyId);
  cache.set(keyId, bytes);
  for (const oldest of cache.keys()) {
    if (cache.size <= KEYS_KEPT) break;
    cache.delete(oldest);
  }
  return bytes;
}
