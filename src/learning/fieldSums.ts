/**
 * One quantity from the sums of K fields that all say it: each field's bins sum to the same total over the records.
 *
 * With equal noise in every bin a field's total has variance size_k, so the best weights are 1 / size_k.
 */

/** The total over records, estimated from all fields. @param values of every bin, one-hot order. */
export function fieldMean(values: Float64Array, sizes: readonly number[]): number {
  let at = 0;
  let sum = 0;
  for (const size of sizes) {
    let field = 0;
    for (let j = 0; j < size; j++) field += values[at++];
    sum += field / size;
  }
  return sum / precision(sizes);
}

/** Inverse variance of `fieldMean` where every bin has noise of variance 1. */
export function precision(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + 1 / size, 0);
}
