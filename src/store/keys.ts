/**
 * API keys (who may call) and callers' public encryption keys. A key only ends: revoked once, an encryption key also by
 * an earlier expiry when another replaces it (a trigger refuses anything else).
 */
import { asBytes, type Db, type Session } from './session.ts';

export interface ApiKeyRow {
  /** Public part of the key. */
  prefix: string;
  /** Hex hash of the whole key. */
  secretHash: string;
  name: string;
  scopes: string[];
  createdAt: Date;
  expiresAt: Date | null;
  revokedAt: Date | null;
}

/** Everything of an encryption key but its bytes. */
export interface EncryptionKeyState {
  /** Hex hash of the key's bytes. */
  keyId: string;
  preset: string;
  /** Name of the API key's owner. */
  owner: string;
  createdAt: Date;
  /** Null for a key of before keys expired: it stays usable without end. */
  expiresAt: Date | null;
  revokedAt: Date | null;
  /** Key that a rotation put in its place. */
  replacedBy: string | null;
}

export interface EncryptionKeyRow extends EncryptionKeyState {
  publicKey: Uint8Array;
}

export type NewApiKey = Omit<ApiKeyRow, 'revokedAt' | 'scopes'> & { scopes: readonly string[] };
export type NewEncryptionKey = Omit<EncryptionKeyRow, 'revokedAt' | 'replacedBy'>;

export function readApiKeys(db: Db) {
  return {
    find: (prefix: string): Promise<ApiKeyRow | null> => db.apiKey.findUnique({ where: { prefix } }),
    /** Newest first. */
    list: (): Promise<ApiKeyRow[]> => db.apiKey.findMany({ orderBy: [{ createdAt: 'desc' }, { prefix: 'asc' }] }),
  };
}

export function writeApiKeys({ db }: Session) {
  return {
    ...readApiKeys(db),
    /** @throws StoreError ALREADY_EXISTS when the prefix is taken. */
    insert: (key: NewApiKey): Promise<ApiKeyRow> => db.apiKey.create({ data: { ...key, scopes: [...key.scopes] } }),
    /** False when there is no such key or it was revoked before. */
    async revoke(prefix: string, at: Date): Promise<boolean> {
      const { count } = await db.apiKey.updateMany({ where: { prefix, revokedAt: null }, data: { revokedAt: at } });
      return count === 1;
    },
  };
}

export function readEncryptionKeys(db: Db) {
  return {
    find: (keyId: string): Promise<EncryptionKeyRow | null> => db.encryptionKey.findUnique({ where: { keyId } }),
    state: (keyId: string): Promise<EncryptionKeyState | null> =>
      db.encryptionKey.findUnique({ where: { keyId }, omit: { publicKey: true } }),
    /** At most `most`, newest first; of one owner, or of all with null. */
    list: (owner: string | null, most: number): Promise<EncryptionKeyState[]> =>
      db.encryptionKey.findMany({
        where: owner === null ? {} : { owner },
        omit: { publicKey: true },
        orderBy: [{ createdAt: 'desc' }, { keyId: 'asc' }],
        take: most,
      }),
  };
}

export function writeEncryptionKeys({ db, client }: Session) {
  return {
    ...readEncryptionKeys(db),
    /** Holds the keys of an owner until the transaction ends: one change of them at a time, in whichever process. */
    async lock(owner: string): Promise<void> {
      await client.query(`SELECT pg_advisory_xact_lock(hashtext('veilrisk encryption keys'), hashtext($1))`, [owner]);
    },
    /** Keys of an owner that are neither revoked nor expired at `now`; stays true under `lock` only. */
    countUsable: (owner: string, now: Date): Promise<number> =>
      db.encryptionKey.count({
        where: { owner, revokedAt: null, OR: [{ expiresAt: null }, { expiresAt: { gt: now } }] },
      }),
    /** Keys of an owner that were registered after `since`, whatever became of them. */
    countNew: (owner: string, since: Date): Promise<number> =>
      db.encryptionKey.count({ where: { owner, createdAt: { gt: since } } }),
    /** False when the same key is there already, whoever owns it. */
    async insert({ publicKey, ...key }: NewEncryptionKey): Promise<boolean> {
      const data = { ...key, publicKey: asBytes(publicKey) };
      const { count } = await db.encryptionKey.createMany({ data, skipDuplicates: true });
      return count === 1;
    },
    /** False when there is no such key or it was revoked before. */
    async revoke(keyId: string, at: Date): Promise<boolean> {
      const { count } = await db.encryptionKey.updateMany({
        where: { keyId, revokedAt: null },
        data: { revokedAt: at },
      });
      return count === 1;
    },
    /** False when there is no such key or another took its place before. `expiresAt` is not after the present one. */
    async replace(keyId: string, { replacedBy, expiresAt }: { replacedBy: string; expiresAt: Date }): Promise<boolean> {
      const { count } = await db.encryptionKey.updateMany({
        where: { keyId, replacedBy: null },
        data: { replacedBy, expiresAt },
      });
      return count === 1;
    },
  };
}

export type ApiKeyReader = ReturnType<typeof readApiKeys>;
export type ApiKeyWriter = ReturnType<typeof writeApiKeys>;
export type EncryptionKeyReader = ReturnType<typeof readEncryptionKeys>;
export type EncryptionKeyWriter = ReturnType<typeof writeEncryptionKeys>;
