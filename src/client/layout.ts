/**
 * Which of the two layouts a batch is sent in.
 *
 * Source: encryption.md, sections 3 and 7. Row below half a column's capacity: a column request always uploads one
 * ciphertext a dimension, so until then it moves more than twice the bytes of a row request.
 */
import { type LayoutName, maxTransactions, type PresetName, requestBytes } from '../encryption/encryption.ts';

/** Largest request body a node takes. */
const LARGEST_BODY_BYTES = 64 * 1024 * 1024;

/**
 * @param dimension one-hot dimensions of a transaction, 1 to N
 * @param transactions how many are to be scored, at least 1; more than a request holds are sent in several
 */
export function chooseLayout(preset: PresetName, dimension: number, transactions: number): LayoutName {
  const capacity = maxTransactions(preset, 'column', dimension);
  const bytes = requestBytes({ preset, layout: 'column', dimension, transactions: Math.min(transactions, capacity) });
  return transactions >= capacity / 2 && bytes <= LARGEST_BODY_BYTES ? 'column' : 'row';
}
