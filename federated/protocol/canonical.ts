/**
 * Canonical JSON, framed fields and SHA-256 on the wire: the one way anything here is named by a hash or signed.
 */

import { createHash } from 'node:crypto';
import { canonicalBytes } from '../../src/canonical.ts';
import { FederationError } from '../../src/errors.ts';

export { canonicalBytes, canonicalHash } from '../../src/canonical.ts';

export function sha256(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

export function sha256Hex(...parts: readonly Uint8Array[]): string {
  return Buffer.from(sha256(...parts)).toString('hex');
}

const encoder = new TextEncoder();

/** Text as UTF-8, numbers as 32-bit big-endian integers in [0, 2^32). */
export type Field = string | number | Uint8Array;

/** Every field preceded by its length as a 32-bit big-endian integer: no two lists of fields have the same bytes. */
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

function bytesOf(field: Field): Uint8Array {
  if (typeof field === 'string') return encoder.encode(field);
  if (typeof field !== 'number') return field;
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, field);
  return bytes;
}

/**
 * Parses bytes that must be the canonical form of their own content, so that a hash names exactly one document.
 * Throws MESSAGE_MALFORMED naming `what`.
 */
export function parseCanonical(bytes: Uint8Array, what: string): object {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw new FederationError('MESSAGE_MALFORMED', `The ${what} is not JSON in UTF-8.`, { where: what, cause });
  }
  if (typeof json !== 'object' || json === null || !Buffer.from(canonicalBytes(json)).equals(bytes)) {
    throw new FederationError('MESSAGE_MALFORMED', `The ${what} is not in RFC 8785 canonical form.`, { where: what });
  }
  return json;
}
