/**
 * Releases of a dense plan: neighbours under attack by any weights, the loss an attacker finds, and that banks together
 * learn what one process learns.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type BinnedData, selectRows } from '../../../src/learning/binned.ts';
import { courseFor } from '../../../src/learning/course.ts';
import { auc } from '../../../src/learning/evaluation.ts';
import { denseCentres, denseRelease } from '../../../src/learning/sgd/denseRelease.ts';
import { denseStatement } from '../../../src/learning/sgd/denseStatement.ts';
import { type DenseModel, denseLogits, parseDense } from '../../../src/learning/sgd/model.ts';
import { type DensePlan, parseDensePlan } from '../../../src/learning/sgd/plan.ts';
import { attack, muLowerBound } from '../../../src/privacy/canary.ts';
import { addNoise, drawAround } from '../../../src/privacy/gaussianMechanism.ts';
import { dealRows, seededRandom } from '../../support/publicData.ts';
import { trainTogether } from '../federatedTraining.ts';
import { anyWeight, contract, dataOf, madeUp } from './cases.ts';
import { densePlan } from './densePlans.ts';

const data = madeUp(2000, seededRandom(3));
const none = selectRows(data, new Uint32Array(0));
const length = (vector: Float64Array) => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));

describe.each(['logistic', 'mlp'] as const)('%s', (family) => {
  const plan = densePlan({ family, mode: 'sum' });
  const { sensitivitySquared, sigmaSquared } = denseStatement(plan);

  test('neighbours are at most the stated distance apart, whatever the weights', () => {
    const weightsOf = fc.array(anyWeight, { minLength: plan.dimension, maxLength: plan.dimension });
    fc.assert(
      fc.property(dataOf(1, 20), weightsOf, fc.integer({ min: 1, max: plan.rounds }), (all, weights, round) => {
        const at = Float64Array.from(weights);
        const without = selectRows(
          all,
          Uint32Array.from({ length: all.rows - 1 }, (_, i) => i),
        );
        const [here, there] = [all, without].map((each) => denseCentres(plan, contract, each, round, at));
        expect(length(here.map((value, i) => value - there[i]))).toBeLessThanOrEqual(Math.sqrt(sensitivitySquared));
      }),
      { numRuns: family === 'mlp' ? 15 : 60 },
    );
  });

  test('a release is integers, another for another round, and the same for the same source', () => {
    const weights = courseFor(plan, contract).weights(1, courseFor(plan, contract).firstState()).flat;
    const released = (round: number, seed: number) =>
      denseRelease(plan, contract, data, round, weights, seededRandom(seed));
    expect(released(1, 5)).toEqual(released(1, 5));
    expect(released(1, 5)).not.toEqual(released(1, 6));
    expect(released(1, 5)).not.toEqual(released(2, 5));
    expect(released(1, 5).every(Number.isSafeInteger)).toBe(true);
    expect(released(1, 5)).toHaveLength(plan.dimension);
    const centres = denseCentres(plan, contract, data, 1, weights);
    expect(released(1, 5)).toEqual(drawAround(centres, sigmaSquared, seededRandom(5)));
  });

  test('banks in either mode learn; states are text and the model is one of its contract', () => {
    for (const wishes of [{ mode: 'sum', quorum: 3 } as const, { mode: 'site' } as const]) {
      const together = densePlan({ family, epsilon: 8, expectedRows: data.rows, rounds: 20, ...wishes });
      const sites = dealRows(data, 4).map((training) => ({ training, holdout: none }));
      const { document, course, state } = trainTogether(sites, together, contract, [1, 2, 3, 4].map(seededRandom));
      const model = parseDense(JSON.parse(JSON.stringify(document)), contract);
      expect(model.training).toMatchObject({ planHash: course.planHash, strategy: 'fedadam', rounds: 20, sites: 4 });
      const fresh = madeUp(3000, seededRandom(4));
      expect(auc(denseLogits(model, fresh), fresh.labels)).toBeGreaterThan(0.7);
      expect(() => course.nextState(state, 3, new Float64Array(together.dimension), null, 4)).toThrow(
        expect.objectContaining({ code: 'TRAINING_INPUT' }),
      );
      // A bank may be absent in mode sum: sums are divided by the public number of those who were there.
      if (wishes.mode === 'sum') {
        const three = trainTogether(sites.slice(1), together, contract, [2, 3, 4].map(seededRandom));
        expect(auc(denseLogits(three.document as DenseModel, fresh), fresh.labels)).toBeGreaterThan(0.68);
        expect(() => trainTogether(sites.slice(2), together, contract, [3, 4].map(seededRandom))).toThrow(
          expect.objectContaining({ code: 'TRAINING_INPUT' }),
        );
      }
    }
  });
});

describe('the loss an attacker finds', () => {
  /** A distinguisher that knows all but the customer and the direction the customer moves a release in. */
  function muFound(plan: DensePlan, draw: (exact: Float64Array, seed: number) => Float64Array): number {
    // At logit 0 every record's gradient is longer than C.
    const weights = new Float64Array(plan.dimension);
    const rest = selectRows(
      data,
      Uint32Array.from({ length: 50 }, (_, i) => i),
    );
    const [here, there] = [selectRows(data, rowsUpTo(51)), rest].map((bank) =>
      denseCentres(plan, contract, bank, 1, weights),
    );
    const moved = here.map((value, i) => value - there[i]);
    const statistic = (release: Float64Array) => release.reduce((sum, value, i) => sum + value * moved[i], 0);
    const trials = (centres: Float64Array, from: number) =>
      Float64Array.from({ length: 6000 }, (_, i) => statistic(draw(centres, from + i)));
    return muLowerBound(attack({ without: trials(there, 0), with: trials(here, 10_000) }, muLowerBound, 1e-6).rates);
  }
  const rowsUpTo = (rows: number) => Uint32Array.from({ length: rows }, (_, i) => i);

  // One round takes the whole loss. Seeds are fixed; a sound mechanism is accused with probability 1e-6.
  const plan = parseDensePlan({ ...densePlan({ mode: 'site', sites: 1, epsilon: 8, rounds: 1 }), clippingNorm: 0.5 });
  const { sigma, sigmaSquared, losses } = denseStatement(plan);

  test('is at most the stated one, and most of it', () => {
    const found = muFound(plan, (centres, seed) => drawAround(centres, sigmaSquared, seededRandom(seed)));
    expect(found).toBeLessThanOrEqual(losses.aggregator.mu);
    expect(found).toBeGreaterThan(0.6 * losses.aggregator.mu);
  });

  test('contradicts a bank that draws with a quarter of the variance, as one of four, and sends that alone', () => {
    const quarter = { num: sigma.num ** 2n, den: 4n * sigma.den ** 2n };
    const found = muFound(plan, (centres, seed) => addNoise(centres.map(Math.round), quarter, seededRandom(seed)));
    expect(found).toBeGreaterThan(losses.aggregator.mu);
  });
});

