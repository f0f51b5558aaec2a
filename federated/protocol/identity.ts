/**
 * Ed25519 identity keys (RFC 8032): who signed a message, a plan or a model.
 *
 * A private key lives in a PEM file (PKCS #8) of mode 0600 and in a KeyObject, which prints nothing of it.
 * Limit: no passphrase and no hardware key; who can read the file can sign as its owner.
 */

import {
  createPrivateKey,
  createPublicKey,
  sign as ed25519Sign,
  verify as ed25519Verify,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { chmod, open, readFile, stat } from 'node:fs/promises';
import { FederationError } from '../../src/errors.ts';

// RFC 8410 section 4: SubjectPublicKeyInfo of Ed25519 is this prefix and the 32 raw bytes.
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const PRIVATE_MODE = 0o600;

export class IdentityKey {
  /** Raw 32-byte public key in base64, as the roster holds it. */
  readonly publicKey: string;
  readonly #private: KeyObject;

  private constructor(privateKey: KeyObject) {
    this.#private = privateKey;
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

  /** Reads a PEM file. Throws ROSTER_INVALID when it is missing, not Ed25519, or readable by others than its owner. */
  static async load(path: string): Promise<IdentityKey> {
    let pem: string;
    try {
      const mode = (await stat(path)).mode & 0o777;
      if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
        throw new FederationError('ROSTER_INVALID', 'The identity key file can be read by others.', {
          where: path,
          fix: `chmod 600 ${path}`,
        });
      }
      pem = await readFile(path, 'utf8');
    } catch (cause) {
      if (cause instanceof FederationError) throw cause;
      throw new FederationError('ROSTER_INVALID', 'The identity key file cannot be read.', { where: path, cause });
    }
    return IdentityKey.fromPem(pem, path);
  }

  /** Writes a new PEM file of mode 0600 and flushes it; refuses to replace an existing one (ALREADY there is never lost). */
  async save(path: string): Promise<void> {
    let file: Awaited<ReturnType<typeof open>>;
    try {
      file = await open(path, 'wx', PRIVATE_MODE);
    } catch (cause) {
      throw new FederationError('ROSTER_INVALID', 'The identity key file cannot be created; it may exist already.', {
        where: path,
        fix: 'Choose another path, or keep the existing key.',
        cause,
      });
    }
    try {
      await file.writeFile(this.#private.export({ type: 'pkcs8', format: 'pem' }));
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(path, PRIVATE_MODE);
  }

  /** 64-byte deterministic signature. */
  sign(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
    return new Uint8Array(ed25519Sign(null, bytes, this.#private));
  }

  verify(bytes: Uint8Array, signature: Uint8Array): boolean {
    return verifySignature(this.publicKey, bytes, signature);
  }
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
