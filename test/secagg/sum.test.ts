/** Sums come out exactly, whoever is missing at whatever step, down to the threshold. */
import { describe, expect, test } from '@jest/globals';
import { epochOf, plainSum, runSum, setUp, sumOf } from './epoch.ts';

describe('a sum of an epoch', () => {
  test.each([2, 3, 4, 10])('of %i sites is the plain sum', async (count) => {
    const epoch = await setUp(epochOf(count));
    const sum = sumOf(epoch);
    expect(await runSum(epoch, sum).unmask()).toEqual(plainSum(sum.members, sum.dimension));
  });

  test.each([16, 17, 20, 24, 31, 32])('in a ring of %i bits', async (bits) => {
    const epoch = await setUp(epochOf(4));
    const sum = sumOf(epoch, { bits, dimension: 41 });
    expect(await runSum(epoch, sum, { inputs: ['bank-002'] }).unmask()).toEqual(
      plainSum(['bank-001', 'bank-003', 'bank-004'], sum.dimension),
    );
  });

  test('survives a different loss at every step', async () => {
    const epoch = await setUp(epochOf(10), undefined, ['bank-003']);
    const sum = sumOf(epoch);
    expect(sum.members).toHaveLength(9);
    const aggregator = runSum(epoch, sum, { inputs: ['bank-001'], later: ['bank-010'] });
    expect(aggregator.revealed()).toHaveLength(7);
    expect(await aggregator.unmask()).toEqual(
      plainSum(
        sum.members.filter((name) => name !== 'bank-001'),
        sum.dimension,
      ),
    );
  });
});
