/** The training pool from outside: the same sums bit for bit, codes across the thread boundary, a dead thread. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type BinnedData, selectRows } from '../../src/learning/binned.ts';
import { scoreEdges, scoreHistogram } from '../../src/learning/scoreHistogram.ts';
import { type AdditiveModel, logitsOf, siteCounts, siteGradient } from '../../src/learning/site.ts';
import { openLog } from '../../src/log.ts';
import { sharedMemory } from '../../src/workers/thread.ts';
import { openTrainingPool, type TrainingPool } from '../../src/workers/trainingPool.ts';

let pool: TrainingPool;

beforeEach(() => {
  pool = openTrainingPool({ log: openLog('test', 'silent') });
});

afterEach(() => pool.close());

const bytes = (numbers: Float64Array) => Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);

const weight = fc.oneof(
  fc.double({ min: -30, max: 30, noNaN: true }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);

/** Data of any shape, none included, and a model that fits. */
const cases = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 }).chain((sizes) =>
  fc.record({
    data: fc.array(fc.tuple(fc.tuple(...sizes.map((size) => fc.nat(size - 1))), fc.nat(1)), { maxLength: 60 }).map(
      (rows): BinnedData => ({
        rows: rows.length,
        sizes,
        bins: Uint16Array.from(rows.flatMap(([bins]) => bins)),
        labels: Uint8Array.from(rows, ([, label]) => label),
      }),
    ),
    model: fc.record({
      intercept: weight,
      weights: fc.tuple(...sizes.map((size) => fc.array(weight, { minLength: size, maxLength: size }))),
    }),
    grid: fc.record({
      residualBits: fc.integer({ min: 0, max: 20 }),
      residualLimit: fc.integer({ min: 1, max: 2 ** 20 }),
    }),
  }),
);

test('answers what a direct call answers, bit for bit, from shared memory and from memory of its own', async () => {
  await fc.assert(
    fc.asyncProperty(cases, async ({ data, model, grid }) => {
      const rows = Array.from({ length: data.rows }, (_, row) => row);
      for (const held of [data, selectRows(data, rows, sharedMemory)]) {
        const [counts, scores, gradient] = await Promise.all([
          pool.counts(held),
          pool.scores(held, model as AdditiveModel),
          pool.gradient(held, model as AdditiveModel, grid),
        ]);
        expect(bytes(counts).equals(bytes(siteCounts(data)))).toBe(true);
        const inBins = scoreHistogram(logitsOf(data, model as AdditiveModel), data.labels, scoreEdges(model));
        expect(bytes(scores).equals(bytes(inBins))).toBe(true);
        expect(bytes(gradient).equals(bytes(siteGradient(data, model, grid)))).toBe(true);
      }
    }),
    { numRuns: 150 },
  );
});

const data: BinnedData = { rows: 2, sizes: [2], bins: Uint16Array.of(0, 1), labels: Uint8Array.of(1, 0) };

test('rows selected into shared memory stay there', () => {
  const held = selectRows(data, [1], sharedMemory);
  expect(held).toEqual({ ...data, rows: 1, bins: Uint16Array.of(1), labels: Uint8Array.of(0) });
  expect(held.bins.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(held.labels.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(selectRows(data, [1]).bins.buffer).toBeInstanceOf(ArrayBuffer);
});

test('a model that does not fit keeps its code, and the thread goes on', async () => {
  const wrong = { intercept: 0, weights: [[0, 0, 0]] };
  await expect(pool.gradient(data, wrong, { residualBits: 4, residualLimit: 16 })).rejects.toMatchObject({
    name: 'LearningError',
    code: 'MODEL_INVALID',
    where: 'field 0',
  });
  expect([...(await pool.counts(data))]).toEqual([1, 1]);
});

test('is of no use once closed, used or not', async () => {
  await pool.close();
  await expect(pool.counts(data)).rejects.toMatchObject({ name: 'WorkerError', code: 'WORKER_FAILED' });
});

test('starts its thread with the first job; one that dies fails its job and is replaced', async () => {
  // In a process of its own: only Node itself, not a test sandbox, tells of the threads it starts.
  const script = join(import.meta.dirname, 'killTraining.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 30_000 });
  expect(JSON.parse(stdout)).toEqual({
    before: 0,
    first: 'accepted',
    second: 'WORKER_FAILED',
    third: 'accepted',
    threads: 2,
    whileClosing: 'WORKER_FAILED',
  });
});
