/**
 * A member's keys: Ed25519 (RFC 8032) says who signed a message, a plan or a model; the TLS key beside it (ECDSA P-256)
 * opens connections under the certificate the roster lists for the same member.
 *
 * Private keys live in PEM files (PKCS #8) of mode 0600, `NAME.pem` and `NAME-tls.pem`, and in private fields, which print
 * nothing of them. Limit: no passphrase and no hardware key; who can read the files can act as their owner.
 */

import {
  createPrivateKey,
  createPublicKey,
  sign as ed25519Sign,
  verify as ed25519Verify,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, open, readFile, stat } from 'node:fs/promises';
import { FederationError } from '../../src/errors.ts';

// RFC 8410 section 4: SubjectPublicKeyInfo of Ed25519 is this prefix and the 32 raw bytes.
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const PRIVATE_MODE = 0o600;

export class IdentityKey {
  /** Raw 32-byte public key in base64, as the roster holds it. */
  readonly publicKey: string;
  readonly #private: KeyObject;
  readonly #tls: string | undefined;

  private constructor(privateKey: KeyObject, tls?: string) {
    this.#private = privateKey;
    this.#tls = tls;
    const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
    this.publicKey = spki.subarray(SPKI_PREFIX.length).toString('base64');
  }

  /** A fresh key from the system's generator. */
  static create(): IdentityKey {
    return new IdentityKey(generateKeyPairSync('ed25519').privateKey);
  }

  static fromPem(pem: string, where = 'identity key'): IdentityKey {
    let key: KeyObject;
    try {
      key = createPrivateKey(pem);
    } catch (cause) {
      throw new FederationError('ROSTER_INVALID', 'The identity key is not a PEM private key.', { where, cause });
    }
    if (key.asymmetricKeyType !== 'ed25519') {
      throw new FederationError('ROSTER_INVALID', 'The identity key is not an Ed25519 key.', { where });
    }
    return new IdentityKey(key);
  }

  /**
   * Reads a PEM file and, where there is one, the TLS key beside it.
   * Throws ROSTER_INVALID when a file is missing, of another kind, or readable by others than its owner.
   */
  static async load(path: string): Promise<IdentityKey> {
    const key = IdentityKey.fromPem(await readSecretPem(path), path);
    const beside = tlsKeyFile(path);
    return existsSync(beside) ? key.withTls(await readSecretPem(beside), beside) : key;
  }

  /** The same identity with its TLS key, PKCS #8 in PEM. Throws ROSTER_INVALID when that is no private key. */
  withTls(pem: string, where = 'TLS key'): IdentityKey {
    try {
      createPrivateKey(pem);
    } catch (cause) {
      throw new FederationError('ROSTER_INVALID', 'The TLS key is not a PEM private key.', { where, cause });
    }
    return new IdentityKey(this.#private, pem);
  }

  /** PKCS #8 in PEM, for the TLS library alone; undefined where the member has none yet. */
  get tlsKey(): string | undefined {
    return this.#tls;
  }

  /** Writes a new PEM file; refuses to replace an existing one. The TLS key is not part of it. */
  async save(path: string): Promise<void> {
    await writeSecretPem(path, this.#private.export({ type: 'pkcs8', format: 'pem' }).toString());
  }

  /** 64-byte deterministic signature. */
  sign(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
    return new Uint8Array(ed25519Sign(null, bytes, this.#private));
  }

  verify(bytes: Uint8Array, signature: Uint8Array): boolean {
    return verifySignature(this.publicKey, bytes, signature);
  }
}

/** Where the TLS key of the identity in `path` lives. */
export function tlsKeyFile(path: string): string {
  return `${path.replace(/\.pem$/, '')}-tls.pem`;
}

/** Throws ROSTER_INVALID when the file cannot be read, or by more than its owner. */
export async function readSecretPem(path: string): Promise<string> {
  try {
    const mode = (await stat(path)).mode & 0o777;
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw new FederationError('ROSTER_INVALID', 'A private key file can be read by others.', {
        where: path,
        fix: `chmod 600 ${path}`,
      });
    }
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof FederationError) throw cause;
    throw new FederationError('ROSTER_INVALID', 'A private key file cannot be read.', { where: path, cause });
  }
}

/** Writes a new file of mode 0600 and flushes it; an existing one is never replaced (ROSTER_INVALID). */
export async function writeSecretPem(path: string, pem: string): Promise<void> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'wx', PRIVATE_MODE);
  } catch (cause) {
    throw new FederationError('ROSTER_INVALID', 'A private key file cannot be created; it may exist already.', {
      where: path,
      fix: 'Choose another path, or keep the existing key.',
      cause,
    });
  }
  try {
    await file.writeFile(pem);
    await file.sync();
  } finally {
    await file.close();
  }
  await chmod(path, PRIVATE_MODE);
}

/** Parsed public keys are kept: a roster has at most a few hundred. */
const parsedKeys = new Map<string, KeyObject>();

/** Whether `signature` is `publicKey`'s (base64 of 32 raw bytes) over `bytes`. False for any malformed input. */
export function verifySignature(publicKey: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64) return false;
  let key = parsedKeys.get(publicKey);
  if (key === undefined) {
    const raw = Buffer.from(publicKey, 'base64');
    if (raw.length !== 32) return false;
    try {
      key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' });
    } catch {
      return false;
    }
    if (parsedKeys.size > 4096) parsedKeys.clear();
    parsedKeys.set(publicKey, key);
  }
  return ed25519Verify(null, bytes, key, signature);
}
