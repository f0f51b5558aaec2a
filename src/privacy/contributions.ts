/**
 * The bound on what one customer contributes: at most m records, chosen by keyed hash order.
 *
 * Which records stay must depend on that customer's own records only (otherwise removing one customer could change
 * another's records and the sensitivity would not hold) and must not be steerable from outside, hence a keyed hash:
 * HMAC-SHA-256 of the record's number under a key of the node (RFC 2104), in a domain of its own.
 *
 * GUARANTEES.md: "Customer contribution bound"
 */
import { PrivacyError } from '../errors.ts';
import { DIGEST_BYTES, keyedHash } from './keyedHash.ts';

export const GUARANTEE = 'Customer contribution bound';

const DOMAIN = 'veilrisk contribution\0';

/**
 * The rows to keep so that no customer has more than `most`.
 *
 * @param subjects customer of each row; null is a record without a customer key, which counts as a customer of its
 *   own (sound only where the contract declares no subject: one record is then the unit).
 * @param key HMAC key of the node, at least 16 random bytes, the same for every training. The order is that of
 *   HMAC(key, domain, subject#n), n being the record's position among that customer's own, so others cannot influence it.
 * @param most m >= 1.
 * @returns kept row numbers, ascending.
 */
export function boundContributions(subjects: readonly (string | null)[], key: Uint8Array, most: number): Uint32Array {
  if (!Number.isInteger(most) || most < 1) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'records per customer must be a whole number of at least 1', {
      where: 'maxRecordsPerSubject',
    });
  }
  if (key.length < 16) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'the contribution key needs at least 16 bytes', { where: 'key' });
  }
  const encoder = new TextEncoder();
  const hash = keyedHash(key);
  const kept: number[] = [];
  const rowsOf = new Map<string, number[]>();
  subjects.forEach((subject, row) => {
    if (subject === null) kept.push(row);
    else {
      const rows = rowsOf.get(subject);
      if (rows === undefined) rowsOf.set(subject, [row]);
      else rows.push(row);
    }
  });
  for (const [subject, rows] of rowsOf) {
    if (rows.length <= most) kept.push(...rows);
    else {
      const ordered = rows.map((row, n) => ({
        row,
        order: hash(encoder.encode(`${DOMAIN}${subject}#${n}`), new Uint8Array(DIGEST_BYTES)),
      }));
      ordered.sort((a, b) => compareBytes(a.order, b.order) || a.row - b.row);
      for (const { row } of ordered.slice(0, most)) kept.push(row);
    }
  }
  return Uint32Array.from(kept).sort();
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}
