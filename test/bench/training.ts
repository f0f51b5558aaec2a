/**
 * Speed of noise and training, and what the scorecard is worth on the public data sets.
 *
 * `npm run bench:training -- --json OUT`. Timings stand beside a plain reference measured in the same run. Accuracy is
 * the mean test AUC over five seeded 80/20 splits at delta 1e-6, noise from the operating system's generator; lines of
 * a data set that is not in the checkout are left out with a note.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { layoutOf } from '../../src/contract/contract.ts';
import type { BinnedData } from '../../src/learning/binned.ts';
import { auc } from '../../src/learning/evaluation.ts';
import { defaultPlan, type TrainingPlan } from '../../src/learning/plan.ts';
import { logitsOf, siteGradient } from '../../src/learning/site.ts';
import { trainFederatedInMemory, trainPlain, trainPrivate } from '../../src/learning/train.ts';
import { openLog } from '../../src/log.ts';
import { discreteGaussianSampler } from '../../src/privacy/discreteGaussian.ts';
import { systemRandom } from '../../src/random.ts';
import { openTrainingPool, sharedMemory } from '../../src/workers/trainingPool.ts';
import { contractOf, dealRows, type PublicName, publicData, splitRows } from '../support/publicData.ts';
import { openReport } from './report.ts';

const SPLITS = 5;
const report = openReport('training');
const random = systemRandom();

measureSampler();
measureFits();
await measureEventLoop();
for (const [name, sites, bars] of [
  ['adult', 1, { 0.5: 0.893, 1: 0.899, 2: 0.903, 4: 0.905 }],
  ['adult', 5, { 0.5: 0.883, 1: 0.892, 2: 0.898, 4: 0.902 }],
  ['telco', 1, { 0.5: 0.829, 1: 0.835, 2: 0.839, 4: 0.842 }],
  ['ulb', 1, { 0.5: 0.956, 1: 0.96, 2: 0.963, 4: 0.965 }],
  ['taiwan', 1, { 0.5: 0.766, 1: 0.773, 2: 0.775, 4: 0.777 }],
  ['taiwan', 4, { 1: 0.755 }],
] as [PublicName, number, Record<string, number>][]) {
  measureAccuracy(name, sites, bars);
}
report.finish();

function measureSampler(): void {
  const draws = 2_000_000;
  const sample = discreteGaussianSampler({ num: 2n ** 32n, den: 1n });
  for (let i = 0; i < 100_000; i++) sample(random);
  const exact = seconds(() => {
    for (let i = 0; i < draws; i++) sample(random);
  });
  // Reference: the float Gaussian that must not be used, from the same words.
  let sink = 0;
  const boxMuller = () => {
    const u = (random.nextUint32() + 1) / 2 ** 32;
    return Math.sqrt(-2 * Math.log(u)) * Math.cos((2 * Math.PI * random.nextUint32()) / 2 ** 32);
  };
  const float = seconds(() => {
    for (let i = 0; i < draws; i++) sink += boxMuller();
  });
  if (Number.isNaN(sink)) process.exitCode = 1;
  report.add({
    name: 'discrete Gaussian, sigma 2^16',
    value: Math.round(draws / exact),
    unit: 'samples/s',
    bar: { atLeast: 200_000 },
  });
  report.add({ name: 'float Gaussian (reference, not private)', value: Math.round(draws / float), unit: 'samples/s' });
}

function measureFits(): void {
  const contract = contractOf('adult');
  const data = publicData('adult')?.data ?? madeUp(32_561, layoutOf(contract).sizes);
  const { train } = splitRows(data, 1);
  const plan: TrainingPlan = { ...planFor('adult', 1, 1, train.rows), rounds: 50 };
  const run = () => void trainPrivate(train, plan, contract, random);
  run();
  const fit = Math.min(seconds(run), seconds(run), seconds(run));
  report.add({ name: 'fit 26,048 x 14, 50 rounds, with noise', value: fit, unit: 's', bar: { atMost: 0.3 } });
  const plain = seconds(() => void trainPlain(train, contract));
  report.add({ name: 'the same without noise, per 50 rounds (reference)', value: plain / 3, unit: 's' });

  const wide = {
    ...contract,
    fields: Array.from({ length: 30 }, (_, k) => ({ ...contract.fields[0], name: `f${k}` })),
  };
  const many = madeUp(1_000_000, layoutOf(wide).sizes);
  const large = { ...defaultPlan({ contract: wide, ...facts(1, 1, many.rows) }), rounds: 20 };
  const before = process.memoryUsage().rss;
  const largeFit = seconds(() => void trainPrivate(many, large, wide, random));
  report.add({ name: 'fit 1,000,000 x 30, 20 rounds', value: largeFit, unit: 's', bar: { atMost: 30 } });
  const peak = Math.max(before, process.memoryUsage().rss) / 2 ** 20;
  report.add({ name: 'memory after it, data included', value: peak, unit: 'MiB', bar: { atMost: 1024 } });
}

/** How long scoring would wait for a pass over the records: on its own thread, and where scoring runs. */
async function measureEventLoop(): Promise<void> {
  const sizes = new Array<number>(30).fill(34);
  const made = madeUp(1_000_000, sizes);
  const bins = new Uint16Array(sharedMemory(made.bins.byteLength));
  const labels = new Uint8Array(sharedMemory(made.labels.byteLength));
  bins.set(made.bins);
  labels.set(made.labels);
  const data = { ...made, bins, labels };
  const model = { intercept: -2, weights: sizes.map((size) => Array.from({ length: size }, (_, bin) => bin / 100)) };
  const plan = { residualBits: 8, residualLimit: 2 ** 8 };
  const rounds = 10;
  const pool = openTrainingPool({ log: openLog('bench', 'silent') });
  const inPool = async () => void (await pool.gradient(data, model, plan));
  const direct = async () => void siteGradient(data, model, plan);
  await inPool();
  await direct();
  const [pooled, blocking] = [await measure(inPool), await measure(direct)];
  await pool.close();
  const name = `gradient 1,000,000 x 30, ${rounds} rounds`;
  report.add({
    name: `${name}: longest event-loop delay, training thread`,
    value: pooled.delay,
    unit: 'ms',
    bar: { atMost: 20 },
  });
  report.add({ name: `${name}: the same on the event loop (reference)`, value: blocking.delay, unit: 'ms' });
  report.add({ name: `${name}: a round, training thread`, value: pooled.round, unit: 'ms' });
  report.add({ name: `${name}: a round on the event loop (reference)`, value: blocking.round, unit: 'ms' });

  async function measure(work: () => Promise<void>): Promise<{ delay: number; round: number }> {
    const monitor = monitorEventLoopDelay({ resolution: 1 });
    monitor.enable();
    let busy = 0;
    for (let i = 0; i < rounds; i++) {
      // Between rounds the loop turns, as it does between two messages of the aggregator.
      await new Promise((done) => setTimeout(done, 20));
      const start = performance.now();
      await work();
      busy += performance.now() - start;
    }
    await new Promise((done) => setTimeout(done, 20));
    monitor.disable();
    return { delay: monitor.max / 1e6, round: busy / rounds };
  }
}

