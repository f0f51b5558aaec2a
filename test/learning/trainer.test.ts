/** The trainer as a state machine, and the document it ends in, on made-up data of a real contract. */
import { describe, expect, test } from '@jest/globals';
import { layoutOf } from '../../src/contract/contract.ts';
import { type BinnedData, shapeOf } from '../../src/learning/binned.ts';
import { auc } from '../../src/learning/evaluation.ts';
import { defaultPlan, planHash, residualGrid } from '../../src/learning/plan.ts';
import { resolutionOf } from '../../src/learning/resolution.ts';
import { calibratedLogit, probabilityOf } from '../../src/learning/score.ts';
import { logitOf, modelHash, parseScorecard, reasonsFor, riskScore, toModel } from '../../src/learning/scorecard.ts';
import { addNoise, logitsOf, siteCounts, siteGradient } from '../../src/learning/site.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { sumOf, trainFederatedInMemory, trainPlain, trainPrivate } from '../../src/learning/train.ts';
import {
  absorbCounts,
  absorbRound,
  createTrainer,
  currentModel,
  reviveTrainer,
  type TrainerState,
} from '../../src/learning/trainer.ts';
import { contractOf, dealRows, seededRandom } from '../support/publicData.ts';

const contract = contractOf('telco');
const shape = shapeOf(contract);
const { sizes } = layoutOf(contract);

/** Records whose label depends on the first two fields only. */
function madeUp(rows: number, seed: number): BinnedData {
  const random = seededRandom(seed);
  const uniform = () => random.nextUint32() / 2 ** 32;
  const bins = new Uint16Array(rows * sizes.length);
  const labels = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < sizes.length; k++) bins[row * sizes.length + k] = Math.floor(uniform() * (sizes[k] - 1));
    const logit = -1 + 3 * (bins[row * sizes.length] / sizes[0]) - 1.5 * (bins[row * sizes.length + 1] % 2);
    labels[row] = uniform() < 1 / (1 + Math.exp(-logit)) ? 1 : 0;
  }
  return { rows, sizes, bins, labels };
}

const data = madeUp(6000, 1);
const sites = dealRows(data, 3);
const plan = defaultPlan({ contract, epsilon: 2, delta: 1e-6, sites: 3, quorum: 2, expectedRows: 6000 });
const { reduce, total } = resolutionOf(shape, plan.knots);
const counted = (site: BinnedData) => reduce(siteCounts(site));
const randoms = () => [1, 2, 3].map(seededRandom);

describe('state machine', () => {
  test('continues from its JSON text to the same model, bit for bit', () => {
    const noise = privacyStatement(plan);
    const source = randoms();
    const counts = sites.map((site, i) => addNoise(counted(site), noise.sigmaCountSquared, source[i]));
    let state: TrainerState = absorbCounts(createTrainer(plan, shape), sumOf(counts));
    while (state.round < plan.rounds) {
      const model = currentModel(state);
      const noisy = sites.map((site, i) =>
        addNoise(
          reduce(siteGradient(site, model, residualGrid(plan, state.round + 1))),
          ...([noise.sigmaRoundSquared, source[i]] as const),
        ),
      );
      state = reviveTrainer(JSON.parse(JSON.stringify(absorbRound(state, sumOf(noisy), sumOf(counts), 3))));
    }
    expect(toModel(state, contract)).toEqual(trainFederatedInMemory(sites, plan, contract, randoms()));
  });

  test('a round with a missing site trains on the sites that answered', () => {
    const noise = privacyStatement(plan);
    const source = randoms();
    const counts = sites.map((site, i) => addNoise(counted(site), noise.sigmaCountSquared, source[i]));
    let state = absorbCounts(createTrainer(plan, shape), sumOf(counts));
    for (let round = 0; round < plan.rounds; round++) {
      const here = round % 3 === 1 ? [0, 2] : [0, 1, 2];
      const model = currentModel(state);
      const grid = residualGrid(plan, round + 1);
      const gradients = here.map((i) => reduce(siteGradient(sites[i], model, grid)));
      const noisy = gradients.map((exact, i) => addNoise(exact, noise.sigmaRoundSquared, source[here[i]]));
      state = absorbRound(state, sumOf(noisy), sumOf(here.map((i) => counts[i])), here.length);
    }
    const scores = logitsOf(data, toModel(state, contract));
    expect(auc(scores, data.labels)).toBeGreaterThan(0.7);
  });

  test('refuses what does not fit: order, shape, numbers, quorum', () => {
    const zeros = new Float64Array(total);
    const fresh = createTrainer(plan, shape);
    const ready = absorbCounts(fresh, zeros);
    const refused = expect.objectContaining({ code: 'TRAINING_INPUT' });
    expect(() => absorbRound(fresh, zeros, zeros, 3)).toThrow(refused);
    expect(() => absorbCounts(ready, zeros)).toThrow(refused);
    expect(() => absorbRound(ready, zeros.slice(1), zeros, 3)).toThrow(refused);
    expect(() =>
      absorbRound(
        ready,
        zeros.map(() => Number.NaN),
        zeros,
        3,
      ),
    ).toThrow(refused);
    expect(() => absorbRound(ready, zeros, zeros, 1)).toThrow(refused);
    expect(() => absorbRound(ready, zeros, zeros, 4)).toThrow(refused);
    expect(() => toModel(ready, contract)).toThrow(refused);
    expect(() => createTrainer({ ...plan, fields: 3 }, shape)).toThrow(refused);
    for (const broken of [null, {}, { ...fresh, round: -1 }, { ...fresh, baseRate: 1 }, { ...fresh, counts: [1] }]) {
      expect(() => reviveTrainer(broken)).toThrow(refused);
    }
    expect(() => reviveTrainer({ ...fresh, steps: [] })).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
  });

  test('survives sums that are all noise', () => {
    let state = absorbCounts(createTrainer({ ...plan, epsilon: 0.01 }, shape), new Float64Array(total));
    const random = seededRandom(8);
    for (let round = 0; round < plan.rounds; round++) {
      const gradient = Float64Array.from({ length: total }, () => random.nextUint32() - 2 ** 31);
      state = absorbRound(state, gradient, new Float64Array(gradient.length), 2);
    }
    expect(parseScorecard(toModel(state, contract), contract)).toBeDefined();
  });
});

