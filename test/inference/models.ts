/** Dense models with large random weights, so that logits reach beyond anything trained. */
import { encodingOf, featureMapOf } from '../../src/learning/sgd/features.ts';
import { type DenseModel, toDense } from '../../src/learning/sgd/model.ts';
import { networkOf, startWeights } from '../../src/learning/sgd/network.ts';
import { sgdStatement } from '../../src/learning/sgd/statement.ts';
import { contract, settingsOf } from '../learning/sgd/cases.ts';

export function wildModel(family: 'logistic' | 'mlp', seed: string): DenseModel {
  const settings = settingsOf({ family });
  const network = networkOf(featureMapOf(encodingOf(contract)).width, settings.hidden);
  const weights = startWeights(network, 1, seed);
  const { weights: from } = network.layers[network.layers.length - 1];
  for (let i = from; i < weights.length; i++) weights[i] = 2 * Math.sin(5 * i + seed.charCodeAt(0));
  return toDense(weights, settings, sgdStatement(settings), contract);
}
