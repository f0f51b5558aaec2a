/**
 * Which customers evaluate a model and which train it: a share of them by a keyed hash, the same for every plan.
 *
 * A customer's side follows from HMAC-SHA-256 (RFC 2104) of that customer's tag under the node's key, in a domain of its
 * own, read as a fraction of 2^32 and compared with the share. So no other customer changes it, nobody without the key
 * can steer it, and who is held out at a share is held out at every larger one.
 *
 * GUARANTEES.md: "Federated evaluation"
 */
import { PrivacyError } from '../errors.ts';
import { DIGEST_BYTES, keyedHash } from './keyedHash.ts';

export const GUARANTEE = 'Federated evaluation';

/** Length of a customer tag. */
const SUBJECT_BYTES = 32;
const DOMAIN = new TextEncoder().encode('veilrisk holdout\0');

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
  if (!(share >= 0 && share <= 1) || key.length < 16 || key.length > 64) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'a hold-out needs a share in [0, 1] and a key of 16 to 64 bytes', {
      where: 'holdout',
    });
  }
  if (share === 0) return { training: rows, holdout: new Uint32Array() };
  const hash = keyedHash(key);
  const message = new Uint8Array(DOMAIN.length + SUBJECT_BYTES);
  message.set(DOMAIN);
  const digest = new Uint8Array(DIGEST_BYTES);
  const leading = new DataView(digest.buffer);
  const limit = share * 2 ** 32;
  const isHeldOut = (row: number): boolean => {
    message.set(subjects.subarray(row * SUBJECT_BYTES, (row + 1) * SUBJECT_BYTES), DOMAIN.length);
    hash(message, digest);
    return leading.getUint32(0) < limit;
  };
  const side = Uint8Array.from(rows, (row) => (isHeldOut(row) ? 1 : 0));
  return { training: rows.filter((_, i) => side[i] === 0), holdout: rows.filter((_, i) => side[i] === 1) };
}
