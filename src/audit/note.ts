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

/** @param algorithm type byte of the key: 0x01 signs notes, 0x04 cosigns checkpoints (cosignature.ts). */
export function encodeVerifierKey(name: string, publicKey: Uint8Array, algorithm = ED25519): string {
  const id = keyId(name, publicKey, algorithm);
  return `${name}+${bytesToHex(id)}+${toBase64(concatBytes(Uint8Array.of(algorithm), publicKey))}`;
}

/** @throws AuditError AUDIT_NOTE_MALFORMED, also for a key of another algorithm. */
export function parseVerifierKey(text: string, algorithm = ED25519): VerifierKey {
  // The name holds no plus sign, but base64 may.
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/.exec(text);
  const key = match === null ? null : fromBase64(match[3]);
  if (match === null || key === null || key.length !== 33 || key[0] !== algorithm) {
    const type = algorithm === ED25519 ? 'an Ed25519 key' : `a key of type ${algorithm}`;
    throw malformed(`The verifier key is not of the form name+id+key with ${type}.`, 'verifier key');
  }
  const publicKey = key.slice(1);
  const id = keyId(match[1], publicKey, algorithm);
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
  return `${text}\n${signatureLine(name, concatBytes(id, signature))}\n`;
}

/** Without its newline. */
export const signatureLine = (name: string, blob: Uint8Array): string => `— ${name} ${toBase64(blob)}`;

export interface NoteSignature {
  name: string;
  /** 4 bytes of key id, then what the key's algorithm says. */
  blob: Uint8Array;
}

/** @throws AuditError AUDIT_NOTE_MALFORMED. */
export function parseSignatureLine(line: string): NoteSignature {
  const match = /^— ([^+\s]+) (\S+)$/u.exec(line);
  const blob = match === null ? null : fromBase64(match[2]);
  if (match === null || blob === null || blob.length < 5) throw malformed('A signature line is malformed.');
  return { name: match[1], blob };
}

/** The text of a note, unverified. @throws AuditError AUDIT_NOTE_MALFORMED. */
export function openNote(note: string): { text: string; signatures: NoteSignature[] } {
  if (note.length > MAX_NOTE_CHARACTERS) throw malformed('The note is too long.');
  const end = note.lastIndexOf('\n\n');
  if (end < 0 || !note.endsWith('\n')) throw malformed('The note has no signatures.');
  const text = note.slice(0, end + 1);
  checkText(text);
  const lines = note.slice(end + 2, -1).split('\n');
  if (lines.length > MAX_SIGNATURES) throw malformed('The note has too many signatures.');
  return { text, signatures: lines.map(parseSignatureLine) };
}

/**
 * The text of `note`, if `key` signed it.
 * @throws AuditError AUDIT_NOTE_MALFORMED; AUDIT_SIGNATURE_INVALID when no signature of the key is there or one is wrong.
 */
export async function verifyNote(note: string, key: VerifierKey): Promise<string> {
  const { text, signatures } = openNote(note);
  const mine = signatures.filter((signature) => isBy(signature, key));
  if (mine.length === 0) throw unsigned(`The note is not signed by the key of ${key.name}.`);
  for (const { blob } of mine) {
    if (!(await verifyEd25519(key.publicKey, utf8(text), blob.slice(4)))) {
      throw unsigned(`The signature of ${key.name} is wrong.`);
    }
  }
  return text;
}

/** Whether a signature line names this key. */
export function isBy({ name, blob }: NoteSignature, key: VerifierKey): boolean {
  return name === key.name && equalBytes(blob.slice(0, 4), key.id);
}

export async function verifyEd25519(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): Promise<boolean> {
  const key = await crypto.subtle.importKey('raw', asBuffer(publicKey), 'Ed25519', false, ['verify']);
  return crypto.subtle.verify('Ed25519', key, asBuffer(signature), asBuffer(bytes));
}

function keyId(name: string, publicKey: Uint8Array, algorithm: number): Uint8Array {
  return sha256(concatBytes(utf8(`${name}\n`), Uint8Array.of(algorithm), publicKey)).slice(0, 4);
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
