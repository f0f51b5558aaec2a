/** A hand-made scorecard of two fields: small ciphertext counts, weights that a test chooses. */
import { type Contract, contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { parseScorecard, type Scorecard } from '../../src/learning/scorecard.ts';
import { contract as demo } from './node.ts';

const KEPT = ['weekday', 'newMerchant'];

/** Two fields of the demo contract; monotone and derived ones are not among them. */
export const smallContract: Contract = parseContract({
  ...JSON.parse(JSON.stringify(demo)),
  name: 'two-fields',
  fields: demo.fields.filter(({ name }) => KEPT.includes(name)),
});

export const smallDimension = layoutOf(smallContract).total;

/** @param weights one a dimension; fewer are repeated */
export function smallModel(weights: readonly number[], intercept: number): Scorecard {
  const { sizes, offsets } = layoutOf(smallContract);
  return parseScorecard(
    {
      format: 'veilrisk-scorecard/1',
      contractHash: contractHash(smallContract),
      intercept,
      weights: Array.from(sizes, (size, k) =>
        Array.from({ length: size }, (_, bin) => weights[(offsets[k] + bin) % weights.length]),
      ),
      scaling: { anchorLogit: -3, anchorScore: 500, pointsToDouble: 50 },
      training: {
        planHash: 'ab'.repeat(32),
        mode: 'site',
        sites: 1,
        rounds: 1,
        epsilon: 1,
        delta: 1e-6,
        unit: 'customer',
      },
    },
    smallContract,
  );
}
