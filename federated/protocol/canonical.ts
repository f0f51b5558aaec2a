/**
 * Canonical JSON and SHA-256 on the wire: the one way anything here is named by a hash.
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
