/**
 * Which customers evaluate a model and which train it: a share of them by a keyed hash, the same for every plan.
 *
 * A customer's side follows from HMAC-SHA-256 (RFC 2104) of that customer's tag under the node's key, in a domain of its
 * own, read as a fraction of 2^32 and compared with the share. So no other customer changes it, nobody without the key
 * can steer it, and who is held out at a share is held out at every larger one.
 *
 * GUARANTEES.md: "Federated evaluation"
 */
import { hash } from 'node:crypto';
import { PrivacyError } from '../errors.ts';
import { SUBJECT_BYTES } from '../store/records.ts';

export const GUARANTEE = 'Federated evaluation';

const BLOCK_BYTES = 64;
const DOMAIN = Buffer.from('veilrisk holdout\0');

/**
 * Splits rows by customer, keeping their order.
 *
 * @param subjects customer tags of all rows of the data set, 32 bytes each, one after the other.
 * @param rows the row numbers to split. @param key of the node, 16 to 64 bytes. @param share in [0, 1]; 0 holds nobody out.
 */
export function splitHoldout(
  subjects: Uint8Array,
  rows: Uint32Array,
  key: Uint8Array,
  share: number,
): { training: Uint32Array; holdout: Uint32Array } {
  if (!(share >= 0 && share <= 1) || key.length < 16 || key.length > BLOCK_BYTES) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'a hold-out needs a share in [0, 1] and a key of 16 to 64 bytes', {
      where: 'holdout',
    });
  }
  if (share === 0) return { training: rows, holdout: new Uint32Array() };
  // RFC 2104 by hand, as in subjectTag.ts: a data set has a million tags, and an Hmac object costs ten times two hashes.
  const inner = Buffer.alloc(BLOCK_BYTES + DOMAIN.length + SUBJECT_BYTES, 0x36);
  const outer = Buffer.alloc(BLOCK_BYTES + 32, 0x5c);
  key.forEach((byte, at) => {
    inner[at] ^= byte;
    outer[at] ^= byte;
  });
  inner.set(DOMAIN, BLOCK_BYTES);
  const limit = share * 2 ** 32;
  const isHeldOut = (row: number): boolean => {
    inner.set(subjects.subarray(row * SUBJECT_BYTES, (row + 1) * SUBJECT_BYTES), BLOCK_BYTES + DOMAIN.length);
    outer.set(hash('sha256', inner, 'buffer'), BLOCK_BYTES);
    return hash('sha256', outer, 'buffer').readUInt32BE() < limit;
  };
  const side = Uint8Array.from(rows, (row) => (isHeldOut(row) ? 1 : 0));
  return { training: rows.filter((_, i) => side[i] === 0), holdout: rows.filter((_, i) => side[i] === 1) };
}
