/**
 * Monotone weights by isotonic regression: the nearest weights, in weighted squares, that rise or fall as the contract
 * says a field must.
 *
 * Source: pool adjacent violators (Barlow, Bartholomew, Bremner, Brunk, Statistical Inference under Order Restrictions,
 * 1972, section 1.2). Post-processing of released sums: costs no privacy, and pooling averages noise away.
 */

/**
 * @param values in bin or knot order. @param weights how much each counts, > 0.
 * @returns a new array, never decreasing for `increasing`, never increasing for `decreasing`.
 */
export function monotoneFit(
  values: readonly number[],
  weights: readonly number[],
  direction: 'increasing' | 'decreasing',
): number[] {
  const sign = direction === 'increasing' ? 1 : -1;
  const blocks: { mean: number; weight: number; size: number }[] = [];
  values.forEach((value, i) => {
    let block = { mean: sign * value, weight: weights[i], size: 1 };
    for (let last = blocks.at(-1); last !== undefined && last.mean > block.mean; last = blocks.at(-1)) {
      const weight = last.weight + block.weight;
      const mean = (last.mean * last.weight + block.mean * block.weight) / weight;
      block = { mean, weight, size: last.size + block.size };
      blocks.pop();
    }
    blocks.push(block);
  });
  return blocks.flatMap(({ mean, size }) => new Array<number>(size).fill(sign * mean));
}
