/**
 * The pseudonym under which a node holds a customer: HMAC-SHA-256 (RFC 2104) of the customer key under a key of the
 * node. The customer key itself is never stored.
 *
 * Limit: whoever holds the node's key can test whether a given customer key is in the database.
 */
import { hash } from 'node:crypto';
import { RequestError } from '../errors.ts';

const BLOCK_BYTES = 64;

/** Makes 32-byte tags; equal customer keys of one node give equal tags, whatever file or data set they came with. */
export interface SubjectTags {
  ofCustomer(customerKey: string): Buffer;
  /** The tag of a record without a customer key, a customer of its own: file content and line name it. */
  ofRecord(fileSha256: string, line: number): Buffer;
}

/** @param subjectKey the node's key, 16 to 64 bytes. @throws RequestError CONFIGURATION for another length. */
export function subjectTags(subjectKey: Uint8Array): SubjectTags {
  if (subjectKey.length < 16 || subjectKey.length > BLOCK_BYTES) {
    throw new RequestError('CONFIGURATION', 'The subject key of a node has 16 to 64 bytes', { where: 'subject.key' });
  }
  const inner = Buffer.alloc(BLOCK_BYTES, 0x36);
  const outer = Buffer.alloc(BLOCK_BYTES, 0x5c);
  subjectKey.forEach((byte, at) => {
    inner[at] ^= byte;
    outer[at] ^= byte;
  });
  // RFC 2104 by hand: an import makes a million tags, and an Hmac object costs ten times two one-shot hashes.
  const tag = (message: string): Buffer => {
    const first = hash('sha256', Buffer.concat([inner, Buffer.from(message)]), 'buffer');
    return hash('sha256', Buffer.concat([outer, first]), 'buffer');
  };
  return {
    ofCustomer: (customerKey) => tag(`veilrisk customer\0${customerKey}`),
    ofRecord: (fileSha256, line) => tag(`veilrisk record\0${fileSha256}\0${line}`),
  };
}
