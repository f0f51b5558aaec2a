/** Isotonic regression, and contracts whose fields are known to raise or lower the risk. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseContract } from '../../src/contract/contract.ts';
import { shapeOf } from '../../src/learning/binned.ts';
import { monotoneFit } from '../../src/learning/monotone.ts';
import { defaultPlan } from '../../src/learning/plan.ts';
import { trainPrivate } from '../../src/learning/train.ts';
import { seededRandom } from '../support/publicData.ts';

const squares = (a: readonly number[], b: readonly number[], weights: readonly number[]) =>
  a.reduce((sum, value, i) => sum + weights[i] * (value - b[i]) ** 2, 0);

test('the fit is monotone, keeps the weighted mean, and no monotone vector is nearer', () => {
  const entry = fc.record({ value: fc.integer({ min: -50, max: 50 }), weight: fc.integer({ min: 1, max: 9 }) });
  const others = fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 12, maxLength: 12 });
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 12 }), others, fc.boolean(), (entries, other, rises) => {
      const values = entries.map(({ value }) => value);
      const weights = entries.map(({ weight }) => weight);
      const fit = monotoneFit(values, weights, rises ? 'increasing' : 'decreasing');
      const sign = rises ? 1 : -1;
      expect(fit.every((value, i) => i === 0 || sign * value >= sign * fit[i - 1])).toBe(true);
      const total = (of: readonly number[]) => of.reduce((sum, value, i) => sum + weights[i] * value, 0);
      expect(total(fit)).toBeCloseTo(total(values), 8);
      const candidate = other.slice(0, values.length).sort((a, b) => sign * (a - b));
      expect(squares(fit, values, weights)).toBeLessThanOrEqual(squares(candidate, values, weights) + 1e-9);
      expect(monotoneFit(fit, weights, rises ? 'increasing' : 'decreasing')).toEqual(fit);
    }),
  );
});

test.each(['increasing', 'decreasing'] as const)(
  'a field called %s comes out so, whatever noise and data say',
  (monotone) => {
    const field = { kind: 'numeric', min: 0, max: 32, scale: 'linear', bins: 32 };
    const contract = parseContract({
      format: 'veilrisk-contract/1',
      name: 'monotone',
      version: 1,
      title: 'One monotone field and one that is free',
      synthetic: true,
      fields: [
        { ...field, name: 'known', monotone, reason: { code: 'KNOWN', text: 'Known direction' } },
        { ...field, name: 'free', reason: { code: 'FREE', text: 'No known direction' } },
      ],
      label: { name: 'label', positive: ['1'], negative: ['0'] },
      subject: null,
      time: null,
      maxRecordsPerSubject: 1,
    });
    const { sizes } = shapeOf(contract);
    const random = seededRandom(3);
    const rows = 4000;
    const bins = Uint16Array.from({ length: rows * 2 }, () => random.nextUint32() % 33);
    // The risk oscillates over the bins of both fields.
    const labels = Uint8Array.from({ length: rows }, (_, row) => ((bins[2 * row] + bins[2 * row + 1]) % 8 < 3 ? 1 : 0));
    const plan = defaultPlan({ contract, epsilon: 1, delta: 1e-6, sites: 1, quorum: 1, expectedRows: rows });
    const { weights } = trainPrivate({ rows, sizes, bins, labels }, plan, contract, seededRandom(4));
    const sign = monotone === 'increasing' ? 1 : -1;
    const isMonotone = (values: readonly number[]) =>
      values.every((value, i) => i === 0 || sign * (value - values[i - 1]) >= -1e-12);
    expect(isMonotone(weights[0].slice(0, 32))).toBe(true);
    expect(isMonotone(weights[1].slice(0, 32))).toBe(false);
  },
);
