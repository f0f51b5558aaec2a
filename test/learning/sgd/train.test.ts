/** Whole trainings: deterministic, learning something, dividing by public numbers only, refusing what does not fit. */
import { describe, expect, test } from '@jest/globals';
import { poolRows } from '../../../src/learning/binned.ts';
import { auc } from '../../../src/learning/evaluation.ts';
import { encodingOf, featureMapOf } from '../../../src/learning/sgd/features.ts';
import { denseHash, denseLogits, parseDense } from '../../../src/learning/sgd/model.ts';
import { networkOf } from '../../../src/learning/sgd/network.ts';
import { defaultSgd } from '../../../src/learning/sgd/settings.ts';
import { sgdStatement } from '../../../src/learning/sgd/statement.ts';
import { meanGradient, openBank, trainSgd } from '../../../src/learning/sgd/train.ts';
import { contractOf, dealRows, publicData, seededRandom, splitRows } from '../../support/publicData.ts';
import { contract, madeUp, settingsOf } from './cases.ts';

const data = madeUp(1000, seededRandom(3));

describe.each(['logistic', 'mlp'] as const)('%s', (family) => {
  const settings = settingsOf({ family, epsilon: 4, batch: 1000, epochs: 20 });

  test('the same sources give the same model; others, another; and it ranks', () => {
    // Calibration under sampling is the slow part: one family is enough to draw batches.
    const sampled = family === 'logistic' ? { ...settings, batch: 500, epochs: 10 } : settings;
    const train = (seed: number) => trainSgd([data], sampled, contract, [seededRandom(seed)]);
    const model = train(1);
    expect(denseHash(train(1))).toBe(denseHash(model));
    expect(denseHash(train(2))).not.toBe(denseHash(model));
    const fresh = madeUp(4000, seededRandom(4));
    expect(auc(denseLogits(model, fresh), fresh.labels)).toBeGreaterThan(0.7);
  });

  test('the document survives JSON and belongs to its contract', () => {
    const model = trainSgd([data], settings, contract, [seededRandom(1)]);
    const read = parseDense(JSON.parse(JSON.stringify(model)), contract);
    expect(denseHash(read)).toBe(denseHash(model));
    expect(denseLogits(read, data)).toEqual(denseLogits(model, data));
    expect(() => parseDense(model, contractOf('adult'))).toThrow(
      expect.objectContaining({ code: 'MODEL_CONTRACT_MISMATCH' }),
    );
    for (const wrong of [
      { ...model, layers: model.layers.slice(1) },
      { ...model, features: model.features.toReversed() },
      { ...model, encoding: model.encoding.slice(1) },
      { ...model, layers: [{ weights: [0.1], biases: [0] }] },
      { ...model, format: 'veilrisk-dense/2' },
    ]) {
      expect(() => parseDense(wrong, contract)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
    }
  });

  test('banks in either mode train one model, and progress names every step', () => {
    const steps: number[] = [];
    for (const mode of ['site', 'sum'] as const) {
      const randoms = [1, 2, 3, 4].map(seededRandom);
      const together = { ...settings, sites: 4, mode };
      const model = trainSgd(dealRows(data, 4), together, contract, randoms, ({ step }) => steps.push(step));
      expect(model.training).toMatchObject({ mode, sites: 4, steps: 20, unit: 'customer' });
    }
    expect(steps).toEqual([1, 2].flatMap(() => Array.from({ length: 20 }, (_, i) => i + 1)));
  });
});

test('twice the data gives twice the gradient: the denominator is the public one', () => {
  // Every record is in every batch, so the source gives noise only, and the same seed the same noise.
  const settings = settingsOf({ batch: 1000 });
  const statement = sgdStatement(settings);
  expect(statement.samplingRate).toBe(1);
  const map = featureMapOf(encodingOf(contract));
  const network = networkOf(map.width, []);
  const weights = new Float64Array(network.parameters);
  const gradientOf = (...parts: (typeof data)[]) => {
    const bank = openBank(network, map, poolRows(parts), settings, statement, seededRandom(5));
    return meanGradient([bank], weights, settings, statement);
  };
  const nothing = { ...data, rows: 0, bins: data.bins.subarray(0, 0), labels: data.labels.subarray(0, 0) };
  const [noise, once, twice] = [gradientOf(nothing), gradientOf(data), gradientOf(data, data)];
  const signal = once.map((value, i) => value - noise[i]);
  expect(Math.max(...signal.map(Math.abs))).toBeGreaterThan(0.01);
  twice.forEach((value, i) => {
    expect(value - noise[i]).toBeCloseTo(2 * signal[i], 10);
  });
});

test('what does not fit is refused', () => {
  const settings = settingsOf();
  const random = seededRandom(1);
  const refusal = (code: string) => expect.objectContaining({ code });
  expect(() => trainSgd([data, data], settings, contract, [random])).toThrow(refusal('TRAINING_INPUT'));
  expect(() => trainSgd([data], settings, contractOf('adult'), [random])).toThrow(refusal('MODEL_CONTRACT_MISMATCH'));
  const wrong = { ...data, labels: data.labels.map(() => 2) };
  expect(() => trainSgd([wrong], settings, contract, [random])).toThrow(refusal('TRAINING_INPUT'));
  expect(() => trainSgd([data], { ...settings, batch: 0 }, contract, [random])).toThrow(refusal('TRAINING_INPUT'));
});

// Seeded: the figures are constants of the code; the bars leave room for retuning.
describe.each([
  { name: 'telco', family: 'logistic', atLeast: 0.84 },
  { name: 'telco', family: 'mlp', atLeast: 0.835 },
] as const)('$name, $family at epsilon 1, delta 1e-6', ({ name, family, atLeast }) => {
  const real = publicData(name);
  if (real === null) {
    test.skip(`the shared data set ${name} is not in this checkout`, () => {});
    return;
  }
  test(`test AUC of one split is at least ${atLeast}`, () => {
    const { train, test: held } = splitRows(real.data, 1);
    const facts = {
      contract: real.contract,
      epsilon: 1,
      delta: 1e-6,
      rows: train.rows,
      sites: 1,
      mode: 'site',
    } as const;
    const model = trainSgd([train], defaultSgd({ ...facts, family }), real.contract, [seededRandom(9)]);
    expect(auc(denseLogits(model, held), held.labels)).toBeGreaterThan(atLeast);
  });
});
