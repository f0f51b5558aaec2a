/** Confidence bands: how far the noise moves a weight, over repeated trainings on the same records. */
import { expect, test } from '@jest/globals';
import type { BinnedData } from '../../src/learning/binned.ts';
import { shapeOf } from '../../src/learning/binned.ts';
import { defaultPlan } from '../../src/learning/plan.ts';
import { parseScorecard } from '../../src/learning/scorecard.ts';
import { trainPrivate } from '../../src/learning/train.ts';
import { contractOf, seededRandom } from '../support/publicData.ts';

const contract = contractOf('telco');
const { sizes } = shapeOf(contract);
const RUNS = 40;

function records(rows: number): BinnedData {
  const random = seededRandom(11);
  const bins = new Uint16Array(rows * sizes.length);
  const labels = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    // Fields follow each other, as those of real customers do.
    const shared = random.nextUint32() / 2 ** 32;
    sizes.forEach((size, k) => {
      const own = random.nextUint32() / 2 ** 32;
      bins[row * sizes.length + k] = Math.floor(((shared + own) / 2) * (size - 1));
    });
    labels[row] = random.nextUint32() / 2 ** 32 < 0.1 + 0.5 * shared ? 1 : 0;
  }
  return { rows, sizes, bins, labels };
}

const data = records(2000);
const plan = defaultPlan({ contract, epsilon: 1, delta: 1e-6, sites: 1, quorum: 1, expectedRows: data.rows });
const models = Array.from({ length: RUNS }, (_, run) => trainPrivate(data, plan, contract, seededRandom(100 + run)));

/** Share of all weights of all runs within `factor` times the band of their mean over the runs. */
function coverage(factor: number): number {
  let inside = 0;
  let all = 0;
  const flat = models.map(({ weights, standardErrors }) => ({
    weights: weights.flat(),
    errors: standardErrors!.flat(),
  }));
  flat[0].weights.forEach((_, i) => {
    const mean = flat.reduce((sum, { weights }) => sum + weights[i], 0) / RUNS;
    for (const { weights, errors } of flat) {
      all++;
      if (Math.abs(weights[i] - mean) <= 1.96 * factor * errors[i]) inside++;
    }
  });
  return inside / all;
}

test('the noise leaves the band of 1.96 standard errors in at most 5 % of cases; a tenth of the band would not do', () => {
  // Seeded, hence no false alarm. The weights of a run are dependent, so no rate is derived from their number.
  expect(coverage(1)).toBeGreaterThan(0.95);
  expect(coverage(0.1)).toBeLessThan(0.8);
});

test('documents without bands are read, and bands that do not fit are refused', () => {
  const { standardErrors, ...model } = models[0];
  expect(parseScorecard(model, contract)).toEqual(model);
  expect(standardErrors!.flat().every((error) => error > 0)).toBe(true);
  for (const wrong of [standardErrors!.slice(1), standardErrors!.map((field) => field.map(() => -1))]) {
    expect(() => parseScorecard({ ...model, standardErrors: wrong }, contract)).toThrow(
      expect.objectContaining({ code: 'MODEL_INVALID' }),
    );
  }
});
