/** The DP-SGD pool from outside: a model, progress, codes across the thread boundary, a free event loop, cancellation. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { auc } from '../../src/learning/evaluation.ts';
import { denseLogits, parseDense } from '../../src/learning/sgd/model.ts';
import { settingsHash } from '../../src/learning/sgd/settings.ts';
import { openLog } from '../../src/log.ts';
import { openSgdPool, type SgdPool } from '../../src/workers/sgdPool.ts';
import { contract, madeUp, settingsOf } from '../learning/sgd/cases.ts';
import { contractOf, dealRows, seededRandom } from '../support/publicData.ts';

const data = madeUp(1000, seededRandom(3));
let pool: SgdPool;

beforeEach(() => {
  pool = openSgdPool({ log: openLog('test', 'silent') });
});

afterEach(() => pool.close());

test.each(['logistic', 'mlp'] as const)('trains %s over two banks and tells every step', async (family) => {
  const settings = settingsOf({ family, sites: 2, epsilon: 4, epochs: 20, batch: 1000 });
  const steps: number[] = [];
  const model = await pool.train(dealRows(data, 2), settings, contract, ({ step }) => steps.push(step));
  expect(parseDense(model, contract).training).toMatchObject({ settingsHash: settingsHash(settings), sites: 2 });
  expect(steps).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  expect(auc(denseLogits(model, data), data.labels)).toBeGreaterThan(0.6);
  // The operating system's noise, not a seed's: a second training differs.
  expect(await pool.train(dealRows(data, 2), settings, contract)).not.toEqual(model);
});

test('errors keep class, code and place, and the thread goes on', async () => {
  await expect(pool.train([data], settingsOf(), contractOf('adult'))).rejects.toMatchObject({
    name: 'LearningError',
    code: 'MODEL_CONTRACT_MISMATCH',
    where: 'contractHash',
  });
  const heavy = settingsOf({ epsilon: 0.01, maxRecordsPerSubject: 1000, epochs: 10_000 });
  await expect(pool.train([data], heavy, contract)).rejects.toMatchObject({
    name: 'PrivacyError',
    code: 'PRIVACY_PARAMETER',
  });
  expect((await pool.train([data], settingsOf({ epochs: 2 }), contract)).training).toMatchObject({ steps: 2 });
});

test('the event loop turns while a training runs, and close cancels it', async () => {
  const long = settingsOf({ family: 'mlp', hidden: [64, 32], epochs: 10_000 });
  let turns = 0;
  const started = new Promise<void>((resolve) => {
    const training = pool.train([data], long, contract, ({ step }) => {
      if (step === 3) resolve();
    });
    cancelled = expect(training).rejects.toMatchObject({ name: 'WorkerError', code: 'WORKER_FAILED' });
  });
  const timer = setInterval(() => turns++, 1);
  await started;
  await new Promise((resolve) => setTimeout(resolve, 50));
  clearInterval(timer);
  expect(turns).toBeGreaterThan(5);
  await pool.close();
  await cancelled;
  await expect(pool.train([data], long, contract)).rejects.toMatchObject({ code: 'WORKER_FAILED' });
});

let cancelled: Promise<void>;
