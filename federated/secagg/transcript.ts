/**
 * Bytes that name a context: every field preceded by its length as a 32-bit big-endian integer, as in the signatures of
 * the protocol. No two lists of fields have the same bytes.
 */
import { sha256 } from '../protocol/canonical.ts';

const encoder = new TextEncoder();

/** Text as UTF-8, numbers as 32-bit big-endian integers in [0, 2^32). */
export type Field = string | number | Uint8Array;

export function frame(fields: readonly Field[]): Uint8Array<ArrayBuffer> {
  const parts = fields.map(bytesOf);
  const out = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length);
    out.set(part, at + 4);
    at += 4 + part.length;
  }
  return out;
}

/** SHA-256 of the framed fields; the first is the domain. */
export function hashOf(fields: readonly Field[]): Uint8Array<ArrayBuffer> {
  return sha256(frame(fields));
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

function bytesOf(field: Field): Uint8Array {
  if (typeof field === 'string') return encoder.encode(field);
  if (typeof field !== 'number') return field;
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, field);
  return bytes;
}
