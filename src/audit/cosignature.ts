/**
 * Cosignatures: a witness's statement that a checkpoint continues every checkpoint of that log it cosigned before.
 *
 * Source: C2SP tlog-cosignature v1.0.0 (https://c2sp.org/tlog-cosignature), algorithm 0x04: Ed25519 over
 * "cosignature/v1\ntime UNIX-SECONDS\n" and the note's text; the signature line holds key id, 8 bytes of time (big
 * endian) and 64 bytes of signature. Limit: the time is the witness's word, and nothing here compares it with a clock.
 */
import { AuditError } from '../errors.ts';
import { bytesToHex, concatBytes, utf8 } from './bytes.ts';
import {
  encodeVerifierKey,
  isBy,
  openNote,
  parseSignatureLine,
  parseVerifierKey,
  signatureLine,
  type VerifierKey,
  verifyEd25519,
} from './note.ts';

const COSIGNATURE = 0x04;
const TIME_BYTES = 8;
/** The last second that ISO 8601 writes with four digits of year. */
const LATEST = 253_402_300_799n;
const BLOB_BYTES = 4 + TIME_BYTES + 64;

/** Signs cosignatures. The private key stays with whoever implements it. */
export interface Witness {
  /** In the form of `encodeWitnessKey`. */
  verifierKey: string;
  /** Ed25519 over `bytes`; 64 bytes. */
  sign(bytes: Uint8Array): Promise<Uint8Array> | Uint8Array;
}

/** `name+id+key` with type byte 0x04. @param name a schema-less URL such as `bank-a/witness`. */
export function encodeWitnessKey(name: string, publicKey: Uint8Array): string {
  return encodeVerifierKey(name, publicKey, COSIGNATURE);
}

/** @throws AuditError AUDIT_NOTE_MALFORMED, also for the key of a log. */
export function parseWitnessKey(text: string): VerifierKey {
  return parseVerifierKey(text, COSIGNATURE);
}

/** The bytes a cosignature signs. @param text of the note, up to and including its last newline. @param time Unix seconds. */
export function cosignedBytes(text: string, time: number): Uint8Array {
  return utf8(`cosignature/v1\ntime ${time}\n${text}`);
}

/**
 * The signature line, without its newline. The caller has verified the note and that it continues what was cosigned.
 * @param time Unix seconds. @throws AuditError AUDIT_NOTE_MALFORMED.
 */
export async function cosign(note: string, witness: Witness, time: number): Promise<string> {
  const { name, id } = parseWitnessKey(witness.verifierKey);
  const { text } = openNote(note);
  const signature = await witness.sign(cosignedBytes(text, time));
  const stamp = new Uint8Array(TIME_BYTES);
  new DataView(stamp.buffer).setBigUint64(0, BigInt(time));
  return signatureLine(name, concatBytes(id, stamp, signature));
}

/**
 * Whether `line` is a cosignature of the note by `key`; its time in Unix seconds.
 * @throws AuditError AUDIT_NOTE_MALFORMED; AUDIT_SIGNATURE_INVALID when it is another's, or wrong.
 */
export async function verifyCosignature(note: string, line: string, key: VerifierKey): Promise<number> {
  const signature = parseSignatureLine(line);
  const { text } = openNote(note);
  if (!isBy(signature, key)) throw invalid(`It is not by the key of ${key.name}.`, key.name);
  return timeOf(text, signature.blob, key);
}

/** The note with further signature lines, of which each is there once. */
export function withSignatures(note: string, lines: readonly string[]): string {
  const { text } = openNote(note);
  const there = note.slice(text.length + 1, -1).split('\n');
  return `${text}\n${[...new Set([...there, ...lines])].join('\n')}\n`;
}

export interface Cosigned {
  name: string;
  /** Unix seconds, by the witness's clock. */
  time: number;
}

/**
 * Who of `keys` cosigned the note. A key that is given twice, or under two names, counts once.
 * @throws AuditError AUDIT_SIGNATURE_INVALID when a cosignature of one of the keys is wrong, or fewer than `quorum` are
 *   there; AUDIT_NOTE_MALFORMED.
 */
export async function verifyWitnesses(note: string, keys: readonly VerifierKey[], quorum: number): Promise<Cosigned[]> {
  const { text, signatures } = openNote(note);
  const found = new Map<string, Cosigned>();
  for (const key of keys) {
    for (const signature of signatures) {
      if (!isBy(signature, key)) continue;
      const time = await timeOf(text, signature.blob, key);
      const owner = bytesToHex(key.publicKey);
      if (!found.has(owner)) found.set(owner, { name: key.name, time });
    }
  }
  if (found.size < quorum) {
    throw invalid(`${found.size} of the ${quorum} witnesses that are required cosigned it.`, 'witness quorum');
  }
  return [...found.values()];
}

async function timeOf(text: string, blob: Uint8Array, key: VerifierKey): Promise<number> {
  if (blob.length !== BLOB_BYTES) throw invalid('It has the wrong length.', key.name);
  const time = new DataView(blob.buffer, blob.byteOffset).getBigUint64(4);
  if (time > LATEST) throw invalid('Its time is out of range.', key.name);
  const signed = cosignedBytes(text, Number(time));
  if (!(await verifyEd25519(key.publicKey, signed, blob.slice(4 + TIME_BYTES)))) {
    throw invalid('Its signature is wrong.', key.name);
  }
  return Number(time);
}

function invalid(why: string, where: string): AuditError {
  return new AuditError('AUDIT_SIGNATURE_INVALID', `The checkpoint is not cosigned as required. ${why}`, {
    where,
    fix: "Compare the witness's key with the one it gives by another way, or ask for a newer checkpoint.",
  });
}
