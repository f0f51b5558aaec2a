/**
 * Speed of noise, accounting and training, and what the models are worth on the public data sets (accuracy.ts).
 *
 * `npm run bench:training -- --json OUT`. Timings stand beside a plain reference measured in the same run; a bar on a
 * time is one of an otherwise idle core. Noise is the operating system's; only the splits are seeded.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type Contract, layoutOf } from '../../src/contract/contract.ts';
import type { BinnedData } from '../../src/learning/binned.ts';
import { defaultPlan, type TrainingPlan } from '../../src/learning/plan.ts';
import { defaultSgd } from '../../src/learning/sgd/settings.ts';
import { trainSgd } from '../../src/learning/sgd/train.ts';
import { siteGradient } from '../../src/learning/site.ts';
import { trainPlain, trainPrivate } from '../../src/learning/train.ts';
import { openLog } from '../../src/log.ts';
import { composedEpsilon, type PrivacyEvent } from '../../src/privacy/accountant.ts';
import { noiseMultiplierFor } from '../../src/privacy/calibration.ts';
import { discreteGaussianSampler } from '../../src/privacy/discreteGaussian.ts';
import { muFor } from '../../src/privacy/gdp.ts';
import { rdpEpsilon } from '../../src/privacy/rdp.ts';
import { systemRandom } from '../../src/random.ts';
import { sharedMemory } from '../../src/workers/thread.ts';
import { openTrainingPool } from '../../src/workers/trainingPool.ts';
import { contractOf, publicData, splitRows } from '../support/publicData.ts';
import { measureAccuracy } from './accuracy.ts';
import { openReport } from './report.ts';

const report = openReport('training');
const random = systemRandom();

for (const [name, part] of [
  ['noise', measureSampler],
  ['fits', measureFits],
  ['DP-SGD', measureSgd],
  ['accountants', measureAccountants],
  ['event loop', measureEventLoop],
  ['accuracy', () => measureAccuracy(report)],
] as const) {
  const start = performance.now();
  await part();
  process.stderr.write(`${name}: measured in ${((performance.now() - start) / 1000).toFixed(0)} s\n`);
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
  const plan: TrainingPlan = { ...defaultPlan({ contract, ...facts(1, train.rows) }), rounds: 50 };
  const run = () => void trainPrivate(train, plan, contract, random);
  run();
  const fit = Math.min(seconds(run), seconds(run), seconds(run));
  report.add({ name: 'fit 26,048 x 14, 50 rounds, with noise', value: fit, unit: 's', bar: { atMost: 0.3 } });
  const plain = seconds(() => void trainPlain(train, contract));
  report.add({ name: 'the same without noise (reference)', value: plain, unit: 's' });

  const wide = wideContract(contract);
  const many = madeUp(1_000_000, layoutOf(wide).sizes);
  const large = { ...defaultPlan({ contract: wide, ...facts(1, many.rows) }), rounds: 20 };
  const largeFit = seconds(() => void trainPrivate(many, large, wide, random));
  report.add({ name: 'fit 1,000,000 x 30, 20 rounds', value: largeFit, unit: 's', bar: { atMost: 30 } });
  // Kilobytes; the most that the process had so far, the data and everything before included.
  const peak = process.resourceUsage().maxRSS / 1024;
  report.add({ name: 'peak memory up to it, data included', value: peak, unit: 'MiB', bar: { atMost: 1024 } });
}

/** 30 numeric fields like the first one of the contract. */
function wideContract(contract: Contract): Contract {
  const fields = Array.from({ length: 30 }, (_, k) => ({ ...contract.fields[0], name: `f${k}` }));
  return { ...contract, fields };
}

function measureSgd(): void {
  const contract = wideContract(contractOf('adult'));
  const data = madeUp(100_000, layoutOf(contract).sizes);
  for (const { family, hidden, bar } of [
    { family: 'logistic', hidden: [], bar: 5 },
    { family: 'mlp', hidden: [64, 32], bar: 60 },
  ] as const) {
    const { epsilon, delta, sites } = facts(1, data.rows);
    const defaults = defaultSgd({ contract, family, epsilon, delta, rows: data.rows, sites, mode: 'site' });
    const settings = { ...defaults, hidden: [...hidden], batch: 1000, epochs: 10 };
    const fit = seconds(() => void trainSgd([data], settings, contract, [random]));
    const what = family === 'mlp' ? `MLP ${hidden.join('-')}` : 'logistic';
    report.add({ name: `${what} 100,000 x 30, batch 1,000, 10 epochs`, value: fit, unit: 's', bar: { atMost: bar } });
  }
}

/** A thousand steps of DP-SGD at a sampling rate of one in a hundred. */
function measureAccountants(): void {
  const events: PrivacyEvent[] = [
    { kind: 'subsampledGaussian', noiseMultiplier: 1, samplingRate: 0.01, times: 1000 },
    { kind: 'gaussian', noiseMultiplier: 10, times: 1 },
  ];
  const delta = 1e-6;
  let tight = 0;
  let loose = 0;
  const pld = seconds(() => {
    tight = composedEpsilon(events, delta);
  });
  const rdp = seconds(() => {
    loose = rdpEpsilon(events, delta);
  });
  const wish = { samplingRate: 0.01, times: 1000, epsilon: 1, delta };
  const calibration = seconds(() => void noiseMultiplierFor(wish));
  const gaussian = seconds(() => {
    for (let i = 0; i < 100; i++) muFor(1 + i / 100, delta);
  });
  report.add({ name: 'epsilon of 1,000 subsampled steps, privacy loss distribution', value: pld, unit: 's' });
  report.add({ name: 'the same by Rényi orders (reference)', value: rdp, unit: 's' });
  report.add({ name: 'its value, privacy loss distribution', value: tight, unit: 'epsilon', bar: { atMost: loose } });
  report.add({ name: 'its value, Rényi orders (reference)', value: loose, unit: 'epsilon' });
  report.add({ name: 'noise for 1,000 subsampled steps at epsilon 1, by search', value: calibration, unit: 's' });
  report.add({ name: 'mu of an epsilon, exact Gaussian', value: (gaussian / 100) * 1000, unit: 'ms' });
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

function facts(epsilon: number, expectedRows: number) {
  return { epsilon, delta: 1e-6, sites: 1, quorum: 1, expectedRows };
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
