/**
 * Log entries: RFC 8785 canonical JSON of at most 65,535 bytes, with commitments in place of anything personal.
 *
 * Source: audit/FORMAT.md; RFC 8785; the size limit is that of C2SP tlog-tiles. A commitment is SHA-256(salt || value)
 * with 32 random bytes of salt: hiding while the salt is secret, binding for ever, meaningless once the salt is deleted.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import canonicalize from 'canonicalize';
import { AuditError } from '../errors.ts';
import { bytesToHex, concatBytes, utf8 } from './bytes.ts';

const ENTRY_FORMAT = 'veilrisk-entry/1';
export const MAX_ENTRY_BYTES = 65_535;
export const SALT_BYTES = 32;

export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/** What an operation records. Holds no personal value: those go through `commit`. */
export interface EntryDraft {
  /** What happened, dotted: `decision`, `privacy.reserve`, `model.adopt`, ... */
  type: string;
  /** Who caused it: `node`, `api-key:PREFIX`, `operator`, ... */
  actor: string;
  requestId?: string;
  modelHash?: string;
  policyHash?: string;
  /** How it ended: `ok`, `refused`, `approve`, ... */
  outcome: string;
  reasonCodes?: readonly string[];
  details: Readonly<Record<string, Json>>;
  /** Name -> hex commitment. */
  commitments?: Readonly<Record<string, string>>;
}

export interface Entry extends EntryDraft {
  format: typeof ENTRY_FORMAT;
  /** UTC, ISO 8601 with milliseconds, by the node's clock. The order of entries is their index, not their time. */
  time: string;
}

/** The bytes that are hashed and stored. @throws AuditError AUDIT_ENTRY_INVALID. */
export function entryBytes(draft: EntryDraft, time: Date): Uint8Array {
  for (const name of ['type', 'actor', 'outcome'] as const) {
    if (typeof draft[name] !== 'string' || draft[name] === '') throw invalid(`${name} is empty`, draft.type);
  }
  for (const [name, value] of Object.entries(draft.commitments ?? {})) {
    if (!/^[0-9a-f]{64}$/.test(value)) throw invalid(`commitment ${name} is not 64 hex digits`, draft.type);
  }
  const entry: Entry = { ...draft, format: ENTRY_FORMAT, time: time.toISOString() };
  let text: string | undefined;
  try {
    text = canonicalize(entry);
  } catch (cause) {
    throw invalid('it is not JSON', draft.type, cause);
  }
  if (text === undefined || !text.isWellFormed()) throw invalid('it is not JSON', draft.type);
  const bytes = utf8(text);
  if (bytes.length > MAX_ENTRY_BYTES) throw invalid(`it has ${bytes.length} bytes of ${MAX_ENTRY_BYTES}`, draft.type);
  return bytes;
}

/** SHA-256(salt || value), hex. @param salt 32 random bytes, kept with the value in the erasable table. */
export function commit(salt: Uint8Array, value: Uint8Array): string {
  if (salt.length !== SALT_BYTES) throw invalid(`a salt must have ${SALT_BYTES} bytes`, 'commitment');
  return bytesToHex(sha256(concatBytes(salt, value)));
}

function invalid(what: string, where: string, cause?: unknown): AuditError {
  return new AuditError('AUDIT_ENTRY_INVALID', `The audit entry cannot be written: ${what}.`, { where, cause });
}
