/**
 * Checkpoints: the signed statement "the log named ORIGIN has SIZE entries with root ROOT".
 *
 * Source: C2SP tlog-checkpoint v1.0.0 (https://c2sp.org/tlog-checkpoint). Extension lines are accepted and ignored.
 */
import { AuditError } from '../errors.ts';
import { fromBase64, toBase64 } from './bytes.ts';
import { type LogSigner, openNote, signNote, type VerifierKey, verifyNote } from './note.ts';
import { HASH_BYTES } from './tree.ts';

export interface Checkpoint {
  origin: string;
  /** Entries in the log. */
  size: number;
  /** 32 bytes. */
  root: Uint8Array;
}

/** The signed note of a checkpoint. */
export function signCheckpoint(size: number, root: Uint8Array, signer: LogSigner): Promise<string> {
  return signNote(`${signer.origin}\n${size}\n${toBase64(root)}\n`, signer);
}

/** Verifies and parses. @throws AuditError AUDIT_SIGNATURE_INVALID, AUDIT_NOTE_MALFORMED. */
export async function verifyCheckpoint(note: string, key: VerifierKey): Promise<Checkpoint> {
  const checkpoint = parseText(await verifyNote(note, key));
  if (checkpoint.origin !== key.name) {
    throw new AuditError('AUDIT_SIGNATURE_INVALID', 'The checkpoint is of another log than its key.', {
      where: checkpoint.origin,
      fix: `Use the verifier key of ${checkpoint.origin}.`,
    });
  }
  return checkpoint;
}

/** Parses without verifying. @throws AuditError AUDIT_NOTE_MALFORMED. */
export function parseCheckpoint(note: string): Checkpoint {
  return parseText(openNote(note).text);
}

function parseText(text: string): Checkpoint {
  const [origin, size, root, ...rest] = text.slice(0, -1).split('\n');
  const hash = root === undefined ? null : fromBase64(root);
  if (
    !origin ||
    !/^(0|[1-9][0-9]*)$/.test(size ?? '') ||
    !Number.isSafeInteger(Number(size)) ||
    hash?.length !== HASH_BYTES ||
    rest.includes('')
  ) {
    throw new AuditError('AUDIT_NOTE_MALFORMED', 'The note is not a checkpoint.', { where: 'checkpoint' });
  }
  return { origin, size: Number(size), root: hash };
}