function measureAccuracy(name: PublicName, sites: number, bars: Record<string, number>): void {
  const real = publicData(name);
  if (real === null) {
    process.stderr.write(`${name}: not in this checkout, its accuracy is not measured\n`);
    return;
  }
  const { data, contract } = real;
  const splits = Array.from({ length: SPLITS }, (_, i) => splitRows(data, i + 1));
  for (const [epsilon, bar] of Object.entries(bars)) {
    const aucs = splits.map(({ train, test }) => {
      const plan = planFor(name, Number(epsilon), sites, train.rows);
      const randoms = Array.from({ length: sites }, () => random);
      return auc(logitsOf(test, trainFederatedInMemory(dealRows(train, sites), plan, contract, randoms)), test.labels);
    });
    const banks = sites === 1 ? 'one bank' : `${sites} banks, site mode`;
    report.add({
      name: `${name}, ${banks}, epsilon ${epsilon}`,
      value: mean(aucs),
      unit: 'AUC',
      bar: { atLeast: bar },
    });
  }
  if (sites === 1) {
    const plain = splits.map(({ train, test }) => auc(logitsOf(test, trainPlain(train, contract)), test.labels));
    report.add({ name: `${name} without privacy (reference)`, value: mean(plain), unit: 'AUC' });
  }
}

function planFor(name: PublicName, epsilon: number, sites: number, expectedRows: number): TrainingPlan {
  return defaultPlan({ contract: contractOf(name), ...facts(epsilon, sites, expectedRows) });
}

function facts(epsilon: number, sites: number, expectedRows: number) {
  return { epsilon, delta: 1e-6, sites, quorum: sites, expectedRows };
}

function madeUp(rows: number, sizes: readonly number[]): BinnedData {
  const bins = Uint16Array.from(
    { length: rows * sizes.length },
    (_, i) => random.nextUint32() % sizes[i % sizes.length],
  );
  return { rows, sizes, bins, labels: Uint8Array.from({ length: rows }, () => random.nextUint32() & 1) };
}

function seconds(work: () => void): number {
  const start = performance.now();
  work();
  return (performance.now() - start) / 1000;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
