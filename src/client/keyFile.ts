/**
 * The secret key in a file, under a passphrase.
 *
 * Source: scrypt (RFC 7914) with the first of the settings that the OWASP Password Storage Cheat Sheet recommends
 * (N = 2^17, r = 8, p = 1: 128 MiB), AES-256-GCM (NIST SP 800-38D) of WebCrypto with everything before the ciphertext as
 * additional data. Layout: encryption/FORMAT.md, section 6.
 * Limit: as strong as the passphrase; whoever has the file can guess at some guesses a second and core. WebCrypto exists
 * in browsers only on secure origins (https, localhost). Neither key nor passphrase is wiped from memory.
 */
import { scryptAsync } from '@noble/hashes/scrypt.js';
import { sha256 } from '@noble/hashes/sha2.js';
import {
  exportSecretKey,
  importSecretKey,
  keyIdOf,
  type PresetName,
  type SecretKey,
} from '../encryption/encryption.ts';
import { checkPublicKey } from '../encryption/preamble.ts';
import { presetByCode } from '../encryption/presets.ts';
import { ClientError, VeilriskError } from '../errors.ts';
import { type RandomSource, systemRandom } from '../random.ts';

const MAGIC = [0x56, 0x52, 0x4b, 0x46]; // "VRKF"
const VERSION = 1;
const HEADER_BYTES = 72;
const SALT = { at: 16, bytes: 16 };
const NONCE = { at: 32, bytes: 12 };
const CHECK = { at: 56, bytes: 16 };
const TAG_BYTES = 16;
const DIGEST_BYTES = 32;
/** scrypt as it is written. */
const COST = { log2N: 17, r: 8, p: 1 };
/** scrypt as it is read: at most 256 MiB and four times the work, so that a stranger's file cannot ask for more. */
const MOST = { log2N: 18, r: 8, p: 2 };

/**
 * The bytes of a key file: 0.3 MB at `standard`, 0.6 MB at `conservative`. Takes about a second and 128 MiB.
 *
 * @param passphrase not empty, well-formed; used as the UTF-8 of its Unicode normal form NFKC, so that it is the same
 * however a keyboard composes it
 * @param random of salt and nonce; cryptographic outside tests
 * @throws ClientError OPTION_INVALID for an unusable passphrase
 */
export async function sealKeyFile(
  key: SecretKey,
  passphrase: string,
  random: RandomSource = systemRandom(),
): Promise<Uint8Array> {
  const secret = exportSecretKey(key);
  const bodyBytes = secret.length + TAG_BYTES;
  const file = new Uint8Array(HEADER_BYTES + key.publicKey.length + bodyBytes + DIGEST_BYTES);
  const view = new DataView(file.buffer);
  file.set(MAGIC);
  file[4] = VERSION;
  file[5] = checkPublicKey(key.publicKey).code;
  file.set([COST.log2N, COST.r, COST.p], 8);
  random.fill(field(file, SALT));
  random.fill(field(file, NONCE));
  view.setUint32(44, key.publicKey.length, true);
  view.setUint32(48, bodyBytes, true);
  file.set(key.publicKey, HEADER_BYTES);
  const derived = await derive(passphrase, file);
  file.set(derived.check, CHECK.at);
  const open = HEADER_BYTES + key.publicKey.length;
  const aes = await crypto.subtle.importKey('raw', derived.key, 'AES-GCM', false, ['encrypt']);
  file.set(new Uint8Array(await crypto.subtle.encrypt(gcm(file, open), aes, plain(secret))), open);
  file.set(sha256(file.subarray(0, -DIGEST_BYTES)), file.length - DIGEST_BYTES);
  return file;
}

/**
 * The key pair of a file. Takes about a second and 128 MiB (at most 256 MiB), with turns of the event loop.
 *
 * A file that was damaged is told from a wrong passphrase by its digest, before any work. Who changes a file on purpose
 * can make a new digest: then a change of salt, cost or passphrase check looks like a wrong passphrase, and every other
 * change is found.
 *
 * @throws ClientError KEY_FILE_MALFORMED, PASSPHRASE_WRONG, OPTION_INVALID
 */
