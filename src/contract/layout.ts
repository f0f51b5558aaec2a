/**
 * Order and number of the bins of a contract: the one-hot layout every histogram, model and ciphertext follows.
 *
 * A numeric field has value bins 0..B-1 and then `missing`; bin i holds edge[i-1] <= x < edge[i]. A categorical field
 * has its categories in order, then `other`, then `missing`. A boolean field has false, true, `missing`. An interaction of a
 * groups by b groups has bin i * b + j for group i of its first part and j of its second, then `missing`. Only the value
 * bins of numeric fields have an order that means something.
 */
import type { Contract, Field } from './contract.ts';

/** Sizes and offsets of the one-hot vector: field k owns coordinates offsets[k] .. offsets[k] + sizes[k] - 1. */
export interface Layout {
  sizes: number[];
  offsets: number[];
  total: number;
}

/** Bins of one field, `other` and `missing` included. */
export function fieldSize(field: Field): number {
  if (field.kind === 'boolean') return 3;
  if (field.kind === 'categorical') return field.categories.length + 2;
  if (field.kind === 'interaction') return field.bins[0] * field.bins[1] + 1;
  // Safe: a parsed numeric field has `bins` whenever it has no `edges`.
  return (field.edges?.length ?? field.bins! - 1) + 2;
}

/** The bin of a missing value: always the field's last. */
export function missingBin(field: Field): number {
  return fieldSize(field) - 1;
}

export function layoutOf(contract: Pick<Contract, 'fields'>): Layout {
  const sizes = contract.fields.map(fieldSize);
  const offsets: number[] = [];
  let total = 0;
  for (const size of sizes) {
    offsets.push(total);
    total += size;
  }
  return { sizes, offsets, total };
}
