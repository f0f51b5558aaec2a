/** The signed document of an evaluation: canonical both ways, and tied to its plan and model. */
import { describe, expect, test } from '@jest/globals';
import { canonicalBytes } from '../../src/canonical.ts';
import {
  type Evaluated,
  evaluateModel,
  evaluationRound,
  missingEvaluation,
  parseEvaluation,
  positivesNeeded,
  readEvaluation,
} from '../../src/learning/modelEvaluation.ts';
import { planHash } from '../../src/learning/plan.ts';
import { estimate } from '../../src/learning/scoreEstimate.ts';
import { SCORE_CELLS } from '../../src/learning/scoreHistogram.ts';
import { addNoise } from '../../src/learning/site.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { approximately, rationalText } from '../../src/privacy/rational.ts';
import { seededRandom } from '../support/publicData.ts';
import { planOf } from './plans.ts';

const plan = planOf({ sites: 4, quorum: 3, evaluation: { holdout: 0.2, share: 0.1, bins: 64 } });
const subject: Evaluated = { plan, planHash: planHash(plan), modelHash: 'a'.repeat(64), intercept: -2 };
const statement = privacyStatement(plan);
const sites = ['bank-1', 'bank-2', 'bank-4'];
// A bell of negatives below, one of positives above.
const exact = Float64Array.from({ length: SCORE_CELLS }, (_, cell) =>
  Math.round(900 * Math.exp(-(((cell % 64) - (cell < 64 ? 20 : 32)) ** 2) / 60)),
);
const sum = addNoise(exact, statement.sigmaEvaluationSquared!, seededRandom(4));
const evaluation = evaluateModel(subject, sum, sites);
const read = (json: unknown) => parseEvaluation(json, subject);
const wire = (json: object) => JSON.parse(new TextDecoder().decode(canonicalBytes(json)));

test('is the same after a journey as canonical JSON', () => {
  expect(read(wire(evaluation))).toEqual(evaluation);
  expect(canonicalBytes(wire(evaluation))).toEqual(canonicalBytes(evaluation));
  const failed = missingEvaluation(subject, 'QUORUM_LOST', 'x'.repeat(900));
  expect(read(wire(failed))).toEqual(failed);
  expect(failed).toMatchObject({ result: null, code: 'QUORUM_LOST', reason: 'x'.repeat(500) });
});

test('says whose noise is in it, and measures by it', () => {
  expect(evaluation.sigma).toBe(rationalText(statement.sigmaEvaluation!));
  const { noiseVariance, measures, histogram } = evaluation.result!;
  expect(noiseVariance).toBeCloseTo(3 * approximately(statement.sigmaEvaluationSquared!), 9);
  expect(histogram).toEqual(Array.from(sum));
  expect(measures.auc!.low).toBeGreaterThan(0.7);
  expect(measures.auc!.high - measures.auc!.low).toBeGreaterThan(0.01);
  // Fewer sites, less noise, for the same sum.
  const fewer = evaluateModel(subject, sum, sites.slice(1)).result!.measures;
  expect(fewer.auc!.high - fewer.auc!.low).toBeLessThan(measures.auc!.high - measures.auc!.low);
});

test('the positives it needs keep their promise', () => {
  const halfWidth = 0.05;
  const needed = positivesNeeded(plan, halfWidth)!;
  const total = exact.subarray(64).reduce((all, cell) => all + cell, 0);
  // Four negatives for each positive.
  const scaled = exact.map((cell, i) => (cell * needed * (i < 64 ? 4 : 1)) / total);
  const facts = { intercept: -2, residualBound: 1, maxRecordsPerSubject: 0 };
  const noiseVariance = plan.sites * approximately(statement.sigmaEvaluationSquared!);
  const { auc } = estimate(scaled, { ...facts, noiseVariance });
  expect((auc!.high - auc!.low) / 2).toBeLessThan(1.2 * halfWidth);
  expect((auc!.high - auc!.low) / 2).toBeGreaterThan(halfWidth / 3);
  expect(positivesNeeded(planOf(), halfWidth)).toBeNull();
});

describe('is refused', () => {
  const result = evaluation.result!;
  test.each<[string, unknown]>([
    ['when it is missing', null],
    ['of another plan', { ...evaluation, planHash: 'b'.repeat(64) }],
    ['of another model', { ...evaluation, modelHash: 'b'.repeat(64) }],
    ['with another hold-out', { ...evaluation, holdout: 0.3 }],
    ['with less noise than planned', { ...evaluation, sigma: '1/1024' }],
    ['of too few sites', { ...evaluation, result: { ...result, sites: sites.slice(1) } }],
    ['of more sites than there are', { ...evaluation, result: { ...result, sites: [...sites, 'x', 'y'] } }],
    ['with a histogram of another size', { ...evaluation, result: { ...result, histogram: [1] } }],
    ['with fractions', { ...evaluation, result: { ...result, histogram: result.histogram.map((c) => c + 0.5) } }],
    ['without result and reason', { ...evaluation, result: null }],
    ['with members nobody knows', { ...evaluation, more: 1 }],
  ])('%s', (_why, json) => {
    expect(() => read(json)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
  });

  test('by a plan that asks for none, which has no evaluation round either', () => {
    const none = { ...subject, plan: planOf() };
    expect(() => parseEvaluation(evaluation, none)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
    expect(parseEvaluation(null, none)).toBeNull();
    expect(evaluationRound(none.plan)).toBeNull();
    expect(evaluationRound(plan)).toBe(plan.rounds + 1);
    expect(() => readEvaluation(null)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
  });
});
