/** Comparing noisy evaluations: the better model wins where the noise allows, and nobody is told more than is known. */
import { describe, expect, test } from '@jest/globals';
import { LearningError } from '../../src/errors.ts';
import { type Candidate, compareModels, differenceOf } from '../../src/learning/modelComparison.ts';
import { evaluateModel, type ModelEvaluation, missingEvaluation } from '../../src/learning/modelEvaluation.ts';
import { DENSE_GRID, scoreEdges, scoreHistogram } from '../../src/learning/scoreHistogram.ts';
import { denseStatement } from '../../src/learning/sgd/denseStatement.ts';
import { defaultDensePlan } from '../../src/learning/sgd/plan.ts';
import { addNoise } from '../../src/learning/site.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { seededRandom } from '../support/publicData.ts';
import { planOf } from './plans.ts';
import { contract } from './sgd/cases.ts';

const plan = planOf({ sites: 3, quorum: 2, epsilon: 4, evaluation: { holdout: 0.2, share: 0.2, bins: 64 } });
const SITES = ['a', 'b', 'c'];

/** A noisy evaluation of a model whose positives score `distance` higher, in logits. */
function evaluated(distance: number, records: number, seed: number, holdout = 0.2): ModelEvaluation {
  const random = seededRandom(seed);
  const normal = () => {
    const radius = Math.sqrt(-2 * Math.log((random.nextUint32() + 1) / 2 ** 32));
    return radius * Math.cos((2 * Math.PI * random.nextUint32()) / 2 ** 32);
  };
  const labels = Uint8Array.from({ length: records }, (_, row) => (row % 10 === 0 ? 1 : 0));
  const logits = Float64Array.from(labels, (label) => -2 + distance * label + normal());
  const exact = scoreHistogram(logits, labels, scoreEdges({ intercept: -2 }));
  const { sigmaEvaluationSquared } = privacyStatement(plan);
  let sum = exact;
  for (const _ of SITES) sum = addNoise(sum, sigmaEvaluationSquared!, random) as typeof exact;
  const own = { ...plan, evaluation: { holdout, share: 0.2, bins: 64 as const } };
  return evaluateModel({ plan: own, planHash: '0'.repeat(64), modelHash: '1'.repeat(64), intercept: -2 }, sum, SITES);
}

const candidate = (planId: string, evaluation: ModelEvaluation, contractHash = 'c'): Candidate => {
  return { planId, contractHash, evaluation };
};

/** The same of a logistic regression: another grid, about another centre, and another noise. */
function evaluatedDense(distance: number, records: number, seed: number): ModelEvaluation {
  const random = seededRandom(seed);
  const facts = { contract, family: 'logistic', epsilon: 4, delta: 1e-6, sites: 3, quorum: 2 } as const;
  const dense = defaultDensePlan({ ...facts, expectedRows: 5 * records, evaluation: plan.evaluation });
  const labels = Uint8Array.from({ length: records }, (_, row) => (row % 10 === 0 ? 1 : 0));
  // Logistic scores: even in distribution between 0 and 1.
  const logits = Float64Array.from(labels, (label) => {
    const uniform = (random.nextUint32() + 1) / (2 ** 32 + 2);
    return -2 + distance * label + Math.log(uniform / (1 - uniform));
  });
  let sum: Float64Array = scoreHistogram(logits, labels, scoreEdges({ intercept: 1 }, DENSE_GRID));
  const { sigmaEvaluationSquared } = denseStatement(dense);
  for (const _ of SITES) sum = addNoise(sum, sigmaEvaluationSquared!, random);
  const subject = { plan: dense, planHash: '2'.repeat(64), modelHash: '3'.repeat(64), intercept: 1 };
  return evaluateModel(subject, sum, SITES);
}

