/** Contracts, data and settings that the DP-SGD tests share. */
import fc from 'fast-check';
import { type Contract, layoutOf, parseContract } from '../../../src/contract/contract.ts';
import type { BinnedData } from '../../../src/learning/binned.ts';
import { defaultSgd, type SgdSettings } from '../../../src/learning/sgd/settings.ts';
import type { RandomSource } from '../../../src/random.ts';

const reason = { code: 'NONE', text: 'No reason' };

/** One field of each kind, one of them with too few bins for knots. */
export const contract: Contract = parseContract({
  format: 'veilrisk-contract/1',
  name: 'sgd-tests',
  version: 1,
  title: 'Fields of every kind',
  fields: [
    { kind: 'numeric', name: 'amount', min: 0, max: 100, bins: 12, reason },
    { kind: 'numeric', name: 'rank', min: 0, max: 3, edges: [1, 2], reason },
    { kind: 'categorical', name: 'place', categories: ['A', 'B'], reason },
    { kind: 'boolean', name: 'known', reason },
  ],
  label: { name: 'bad', positive: ['1'], negative: ['0'] },
});

export const { sizes } = layoutOf(contract);

export function settingsOf(change: Partial<SgdSettings> = {}): SgdSettings {
  const family = change.family ?? 'logistic';
  const facts = { contract, family, epsilon: 1, delta: 1e-6, rows: 1000, sites: 1, mode: 'site' } as const;
  return { ...defaultSgd(facts), ...(family === 'mlp' ? { hidden: [5, 3] } : {}), ...change };
}

/** Records with any bins and labels. */
export function dataOf(least = 0, most = 30): fc.Arbitrary<BinnedData> {
  const record = fc.tuple(fc.tuple(...sizes.map((size) => fc.nat(size - 1))), fc.nat(1));
  return fc.array(record, { minLength: least, maxLength: most }).map((records) => ({
    rows: records.length,
    sizes,
    bins: Uint16Array.from(records.flatMap(([bins]) => bins)),
    labels: Uint8Array.from(records, ([, label]) => label),
  }));
}

/** Records drawn from a source, labels leaning on the first field. */
export function madeUp(rows: number, random: RandomSource): BinnedData {
  const bins = new Uint16Array(rows * sizes.length);
  const labels = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    sizes.forEach((size, k) => {
      bins[row * sizes.length + k] = random.nextUint32() % size;
    });
    labels[row] = random.nextUint32() % 13 < bins[row * sizes.length] ? 1 : 0;
  }
  return { rows, sizes, bins, labels };
}

/** Ordinary weights, and ones that overflow or are no numbers at all. */
export const anyWeight = fc.oneof(
  { weight: 4, arbitrary: fc.double({ min: -3, max: 3, noNaN: true }) },
  { weight: 1, arbitrary: fc.double() },
  { weight: 1, arbitrary: fc.constantFrom(0, 1e-320, 1e150, -1e150, 1e300, Infinity, Number.NaN) },
);