export async function openKeyFile(bytes: Uint8Array, passphrase: string): Promise<SecretKey> {
  // A copy: the caller's buffer may change while this waits.
  const file = bytes.slice();
  const { publicKey, keyId } = publicPart(file);
  const derived = await derive(passphrase, file);
  if (derived.check.some((byte, i) => byte !== file[CHECK.at + i])) {
    throw new ClientError('PASSPHRASE_WRONG', 'the passphrase does not open the key file', {
      where: 'passphrase',
      fix: 'Use the passphrase of this file; without it the key cannot be recovered.',
    });
  }
  const open = HEADER_BYTES + publicKey.length;
  const aes = await crypto.subtle.importKey('raw', derived.key, 'AES-GCM', false, ['decrypt']);
  let key: SecretKey;
  try {
    const body = plain(file.subarray(open, -DIGEST_BYTES));
    key = importSecretKey(new Uint8Array(await crypto.subtle.decrypt(gcm(file, open), aes, body)));
  } catch (cause) {
    // WebCrypto says OperationError; its text has nothing to add.
    throw malformed('ciphertext', cause instanceof VeilriskError ? cause : undefined);
  }
  if (key.keyId !== keyId) throw malformed('key id');
  return key;
}

/**
 * What a key file shows without its passphrase.
 *
 * @throws ClientError KEY_FILE_MALFORMED naming the field
 */
export function publicPart(bytes: Uint8Array): { keyId: string; preset: PresetName; publicKey: Uint8Array } {
  if (bytes.length < HEADER_BYTES + TAG_BYTES + DIGEST_BYTES) throw malformed('length');
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) throw malformed('magic');
  if (bytes[4] !== VERSION) throw malformed('version');
  const preset = presetByCode(bytes[5]);
  if (preset === undefined) throw malformed('preset');
  const [log2N, r, p] = bytes.subarray(8, 11);
  if (log2N < COST.log2N || log2N > MOST.log2N || r !== MOST.r || p < COST.p || p > MOST.p) throw malformed('scrypt');
  if ([6, 7, 11, 12, 13, 14, 15, 52, 53, 54, 55].some((at) => bytes[at] !== 0)) throw malformed('reserved');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const publicBytes = view.getUint32(44, true);
  const bodyBytes = view.getUint32(48, true);
  if (bytes.length !== HEADER_BYTES + publicBytes + bodyBytes + DIGEST_BYTES) throw malformed('length');
  const digest = sha256(bytes.subarray(0, -DIGEST_BYTES));
  if (digest.some((byte, i) => byte !== bytes[bytes.length - DIGEST_BYTES + i])) throw malformed('digest');
  const publicKey = bytes.slice(HEADER_BYTES, HEADER_BYTES + publicBytes);
  try {
    if (checkPublicKey(publicKey).name !== preset.name) throw malformed('preset');
  } catch (cause) {
    throw cause instanceof ClientError ? cause : malformed('public key', cause);
  }
  return { keyId: keyIdOf(publicKey), preset: preset.name, publicKey };
}

/** 32 bytes for AES and 16 that tell a wrong passphrase: different blocks of scrypt's output, independent of each other. */
async function derive(passphrase: string, file: Uint8Array) {
  if (typeof passphrase !== 'string' || passphrase === '' || !passphrase.isWellFormed()) {
    throw new ClientError('OPTION_INVALID', 'the passphrase is not usable', {
      where: 'passphrase',
      fix: 'Give a text that is not empty.',
    });
  }
  const utf8 = new TextEncoder().encode(passphrase.normalize('NFKC'));
  const [log2N, r, p] = file.subarray(8, 11);
  const output = await scryptAsync(utf8, field(file, SALT), {
    ...{ N: 2 ** log2N, r, p },
    dkLen: 48,
    maxmem: 2 ** 29,
  });
  return { key: plain(output.subarray(0, 32)), check: output.subarray(32) };
}

/** @param open bytes before the ciphertext: all of them are authenticated */
function gcm(file: Uint8Array, open: number): AesGcmParams {
  return { name: 'AES-GCM', iv: plain(field(file, NONCE)), additionalData: plain(file.subarray(0, open)) };
}

function field(file: Uint8Array, { at, bytes }: { at: number; bytes: number }): Uint8Array {
  return file.subarray(at, at + bytes);
}

/** Safe: WebCrypto's types ask for bytes that are not in shared memory, and a copy never is. */
function plain(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.slice() as Uint8Array<ArrayBuffer>;
}

function malformed(where: string, cause?: unknown): ClientError {
  return new ClientError('KEY_FILE_MALFORMED', 'the bytes are not a whole and unchanged key file', {
    where: `key file, ${where}`,
    fix: 'Use another copy of the file.',
    cause,
  });
}