describe('scorecard', () => {
  const model = trainFederatedInMemory(sites, plan, contract, randoms());

  test('finds the two fields that matter and ignores the others', () => {
    const spread = model.weights.map((field, k) => {
      let squares = 0;
      for (let row = 0; row < data.rows; row++) squares += field[data.bins[row * sizes.length + k]] ** 2;
      return Math.sqrt(squares / data.rows);
    });
    expect(Math.min(spread[0], spread[1])).toBeGreaterThan(1.5 * Math.max(...spread.slice(2)));
    expect(auc(logitsOf(data, model), data.labels)).toBeGreaterThan(
      auc(logitsOf(data, trainPlain(data, contract)), data.labels) - 0.03,
    );
  });

  test('is calibrated to the base rate', () => {
    const logits = logitsOf(data, model);
    const { residualBound, anchorLogit } = model.scaling;
    const mean = logits.reduce((sum, z) => sum + probabilityOf(z, residualBound), 0) / data.rows;
    // What the sigmoid alone would say is far off: the residuals were clipped.
    expect(Math.abs(mean - logits.reduce((sum, z) => sum + probabilityOf(z), 0) / data.rows)).toBeGreaterThan(0.02);
    const rate = data.labels.reduce((sum, y) => sum + y, 0) / data.rows;
    expect(Math.abs(mean - rate)).toBeLessThan(0.05);
    const calibrated = (z: number) => calibratedLogit(z, residualBound);
    const typical = Array.from(logits).sort(
      (a, b) => Math.abs(calibrated(a) - anchorLogit) - Math.abs(calibrated(b) - anchorLogit),
    )[0];
    expect(riskScore(model, typical)).toBe(500);
    expect(Math.abs(anchorLogit - Math.log(rate / (1 - rate)))).toBeLessThan(0.3);
  });

  test('records where it came from and reads back unchanged', () => {
    expect(model.training).toMatchObject({ planHash: planHash(plan), sites: 3, epsilon: 2, unit: 'customer' });
    const again = parseScorecard(JSON.parse(JSON.stringify(model)), contract);
    expect(again).toEqual(model);
    expect(modelHash(again)).toBe(modelHash(model));
  });

  test('logits add up, and reasons are the largest contributions against the average record', () => {
    const bins = data.bins.subarray(0, sizes.length);
    const contributions = model.weights.map((field, k) => field[bins[k]]);
    const logit = model.intercept + contributions.reduce((sum, c) => sum + c, 0);
    expect(logitOf(model, bins)).toBeCloseTo(logit, 12);
    expect(logitsOf(data, model)[0]).toBeCloseTo(logit, 12);
    const reasons = reasonsFor(model, contract, bins);
    expect(reasons.map((r) => r.contribution)).toEqual([...contributions].sort((a, b) => b - a).slice(0, 4));
    for (const { contribution, direction } of reasons) expect(direction).toBe(contribution > 0 ? 'raises' : 'lowers');
    expect(reasonsFor(model, contract, bins, 2)).toEqual(reasons.slice(0, 2));
  });

  test('the average record moves nothing: mean contribution over the noisy counts is zero', () => {
    const trained = trainPrivate(data, { ...plan, epsilon: 50 }, contract, seededRandom(4));
    const counts = siteCounts(data);
    let at = 0;
    for (const field of trained.weights) {
      const mean = field.reduce((sum, w, j) => sum + w * counts[at + j], 0) / data.rows;
      expect(Math.abs(mean)).toBeLessThan(0.01);
      at += field.length;
    }
  });

  test('a model of another contract, a NaN, a cut-off field or an extra key is refused', () => {
    const json = () => JSON.parse(JSON.stringify(model));
    expect(() => parseScorecard(model, contractOf('taiwan'))).toThrow(
      expect.objectContaining({ code: 'MODEL_CONTRACT_MISMATCH' }),
    );
    const invalid = expect.objectContaining({ code: 'MODEL_INVALID' });
    expect(() => parseScorecard({ ...json(), intercept: Number.NaN }, contract)).toThrow(invalid);
    expect(() => parseScorecard({ ...json(), weights: json().weights.slice(1) }, contract)).toThrow(invalid);
    expect(() => parseScorecard({ ...json(), secret: 1 }, contract)).toThrow(invalid);
    expect(() => parseScorecard(null, contract)).toThrow(invalid);
    expect(() => logitOf(model, new Uint16Array(sizes.length).fill(9999))).toThrow(
      expect.objectContaining({ code: 'MODEL_CONTRACT_MISMATCH' }),
    );
  });
});

test('data outside its bins is refused before anything is computed from it', () => {
  const bins = data.bins.slice();
  bins[5] = 9999;
  expect(() => trainPrivate({ ...data, bins }, plan, contract, seededRandom(1))).toThrow(
    expect.objectContaining({ code: 'TRAINING_INPUT', where: 'row 0, field 5' }),
  );
  const labels = data.labels.slice();
  labels[3] = 2;
  expect(() => trainPlain({ ...data, labels }, contract)).toThrow(expect.objectContaining({ code: 'TRAINING_INPUT' }));
});
