/** Hexadecimal, base64 and comparison of bytes, without a node: module. */
import { bytesToHex, concatBytes, hexToBytes } from '@noble/hashes/utils.js';
import { AuditError } from '../errors.ts';

export { bytesToHex, concatBytes, hexToBytes };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export const utf8 = (text: string): Uint8Array => encoder.encode(text);

/** Strict UTF-8. @throws AuditError AUDIT_FILE_MALFORMED. */
export function fromUtf8(bytes: Uint8Array, where: string): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new AuditError('AUDIT_FILE_MALFORMED', 'The bytes are not UTF-8.', { where, cause });
  }
}

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** Canonical padded base64 (RFC 4648 section 4), or null: no blanks, no missing padding, no stray low bits. */
export function fromBase64(text: string): Uint8Array | null {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) return null;
  const decoded = atob(text);
  if (btoa(decoded) !== text) return null;
  return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
