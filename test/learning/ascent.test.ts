/** The ascent where fields repeat each other: curvature is K times what any one of them shows, and noise is small. */
import { expect, test } from '@jest/globals';
import type { BinnedData } from '../../src/learning/binned.ts';
import { shapeOf } from '../../src/learning/binned.ts';
import { auc } from '../../src/learning/evaluation.ts';
import { defaultPlan } from '../../src/learning/plan.ts';
import { probabilityOf } from '../../src/learning/score.ts';
import { logitsOf } from '../../src/learning/site.ts';
import { trainPrivate } from '../../src/learning/train.ts';
import { contractOf, seededRandom } from '../support/publicData.ts';

const FIELDS = 20;
const telco = contractOf('telco');
const numeric = telco.fields.find((field) => field.kind === 'numeric')!;
const contract = {
  ...telco,
  fields: Array.from({ length: FIELDS }, (_, k) => ({ ...numeric, name: `copy ${k}` })),
};
const { sizes } = shapeOf(contract);

/** Every field is the same number, up to one bin; the label depends on it. */
function copies(rows: number): { data: BinnedData; truth: Float64Array } {
  const random = seededRandom(5);
  const uniform = () => random.nextUint32() / 2 ** 32;
  const bins = new Uint16Array(rows * FIELDS);
  const labels = new Uint8Array(rows);
  const truth = new Float64Array(rows);
  const last = sizes[0] - 2;
  for (let row = 0; row < rows; row++) {
    const x = uniform();
    for (let k = 0; k < FIELDS; k++) bins[row * FIELDS + k] = Math.min(last, Math.floor(x * last + 2 * uniform()));
    truth[row] = 4 * x - 3;
    labels[row] = uniform() < 1 / (1 + Math.exp(-truth[row])) ? 1 : 0;
  }
  return { data: { rows, sizes, bins, labels }, truth };
}

test('copies of one field do not make it diverge: ranking and probabilities are those of the truth', () => {
  const { data, truth } = copies(20_000);
  const plan = defaultPlan({ contract, epsilon: 20, delta: 1e-6, sites: 1, quorum: 1, expectedRows: data.rows });
  const model = trainPrivate(data, plan, contract, seededRandom(6));
  const logits = logitsOf(data, model);
  expect(auc(logits, data.labels)).toBeGreaterThan(auc(truth, data.labels) - 0.002);
  let squares = 0;
  logits.forEach((logit, row) => {
    squares += (probabilityOf(logit, plan.residualBound) - probabilityOf(truth[row])) ** 2;
  });
  expect(Math.sqrt(squares / data.rows)).toBeLessThan(0.04);
});
