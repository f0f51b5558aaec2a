/**
 * Rounds of dense plans in the training thread: the sums of a direct call, private updates, and codes across the
 * boundary.
 */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { denseCentres } from '../../src/learning/sgd/denseRelease.ts';
import { openLog } from '../../src/log.ts';
import { openTrainingPool, type TrainingPool } from '../../src/workers/trainingPool.ts';
import { anyWeight, contract, dataOf } from '../learning/sgd/cases.ts';
import { densePlan } from '../learning/sgd/densePlans.ts';

let pool: TrainingPool;

beforeEach(() => {
  pool = openTrainingPool({ log: openLog('test', 'silent') });
});

afterEach(() => pool.close());

test('centres are those of a direct call, bit for bit', async () => {
  const plan = densePlan({ mode: 'sum' });
  const weights = fc.array(anyWeight, { minLength: plan.dimension, maxLength: plan.dimension });
  await fc.assert(
    fc.asyncProperty(dataOf(0, 30), weights, fc.integer({ min: 1, max: plan.rounds }), async (data, values, round) => {
      const task = { plan, contract, round, weights: Float64Array.from(values) };
      const centres = await pool.centres(data, task);
      expect(centres).toEqual(denseCentres(plan, contract, data, round, task.weights));
    }),
    { numRuns: 40 },
  );
});

test('an update of several steps is integers with noise of its own', async () => {
  const plan = densePlan({ strategy: 'fedprox', sites: 1 });
  const [data] = fc.sample(dataOf(20, 20), { numRuns: 1, seed: 4 });
  const task = { plan, contract, round: 1, weights: new Float64Array(plan.dimension) };
  const [one, other] = await Promise.all([pool.update(data, task), pool.update(data, task)]);
  expect(one).toHaveLength(plan.dimension);
  expect(one.every(Number.isSafeInteger)).toBe(true);
  expect(one).not.toEqual(other);
});

test('errors keep their class and code', async () => {
  const plan = densePlan();
  const [data] = fc.sample(dataOf(5, 5), { numRuns: 1, seed: 4 });
  const task = { plan, contract, round: 51, weights: new Float64Array(plan.dimension) };
  const refused = { name: 'LearningError', code: 'TRAINING_INPUT', where: 'round 51' };
  await expect(pool.centres(data, task)).rejects.toMatchObject(refused);
  await expect(pool.update(data, task)).rejects.toMatchObject(refused);
});