describe('several steps between rounds', () => {
  const plain = densePlan({ strategy: 'fedavg', localSteps: 4, sites: 1, epsilon: 8 });
  const weights = courseFor(plain, contract).weights(1, courseFor(plain, contract).firstState()).flat;

  test('are charged one by one: the loss of a round is that of all of them', () => {
    const one = densePlan({ strategy: 'fedavg', localSteps: 1, rounds: plain.rounds * 4, sites: 1, epsilon: 8 });
    const share = denseStatement(plain).releases[0].muSquared / denseStatement(one).releases[0].muSquared;
    expect(share).toBeCloseTo(4, 3);
  });

  test('FedProx pulls a bank back to the weights of the round, and costs nothing', () => {
    const pulled = (proximal: number) =>
      parseDensePlan({ ...plain, strategy: { ...plain.strategy, kind: 'fedprox', proximal } });
    const distance = (plan: DensePlan) => length(denseRelease(plan, contract, data, 1, weights, seededRandom(7)));
    // The rotation follows from the plan's hash; lengths do not depend on it.
    expect(distance(pulled(0.3))).toBeLessThan(0.9 * distance(plain));
    expect(denseStatement(pulled(0.3)).muSquaredTotal).toBe(denseStatement(plain).muSquaredTotal);
  });

  test('weights that are no numbers do not stop a bank, whose next steps would tell why', () => {
    for (const wild of [Number.NaN, Infinity, 1e300]) {
      const sent = denseRelease(
        plain,
        contract,
        data,
        1,
        weights.map(() => wild),
        seededRandom(1),
      );
      expect(sent.every(Number.isSafeInteger)).toBe(true);
    }
  });
});

test('what does not fit is refused before any record is read', () => {
  const plan = densePlan();
  const weights = new Float64Array(plan.dimension);
  const unread = {
    ...data,
    get bins(): never {
      throw new RangeError('read');
    },
  } as unknown as BinnedData;
  for (const act of [
    () => denseCentres(plan, contract, unread, 0, weights),
    () => denseCentres(plan, contract, unread, 51, weights),
    () => denseCentres(plan, contract, unread, 1, new Float64Array(3)),
    () => denseCentres({ ...plan, dimension: 3 }, contract, unread, 1, new Float64Array(3)),
  ]) {
    expect(act).toThrow(expect.objectContaining({ code: 'TRAINING_INPUT' }));
  }
});
