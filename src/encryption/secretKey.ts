/**
 * The caller's key pair, in a type that prints only its length and that no serializer can read.
 *
 * Source: the habit of janus `SecretBytes`. The bytes are in a private field: JSON, string conversion, Node's
 * inspection and structured clone see none of them.
 * Limit: not wiped from memory; an export is plain bytes that the caller has to protect.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { EncryptionError } from '../errors.ts';
import { checkPublicKey, publicKeyShape } from './preamble.ts';
import { type PresetName, presetByCode } from './presets.ts';
import { PLAINTEXT_PREAMBLE_BYTES, plaintextPreamble } from './sealBytes.ts';

const MAGIC = [0x56, 0x52, 0x53, 0x4b]; // "VRSK"
const VERSION = 1;
const HEADER_BYTES = 16;

export class SecretKey {
  readonly preset: PresetName;
  /** Seeded public key, as it is registered. */
  readonly publicKey: Uint8Array;
  /** 64 hexadecimal digits: SHA-256 of the public key's bytes. */
  readonly keyId: string;
  readonly #seal: Uint8Array;

  constructor(preset: PresetName, publicKey: Uint8Array, seal: Uint8Array) {
    this.preset = preset;
    this.publicKey = publicKey;
    this.keyId = keyIdOf(publicKey);
    this.#seal = seal;
  }

  /** The bytes SEAL loads. They decrypt everything of this key: neither print nor send them. */
  exposeSealBytes(): Uint8Array {
    return this.#seal;
  }

  toString(): string {
    return `SecretKey(${this.#seal.length} bytes)`;
  }

  toJSON(): string {
    return this.toString();
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}

export function keyIdOf(publicKey: Uint8Array): string {
  return bytesToHex(sha256(publicKey));
}

/** The key pair as plain bytes, for a vault or an encrypted file. Layout in FORMAT.md. */
export function exportSecretKey(key: SecretKey): Uint8Array {
  const seal = key.exposeSealBytes();
  const out = new Uint8Array(HEADER_BYTES + key.publicKey.length + seal.length);
  const view = new DataView(out.buffer);
  out.set(MAGIC);
  out[4] = VERSION;
  out[5] = checkPublicKey(key.publicKey).code;
  view.setUint32(8, key.publicKey.length, true);
  view.setUint32(12, seal.length, true);
  out.set(key.publicKey, HEADER_BYTES);
  out.set(seal, HEADER_BYTES + key.publicKey.length);
  return out;
}

/** @throws EncryptionError ENCRYPTION_INPUT when the bytes are not an export; PUBLIC_KEY_* when their public half is bad */
export function importSecretKey(bytes: Uint8Array): SecretKey {
  const refuse = () =>
    new EncryptionError('ENCRYPTION_INPUT', 'the bytes are not an exported key pair', {
      where: 'secret key',
      fix: 'Use the bytes that exportSecretKey gave, whole and unchanged.',
    });
  if (bytes.length < HEADER_BYTES || MAGIC.some((byte, i) => bytes[i] !== byte) || bytes[4] !== VERSION) throw refuse();
  const preset = presetByCode(bytes[5]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const publicLength = view.getUint32(8, true);
  const sealLength = view.getUint32(12, true);
  if (preset === undefined || bytes[6] !== 0 || bytes[7] !== 0) throw refuse();
  if (bytes.length !== HEADER_BYTES + publicLength + sealLength) throw refuse();
  const publicKey = bytes.slice(HEADER_BYTES, HEADER_BYTES + publicLength);
  const seal = bytes.slice(HEADER_BYTES + publicLength);
  const expected = plaintextPreamble(publicKeyShape(preset));
  if (seal.length !== PLAINTEXT_PREAMBLE_BYTES + 8 * 3 * preset.degree) throw refuse();
  if (expected.some((byte, i) => seal[i] !== byte)) throw refuse();
  if (checkPublicKey(publicKey).name !== preset.name) throw refuse();
  return new SecretKey(preset.name, publicKey, seal);
}
