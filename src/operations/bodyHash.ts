/**
 * The hash by which a repeated request is recognised: HMAC-SHA-256 (RFC 2104) of the canonical body (RFC 8785), under a
 * key of its own that is derived from the node's key by HMAC with a label.
 *
 * A plain hash would outlive an erasure as a test: a transaction has few plausible values, and trying them all finds the
 * one behind a hash. Limit: whoever holds the node's key can still do that.
 */
import { createHmac } from 'node:crypto';
import { canonicalBytes } from '../canonical.ts';

/** 64 hexadecimal digits, the same for the same body on one node. @param subjectKey the node's key */
export function bodyHash(subjectKey: Uint8Array, body: object): string {
  const key = createHmac('sha256', subjectKey).update('veilrisk request body').digest();
  return createHmac('sha256', key).update(canonicalBytes(body)).digest('hex');
}
