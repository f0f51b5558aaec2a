/**
 * Signed notes with Ed25519 keys.
 *
 * Source: C2SP signed-note v1.0.0 (https://c2sp.org/signed-note). Key id = first 4 bytes of
 * SHA-256(name || 0x0A || 0x01 || public key); verifier key `name+hex(key id)+base64(0x01 || public key)`.
 * Limit: signatures by unknown keys are ignored, as the specification says, so that a witness can add its own later.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { AuditError } from '../errors.ts';
import { bytesToHex, concatBytes, equalBytes, fromBase64, toBase64, utf8 } from './bytes.ts';

const ED25519 = 0x01;
const MAX_NOTE_CHARACTERS = 1_000_000;
const MAX_SIGNATURES = 100;

export interface VerifierKey {
  name: string;
  /** 4 bytes. */
  id: Uint8Array;
  /** Raw Ed25519 public key, 32 bytes. */
  publicKey: Uint8Array;
}

/** Signs checkpoints. The private key stays with whoever implements it. */
export interface LogSigner {
  /** Name of the log, also the name of its key: a schema-less URL such as `bank-a.example/audit`. */
  origin: string;
  /** In the form of `encodeVerifierKey`. */
  verifierKey: string;
  /** Ed25519 over `bytes`; 64 bytes. */
  sign(bytes: Uint8Array): Promise<Uint8Array>;
}

export function encodeVerifierKey(name: string, publicKey: Uint8Array): string {
  return `${name}+${bytesToHex(keyId(name, publicKey))}+${toBase64(concatBytes(Uint8Array.of(ED25519), publicKey))}`;
}

/** @throws AuditError AUDIT_NOTE_MALFORMED. */
export function parseVerifierKey(text: string): VerifierKey {
  // The name holds no plus sign, but base64 may.
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/.exec(text);
  const key = match === null ? null : fromBase64(match[3]);
  if (match === null || key === null || key.length !== 33 || key[0] !== ED25519) {
    throw malformed('The verifier key is not of the form name+id+key with an Ed25519 key.', 'verifier key');
  }
  const publicKey = key.slice(1);
  const id = keyId(match[1], publicKey);
  if (bytesToHex(id) !== match[2]) throw malformed('The verifier key does not match its own id.', 'verifier key');
  return { name: match[1], id, publicKey };
}

/**
 * A LogSigner over a WebCrypto key pair.
 * @throws AuditError AUDIT_NOTE_MALFORMED for a name that cannot stand in a note.
 */
export async function createLogSigner(origin: string, keys: CryptoKeyPair): Promise<LogSigner> {
  if (!/^[^+\s]+$/.test(origin)) throw malformed('The name of the log holds a blank or a plus sign.', 'origin');
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey));
  return {
    origin,
    verifierKey: encodeVerifierKey(origin, publicKey),
    sign: async (bytes) => new Uint8Array(await crypto.subtle.sign('Ed25519', keys.privateKey, asBuffer(bytes))),
  };
}

/** @param text ends in a newline and holds no other control character. */
export async function signNote(text: string, signer: LogSigner): Promise<string> {
  checkText(text);
  const { id, name } = parseVerifierKey(signer.verifierKey);
  const signature = await signer.sign(utf8(text));
  return `${text}\n— ${name} ${toBase64(concatBytes(id, signature))}\n`;
}

/** The text of a note, unverified. @throws AuditError AUDIT_NOTE_MALFORMED. */
export function openNote(note: string): { text: string; signatures: { name: string; blob: Uint8Array }[] } {
  if (note.length > MAX_NOTE_CHARACTERS) throw malformed('The note is too long.');
  const end = note.lastIndexOf('\n\n');
  if (end < 0 || !note.endsWith('\n')) throw malformed('The note has no signatures.');
  const text = note.slice(0, end + 1);
  checkText(text);
  const lines = note.slice(end + 2, -1).split('\n');
  if (lines.length > MAX_SIGNATURES) throw malformed('The note has too many signatures.');
  const signatures = lines.map((line) => {
    const match = /^— ([^+\s]+) (\S+)$/u.exec(line);
    const blob = match === null ? null : fromBase64(match[2]);
    if (match === null || blob === null || blob.length < 5) throw malformed('A signature line is malformed.');
    return { name: match[1], blob };
  });
  return { text, signatures };
}

/**
 * The text of `note`, if `key` signed it.
 * @throws AuditError AUDIT_NOTE_MALFORMED; AUDIT_SIGNATURE_INVALID when no signature of the key is there or one is wrong.
 */
export async function verifyNote(note: string, key: VerifierKey): Promise<string> {
  const { text, signatures } = openNote(note);
  const mine = signatures.filter(({ name, blob }) => name === key.name && equalBytes(blob.slice(0, 4), key.id));
  if (mine.length === 0) throw unsigned(`The note is not signed by the key of ${key.name}.`);
  const verifier = await crypto.subtle.importKey('raw', asBuffer(key.publicKey), 'Ed25519', false, ['verify']);
  for (const { blob } of mine) {
    if (!(await crypto.subtle.verify('Ed25519', verifier, asBuffer(blob.slice(4)), asBuffer(utf8(text))))) {
      throw unsigned(`The signature of ${key.name} is wrong.`);
    }
  }
  return text;
}

function keyId(name: string, publicKey: Uint8Array): Uint8Array {
  return sha256(concatBytes(utf8(`${name}\n`), Uint8Array.of(ED25519), publicKey)).slice(0, 4);
}

function checkText(text: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the specification excludes exactly these.
  if (!text.endsWith('\n') || /[\u0000-\u0009\u000b-\u001f]/.test(text) || !text.isWellFormed()) {
    throw malformed('The text of the note holds a control character or does not end in a newline.');
  }
}

// Safe: WebCrypto's types exclude views of shared memory, which never reach this room.
const asBuffer = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => bytes as Uint8Array<ArrayBuffer>;

function malformed(message: string, where = 'note'): AuditError {
  return new AuditError('AUDIT_NOTE_MALFORMED', message, { where, fix: 'Use the bytes exactly as the log gave them.' });
}

function unsigned(message: string): AuditError {
  return new AuditError('AUDIT_SIGNATURE_INVALID', message, {
    where: 'checkpoint',
    fix: 'Compare the verifier key with one obtained from the node by another way.',
  });
}
