/**
 * The pseudonym under which a node holds a customer: HMAC-SHA-256 (RFC 2104) of the customer key under a key of the
 * node. The customer key itself is never stored.
 *
 * Limit: whoever holds the node's key can test whether a given customer key is in the database.
 */
import { createHmac } from 'node:crypto';

/** 32 bytes; equal customer keys of one node give equal tags, whatever file or data set they came with. */
export function subjectTag(subjectKey: Uint8Array, customerKey: string): Buffer {
  return createHmac('sha256', subjectKey).update(`veilrisk customer\0${customerKey}`).digest();
}

/** The tag of a record without a customer key, which is a customer of its own: file content and line name it. */
export function recordTag(subjectKey: Uint8Array, fileSha256: string, line: number): Buffer {
  return createHmac('sha256', subjectKey).update(`veilrisk record\0${fileSha256}\0${line}`).digest();
}
