/**
 * Training data as bins, and the public shape of a model over them.
 *
 * Limit: everything here is un-noised; nothing of it may leave a node.
 */
import type { Contract } from '../contract/contract.ts';
import { layoutOf } from '../contract/contract.ts';
import { LearningError } from '../errors.ts';

/** Records of one bank as bin numbers. */
export interface BinnedData {
  readonly rows: number;
  /** Bins per field, `other` and `missing` included; length K. */
  readonly sizes: readonly number[];
  /** Row-major, rows * K entries; entry k of a row is in [0, sizes[k]). */
  readonly bins: Uint16Array;
  /** 1 for the positive label (default, fraud), else 0. */
  readonly labels: Uint8Array;
}

/** What a model of a contract looks like: public, known before any data is read. */
export interface ModelShape {
  readonly sizes: readonly number[];
  /** How many leading bins of each field are ordered, hence smoothed across; 0 for a vocabulary or an interaction. */
  readonly ordered: readonly number[];
}

export function shapeOf(contract: Pick<Contract, 'fields'>): ModelShape {
  const { sizes } = layoutOf(contract);
  // The last bin of a numeric field is `missing`, which has no neighbours. Pairs of groups have no order of one line.
  return { sizes, ordered: contract.fields.map((field, k) => (field.kind === 'numeric' ? sizes[k] - 1 : 0)) };
}

/** Offsets of the fields in the one-hot vector, and its length. */
export function offsetsOf(sizes: readonly number[]): { offsets: Int32Array; total: number } {
  const offsets = new Int32Array(sizes.length);
  let total = 0;
  sizes.forEach((size, k) => {
    offsets[k] = total;
    total += size;
  });
  return { offsets, total };
}

/**
 * Refuses data whose bins or labels are outside their ranges: the sensitivity rests on exactly one bin per field.
 *
 * @throws LearningError TRAINING_INPUT naming the first wrong row and field, never its value.
 */
export function checkBinned(data: BinnedData): void {
  const { rows, sizes, bins, labels } = data;
  const fields = sizes.length;
  if (bins.length !== rows * fields || labels.length !== rows) {
    throw new LearningError('TRAINING_INPUT', 'bins or labels do not match the number of rows and fields');
  }
  for (let row = 0; row < rows; row++) {
    if (labels[row] > 1)
      throw new LearningError('TRAINING_INPUT', 'a label is neither 0 nor 1', { where: `row ${row}` });
    for (let k = 0; k < fields; k++) {
      if (bins[row * fields + k] >= sizes[k]) {
        throw new LearningError('TRAINING_INPUT', 'a bin is outside its field', { where: `row ${row}, field ${k}` });
      }
    }
  }
}

/**
 * The given rows, in that order, as data of their own.
 * @param memory where it goes: so many bytes, zeroed; shared memory when a thread is to read it.
 */
export function selectRows(
  data: BinnedData,
  rows: ArrayLike<number>,
  memory: (bytes: number) => ArrayBufferLike = (bytes) => new ArrayBuffer(bytes),
): BinnedData {
  const fields = data.sizes.length;
  const bins = new Uint16Array(memory(rows.length * fields * Uint16Array.BYTES_PER_ELEMENT));
  const labels = new Uint8Array(memory(rows.length));
  for (let i = 0; i < rows.length; i++) {
    bins.set(data.bins.subarray(rows[i] * fields, (rows[i] + 1) * fields), i * fields);
    labels[i] = data.labels[rows[i]];
  }
  return { rows: rows.length, sizes: data.sizes, bins, labels };
}

/** All rows of several banks as one data set, for the non-private reference and for tests. */
export function poolRows(parts: readonly BinnedData[]): BinnedData {
  if (parts.length === 0) throw new LearningError('TRAINING_INPUT', 'there is no data to pool');
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const fields = parts[0].sizes.length;
  const bins = new Uint16Array(rows * fields);
  const labels = new Uint8Array(rows);
  let at = 0;
  for (const part of parts) {
    bins.set(part.bins, at * fields);
    labels.set(part.labels, at);
    at += part.rows;
  }
  return { rows, sizes: parts[0].sizes, bins, labels };
}