describe('a comparison', () => {
  test('holds across families', () => {
    const scorecard = candidate('scorecard', evaluated(0.5, 20_000, 2));
    const logistic = candidate('logistic', evaluatedDense(4, 20_000, 1));
    const comparison = compareModels([scorecard, logistic]);
    expect([comparison.preferred, comparison.decided, comparison.cautions]).toEqual(['logistic', true, []]);
    expect(comparison.models[0].auc!.estimate).toBeGreaterThan(0.9);
    expect(compareModels([scorecard, candidate('poor', evaluatedDense(0, 20_000, 4))]).preferred).toBe('scorecard');
  });

  test('prefers the model that is better beyond noise, in whatever order', () => {
    const good = candidate('good', evaluated(2, 20_000, 1));
    const bad = candidate('bad', evaluated(0.5, 20_000, 2));
    const worse = candidate('worse', evaluated(0.2, 20_000, 3));
    for (const order of [
      [good, bad, worse],
      [worse, bad, good],
    ]) {
      const { preferred, decided, models, cautions } = compareModels(order);
      expect([preferred, decided, cautions]).toEqual(['good', true, []]);
      expect(models.map(({ planId }) => planId)).toEqual(['good', 'bad', 'worse']);
      expect(models.map(({ mayBeBest }) => mayBeBest)).toEqual([true, false, false]);
      expect(models[1].behind!.auc!.low).toBeGreaterThan(0);
    }
  });

  test('does not decide between models that noise cannot tell apart', () => {
    const { preferred, decided, models } = compareModels([
      candidate('one', evaluated(1, 5_000, 4)),
      candidate('two', evaluated(1.02, 5_000, 5)),
    ]);
    expect(preferred).toBe(models[0].planId);
    expect(decided).toBe(false);
    expect(models[1].mayBeBest).toBe(true);
  });

  test('says which figures do not go together', () => {
    const { cautions } = compareModels([
      candidate('one', evaluated(2, 20_000, 1)),
      candidate('two', evaluated(2, 20_000, 2, 0.3), 'd'),
    ]);
    expect(cautions).toHaveLength(2);
    expect(cautions[0]).toMatch(/different contracts/);
    expect(cautions[1]).toMatch(/hold out different shares/);
  });

  test('cannot prefer a model without figures', () => {
    const subject = { plan, planHash: '0'.repeat(64), modelHash: '2'.repeat(64), intercept: 0 };
    const lost = candidate('lost', missingEvaluation(subject, 'QUORUM_LOST', 'Too few.'));
    const known = compareModels([lost, candidate('known', evaluated(2, 20_000, 1))]);
    expect([known.preferred, known.decided]).toEqual(['known', false]);
    expect(known.cautions.join()).toMatch(/lost cannot be compared: QUORUM_LOST/);
    const none = compareModels([lost, candidate('again', lost.evaluation)]);
    expect([none.preferred, none.decided]).toEqual([null, false]);
  });

  test('needs two plans', () => {
    const one = candidate('one', evaluated(1, 5_000, 4));
    expect(() => compareModels([one])).toThrow(LearningError);
    expect(() => compareModels([one, one])).toThrow(LearningError);
  });

  test('of equal models declares a winner in at most one of twenty', () => {
    // Seeded. At a rate of .05 more than 9 of 50 have probability below 3e-4.
    let wrong = 0;
    for (let seed = 1; seed <= 50; seed++) {
      const pair = [2 * seed, 2 * seed + 1].map((own) => candidate(String(own), evaluated(1, 3_000, own)));
      if (compareModels(pair).decided) wrong++;
    }
    expect(wrong).toBeLessThanOrEqual(9);
  });
});

test('the difference of two symmetric intervals is the usual one, of asymmetric ones the matching ends', () => {
  const a = { estimate: 0.8, low: 0.77, high: 0.83 };
  const b = { estimate: 0.7, low: 0.66, high: 0.74 };
  const difference = differenceOf(a, b)!;
  expect(difference.estimate).toBeCloseTo(0.1, 12);
  expect(difference.low).toBeCloseTo(0.05, 12);
  expect(difference.high).toBeCloseTo(0.15, 12);
  const skewed = differenceOf({ ...a, low: 0.5 }, b)!;
  expect(skewed.high).toBeCloseTo(0.15, 12);
  expect(skewed.low).toBeCloseTo(0.1 - Math.hypot(0.3, 0.04), 12);
  expect(differenceOf(a, null)).toBeNull();
});
