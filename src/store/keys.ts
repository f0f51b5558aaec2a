/** API keys (who may call) and callers' public encryption keys. Rows change once: when they are revoked. */
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

export interface EncryptionKeyRow {
  /** Hex hash of the key's bytes. */
  keyId: string;
  preset: string;
  /** Name of the API key's owner. */
  owner: string;
  publicKey: Uint8Array;
  createdAt: Date;
  expiresAt: Date | null;
  revokedAt: Date | null;
}

export type NewApiKey = Omit<ApiKeyRow, 'revokedAt' | 'scopes'> & { scopes: readonly string[] };
export type NewEncryptionKey = Omit<EncryptionKeyRow, 'revokedAt' | 'expiresAt'> & { expiresAt?: Date | null };

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
    /** Of one owner, newest first. */
    list: (owner: string): Promise<EncryptionKeyRow[]> =>
      db.encryptionKey.findMany({ where: { owner }, orderBy: [{ createdAt: 'desc' }, { keyId: 'asc' }] }),
  };
}

export function writeEncryptionKeys({ db }: Session) {
  return {
    ...readEncryptionKeys(db),
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
  };
}

export type ApiKeyReader = ReturnType<typeof readApiKeys>;
export type ApiKeyWriter = ReturnType<typeof writeApiKeys>;
export type EncryptionKeyReader = ReturnType<typeof readEncryptionKeys>;
export type EncryptionKeyWriter = ReturnType<typeof writeEncryptionKeys>;
