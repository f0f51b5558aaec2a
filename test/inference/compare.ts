/**
 * Prints, for each family, the largest difference between the runtime's outputs and our own forward pass.
 *
 * A process of its own: the native runtime builds its tensors from Node's own Float32Array, which a jest sandbox's
 * is not an instance of (jest issue 7780).
 */
import { exportOnnx } from '../../src/inference/export.ts';
import { openSession } from '../../src/inference/session.ts';
import type { BinnedData } from '../../src/learning/binned.ts';
import { denseFeatures, featureMapOf } from '../../src/learning/sgd/features.ts';
import { type DenseModel, denseHash, denseLogits } from '../../src/learning/sgd/model.ts';
import { defaultSgd } from '../../src/learning/sgd/settings.ts';
import { trainSgd } from '../../src/learning/sgd/train.ts';
import { madeUp } from '../learning/sgd/cases.ts';
import { publicData, seededRandom, splitRows } from '../support/publicData.ts';
import { wildModel } from './models.ts';

async function difference(model: DenseModel, data: BinnedData): Promise<{ rows: number; span: number; worst: number }> {
  const session = await openSession(exportOnnx(model), {
    modelHash: denseHash(model),
    contractHash: model.contractHash,
  });
  const features = denseFeatures(featureMapOf(model.encoding), data);
  const own = denseLogits(model, data);
  const logits = await session.logits(features, data.rows);
  const chances = await session.probabilities(features, data.rows);
  await session.close();
  let worst = 0;
  let span = 0;
  own.forEach((logit, i) => {
    span = Math.max(span, Math.abs(logit));
    const apart = Math.max(Math.abs(logit - logits[i]), Math.abs(1 / (1 + Math.exp(-logit)) - chances[i]));
    worst = Math.max(worst, apart);
  });
  return { rows: data.rows, span, worst };
}

const results: Record<string, { rows: number; span: number; worst: number | null }> = {};
for (const family of ['logistic', 'mlp'] as const) {
  for (const seed of ['a', 'b', 'c']) {
    const data = madeUp(500, seededRandom(seed.charCodeAt(0)));
    results[`${family}, random weights ${seed}`] = await difference(wildModel(family, seed), data);
  }
  const real = publicData('telco');
  if (real !== null) {
    const { train, test } = splitRows(real.data, 1);
    const settings = defaultSgd({
      contract: real.contract,
      family,
      epsilon: 4,
      delta: 1e-6,
      rows: train.rows,
      sites: 1,
      mode: 'site',
    });
    const model = trainSgd([train], settings, real.contract, [seededRandom(3)]);
    results[`${family}, telco`] = await difference(model, test);
  }
}
process.stdout.write(JSON.stringify(results));
