/**
 * Hashes that name a context of secure aggregation, over framed fields as in the signatures of the protocol.
 */
import { type Field, frame, sha256 } from '../protocol/canonical.ts';

/** SHA-256 of the framed fields; the first is the domain. */
export function hashOf(fields: readonly Field[]): Uint8Array<ArrayBuffer> {
  return sha256(frame(fields));
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
