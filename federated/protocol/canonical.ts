/**
 * RFC 8785 canonical JSON and its SHA-256: the one way anything on this wire is named by a hash.
 *
 * Limit: numbers are IEEE 754 binary64, so an integer above 2^53 does not survive; none of our documents has one.
 */

import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { FederationError } from '../../src/errors.ts';

/** UTF-8 bytes of the canonical form. Throws MESSAGE_MALFORMED for what JSON cannot hold (undefined, NaN, functions). */
export function canonicalBytes(json: unknown): Uint8Array<ArrayBuffer> {
  const text = canonicalText(json);
  return new Uint8Array(new TextEncoder().encode(text));
}

/** SHA-256 of the canonical form, 64 lower-case hex digits. */
export function canonicalHash(json: unknown): string {
  return sha256Hex(canonicalBytes(json));
}

export function sha256(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

export function sha256Hex(...parts: readonly Uint8Array[]): string {
  return Buffer.from(sha256(...parts)).toString('hex');
}

/**
 * Parses bytes that must be the canonical form of their own content, so that a hash names exactly one document.
 * Throws MESSAGE_MALFORMED naming `what`.
 */
export function parseCanonical(bytes: Uint8Array, what: string): unknown {
  let json: unknown;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    throw new FederationError('MESSAGE_MALFORMED', `The ${what} is not JSON in UTF-8.`, { where: what, cause });
  }
  if (canonicalText(json) !== text) {
    throw new FederationError('MESSAGE_MALFORMED', `The ${what} is not in RFC 8785 canonical form.`, { where: what });
  }
  return json;
}

function canonicalText(json: unknown): string {
  let text: string | undefined;
  try {
    text = canonicalize(json);
  } catch (cause) {
    throw new FederationError('MESSAGE_MALFORMED', 'The document cannot be written as canonical JSON.', { cause });
  }
  if (text === undefined) {
    throw new FederationError('MESSAGE_MALFORMED', 'The document cannot be written as canonical JSON.');
  }
  return text;
}
