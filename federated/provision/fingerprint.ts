/**
 * Fingerprints for people: what two of them compare over the telephone before they trust a key.
 *
 * SHA-256 of the raw public key (or of a certificate's DER), in sixteen groups of four hex digits. Limit: a comparison of
 * fewer groups is a weaker one.
 */

import { sha256Hex } from '../protocol/canonical.ts';

/** 64 hex digits of an Ed25519 public key (base64). */
export function keyFingerprint(identityKey: string): string {
  return sha256Hex(Buffer.from(identityKey, 'base64'));
}

/** "1a2b 3c4d ...". */
export function spoken(fingerprint: string): string {
  return (fingerprint.match(/.{1,4}/g) ?? []).join(' ');
}

/** Whether what a person typed is that fingerprint: case, spaces and colons do not count. */
export function isFingerprint(typed: string, fingerprint: string): boolean {
  return typed.replace(/[\s:-]/g, '').toLowerCase() === fingerprint;
}
