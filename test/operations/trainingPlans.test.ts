/** What the operator writes and reads: plans with and without an evaluation, and its figures in words. */
import { expect, test } from '@jest/globals';
import { evaluateModel, missingEvaluation } from '../../src/learning/modelEvaluation.ts';
import { planHash } from '../../src/learning/plan.ts';
import { SCORE_CELLS } from '../../src/learning/scoreHistogram.ts';
import { describeEvaluation, describePlan, writePlan } from '../../src/operations/trainingPlans.ts';
import { makeConsortium } from '../federated/consortium.ts';
import { contract } from './node.ts';

const { roster } = makeConsortium(3);
const wishes = { contract, epsilon: 4, delta: 1e-6, expectedRows: 10_000 };
const plan = writePlan(roster, { ...wishes, evaluation: { holdout: 0.2, share: 0.2 } });
const subject = { plan, planHash: planHash(plan), modelHash: 'a'.repeat(64), intercept: -3 };
const signed = (evaluation: object | null) => {
  const evidence = { ...subject, planId: plan.id, rosterHash: '', signer: '', messageId: '', body: '', signature: '' };
  return { model: null, evidence: { ...evidence, evaluation } };
};

test('a plan evaluates when the operator wishes it', () => {
  expect(plan.evaluation).toEqual({ holdout: 0.2, share: 0.2, bins: 64 });
  expect(describePlan(plan).join('\n')).toContain('64 score bins per label');
  expect(describePlan(plan).at(-1)).toMatch(/AUC to about 0\.05 from \d+ held-out positives/);
  expect(describePlan(writePlan(roster, wishes)).join()).not.toContain('AUC');
  expect(writePlan(roster, wishes).evaluation).toBeNull();
  expect(writePlan(roster, { ...wishes, evaluation: null }).evaluation).toBeNull();
  for (const family of ['logistic', 'mlp'] as const) {
    const dense = writePlan(roster, { ...wishes, family, evaluation: { holdout: 0.1, share: 0.3 } });
    expect(dense).toMatchObject({ family, evaluation: { holdout: 0.1, share: 0.3, bins: 64 } });
    expect(describePlan(dense).join(' ')).toMatch(/Evaluation: .*10 % of the customers.* held-out positives/);
    expect(writePlan(roster, { ...wishes, family }).evaluation).toBeNull();
  }
});

test('an evaluation is told with its intervals, or with what stood in its way', () => {
  const sum = Float64Array.from({ length: SCORE_CELLS }, (_, cell) =>
    Math.round(2000 * Math.exp(-(((cell % 64) - (cell < 64 ? 20 : 32)) ** 2) / 60)),
  );
  const told = describeEvaluation(signed(evaluateModel(subject, sum, ['bank-1', 'bank-2', 'bank-3']))).join('\n');
  expect(told).toMatch(/20 % of the customers of 3 sites/);
  expect(told).toMatch(/AUC 0\.9\d\d \[0\.9\d\d, 0\.9\d\d\]/);
  const empty = describeEvaluation(
    signed(
      evaluateModel(
        subject,
        sum.map(() => 0),
        ['bank-1', 'bank-2'],
      ),
    ),
  );
  expect(empty.join('\n')).toContain('AUC hidden by the noise');
  const failed = missingEvaluation(subject, 'QUORUM_LOST', 'Too few sites.');
  expect(describeEvaluation(signed(failed))).toEqual(['not evaluated: QUORUM_LOST Too few sites.']);
  expect(describeEvaluation(signed(null))).toEqual([]);
});
