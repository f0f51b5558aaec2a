/**
 * RFC 8785 canonical JSON and its SHA-256: how every document of ours (contract, plan, model, policy) is named.
 *
 * Limit: numbers are IEEE 754 binary64, so an integer above 2^53 does not survive; none of our documents has one.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import canonicalize from 'canonicalize';

/** UTF-8 bytes of the canonical form of a parsed document. */
export function canonicalBytes(document: object): Uint8Array<ArrayBuffer> {
  // Safe: canonicalize returns undefined only for values that JSON cannot hold at the top level, which no object is.
  return new Uint8Array(utf8ToBytes(canonicalize(document) as string));
}

/** SHA-256 of the canonical form, 64 lower-case hexadecimal digits. */
export function canonicalHash(document: object): string {
  return bytesToHex(sha256(canonicalBytes(document)));
}
