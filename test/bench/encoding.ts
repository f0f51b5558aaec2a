/**
 * What encoded updates of dense plans weigh and what they are worth: bytes a round at 32, 20, 16 and 1 bit, the error
 * that encoding adds to the noise, and test AUC of the strategies between five banks.
 *
 * `node test/bench/encoding.ts --json OUT`, several minutes. AUCs are means over three seeded splits. The lines "not
 * private" are references: exact sums as float32, and one bit a number, signs with error feedback (Karimireddy et al.
 * 2019, arXiv 1901.09847), which have no privacy promise and exist here only. Limit: rows are dealt out evenly to the
 * banks.
 */
import { selectRows } from '../../src/learning/binned.ts';
import { courseFor } from '../../src/learning/course.ts';
import { encodedSensitivitySquared, encodeSum } from '../../src/learning/encoding/gradientCode.ts';
import { updateBytes } from '../../src/learning/encoding/updateBytes.ts';
import { auc } from '../../src/learning/evaluation.ts';
import { codeOf } from '../../src/learning/sgd/denseRelease.ts';
import { denseStatement } from '../../src/learning/sgd/denseStatement.ts';
import { encodingOf, featureMapOf } from '../../src/learning/sgd/features.ts';
import { gradientSummer } from '../../src/learning/sgd/gradient.ts';
import { type DenseModel, denseLogits, toFederatedDense } from '../../src/learning/sgd/model.ts';
import { networkOf, startWeights } from '../../src/learning/sgd/network.ts';
import { openOptimizer } from '../../src/learning/sgd/optimizer.ts';
import { type DensePlan, type DensePlanFacts, defaultDensePlan, denseDimension } from '../../src/learning/sgd/plan.ts';
import { defaultSgd } from '../../src/learning/sgd/settings.ts';
import { GRID_BITS } from '../../src/learning/sgd/statement.ts';
import { bankUnit } from '../../src/learning/sgd/strategy.ts';
import { trainSgd } from '../../src/learning/sgd/train.ts';
import { drawAround } from '../../src/privacy/gaussianMechanism.ts';
import { approximately } from '../../src/privacy/rational.ts';
import { ringSum, trainTogether } from '../learning/federatedTraining.ts';
import { contractOf, dealRows, type PublicName, publicData, seededRandom, splitRows } from '../support/publicData.ts';
import { openReport } from './report.ts';

const report = openReport('encoding');
const SITES = 5;
const SEEDS = [1, 2, 3];
const FAMILIES = ['logistic', 'mlp'] as const;
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

measureBytes();
measureError();
for (const name of ['telco', 'adult'] as const) measureAccuracy(name);
report.finish();

function measureBytes(): void {
  const sizes: [string, number][] = [['d = 4096', 4096]];
  for (const name of ['telco', 'adult'] as const) {
    for (const [family, hidden] of [
      ['logistic', []],
      ['mlp 32', [32]],
    ] as const) {
      const dimension = denseDimension(contractOf(name), hidden);
      sizes.push([`${name}, ${family}, d = ${dimension}`, dimension]);
    }
  }
  for (const [what, dimension] of sizes) {
    const { float32, bits20, bits16, bits1 } = updateBytes(dimension);
    for (const [bits, value] of [
      ['32', float32],
      ['20', bits20],
      ['16', bits16],
      ['1', bits1],
    ] as const) {
      report.add({ name: `bytes of an update, ${what}, ${bits} bit`, value, unit: 'B' });
    }
  }
}

/** Error of a sum of encoded updates over that of the noise alone, and what encoding adds to the sensitivity. */
function measureError(): void {
  const contract = contractOf('adult');
  for (const sites of [5, 10, 30]) {
    const facts = { contract, family: 'mlp', epsilon: 1, delta: 1e-6, expectedRows: 26_000, mode: 'sum' } as const;
    const plan = defaultDensePlan({ ...facts, sites, quorum: sites, bits: 16 });
    const { sigma, sigmaSquared, sensitivitySquared, limit } = denseStatement(plan);
    const code = codeOf(plan, { limit }, 1);
    const random = seededRandom(sites);
    // As long as the sum of all a bank's gradients, were they all of norm C and in one direction.
    const size = ((plan.rows / sites) * 2 ** GRID_BITS) / Math.sqrt(plan.dimension);
    const exact = Array.from({ length: sites }, () =>
      Float64Array.from({ length: plan.dimension }, () => Math.trunc(size * (random.nextUint32() % 2 === 0 ? 1 : -1))),
    );
    const sent = exact.map((sum) => drawAround(encodeSum(sum, code), sigmaSquared, random));
    const sum = ringSum(sent, plan.ringBits);
    const wanted = code.rotation.apply(exact.reduce((a, b) => a.map((value, i) => value + b[i])));
    const error = Math.sqrt(mean(Array.from(sum, (value, i) => (value - wanted[i] * code.scale) ** 2)));
    const noise = approximately(sigma) * Math.sqrt(sites);
    const bar = { atMost: 1 + 4.9 / Math.sqrt(2 * plan.dimension) };
    report.add({ name: `error over noise, 16 bits, ${sites} banks`, value: error / noise, unit: '', bar });
    const inflation = Math.sqrt(sensitivitySquared) / plan.encoding.scale;
    report.add({
      name: `sensitivity, encoded over exact, 16 bits, ${sites} banks`,
      value: inflation,
      unit: '',
      bar: { atMost: 1.0001 },
    });
    // What rounding before the noise would cost: the bound of Kairouz, Liu, Steinke 2021 for a vector of one record's
    // length.
    const [length, d] = [plan.encoding.scale, plan.dimension];
    const rounded = Math.min(length + Math.sqrt(d), Math.sqrt(length ** 2 + d / 4 + length + Math.sqrt(d) / 2));
    report.add({
      name: `sensitivity, rounded first over exact, 16 bits, ${sites} banks`,
      value: rounded / length,
      unit: '',
    });
  }
  const wide = Math.sqrt(encodedSensitivitySquared(2 ** GRID_BITS, 65_536, 10 / 2 ** GRID_BITS)) / 10;
  report.add({ name: 'sensitivity, encoded over exact, d = 65536', value: wide, unit: '' });
}

function measureAccuracy(name: PublicName): void {
  const source = publicData(name);
  if (source === null) {
    process.stderr.write(`${name}: not in this checkout, skipped\n`);
    return;
  }
  const { contract } = source;
  const splits = SEEDS.map((seed) => ({ seed, ...splitRows(source.data, seed) }));
  const rows = splits[0].train.rows;
  const add = (what: string, score: (split: (typeof splits)[number]) => DenseModel) => {
    const values = splits.map((split) => auc(denseLogits(score(split), split.test), split.test.labels));
    report.add({ name: `AUC, ${name}, ${what}`, value: mean(values), unit: '' });
    process.stderr.write(`${name}, ${what}: ${mean(values).toFixed(4)}\n`);
  };
  for (const family of FAMILIES) {
    const planOf = (wishes: Partial<DensePlanFacts>) => {
      const facts = { contract, family, epsilon: 1, delta: 1e-6, sites: SITES, quorum: SITES, expectedRows: rows };
      return defaultDensePlan({ ...facts, ...wishes });
    };
    for (const epsilon of [1, 4]) {
      add(`${family}, pooled DP-SGD, epsilon ${epsilon}`, ({ train, seed }) => {
        const settings = defaultSgd({ contract, family, epsilon, delta: 1e-6, rows, sites: 1, mode: 'site' });
        return trainSgd([train], settings, contract, [seededRandom(seed)]);
      });
      for (const [mode, strategy, localSteps] of [
        ['sum', 'fedadam', 1],
        ['sum', 'fedavg', 1],
        ['site', 'fedadam', 1],
        ['site', 'fedavg', 4],
        ['site', 'fedprox', 4],
      ] as const) {
        const plan = planOf({ mode, strategy, localSteps, epsilon });
        const what = `${family}, ${mode}, ${strategy}, ${localSteps} steps, ${plan.encoding.bits} bit, epsilon ${epsilon}`;
        add(what, (split) => together(plan, split));
      }
    }
    for (const bits of [16, 20, 32]) {
      const plan = planOf({ mode: 'sum', bits });
      add(`${family}, sum, fedadam at ${bits} bit, epsilon 1`, (split) => together(plan, split));
    }
    const plan = planOf({ mode: 'sum' });
    for (const oneBit of [false, true]) {
      add(`${family}, NOT PRIVATE, fedadam, ${oneBit ? '1 bit' : 'float32'}`, ({ train }) =>
        withoutPrivacy(plan, dealRows(train, SITES), oneBit),
      );
    }
  }

  function together(plan: DensePlan, { train, seed }: (typeof splits)[number]): DenseModel {
    const holdout = selectRows(train, []);
    const sites = dealRows(train, SITES).map((training) => ({ training, holdout }));
    const randoms = sites.map((_, i) => seededRandom(100 * seed + i));
    // Safe: the model document of a dense plan.
    return trainTogether(sites, plan, contract, randoms).document as DenseModel;
  }

  /** Exact clipped gradient sums, sent as they are or as signs times their mean magnitude; errors are sent later. */
  function withoutPrivacy(plan: DensePlan, banks: ReturnType<typeof dealRows>, oneBit: boolean): DenseModel {
    const { planHash } = courseFor(plan, contract);
    const map = featureMapOf(encodingOf(contract));
    const network = networkOf(map.width, plan.hidden);
    const rule = { clippingNorm: plan.clippingNorm, gridBits: GRID_BITS };
    const summers = banks.map((data) => gradientSummer(network, map, data, rule));
    const errors = banks.map(() => new Float64Array(plan.dimension));
    const learningRate = plan.strategy.serverLearningRate;
    const start = startWeights(network, map.largestNorm ** 2, planHash);
    const optimizer = openOptimizer(start, { learningRate, steps: plan.rounds, noise: 0 });
    for (let round = 0; round < plan.rounds; round++) {
      const gradient = new Float64Array(plan.dimension);
      for (const [i, data] of banks.entries()) {
        const all = Int32Array.from({ length: data.rows }, (_, row) => row);
        const owed = summers[i].sum(all, data.rows, optimizer.weights).map((value, k) => value + errors[i][k]);
        const size = mean(Array.from(owed, Math.abs));
        const sent = oneBit ? owed.map((value) => (value < 0 ? -size : size)) : owed.map(Math.fround);
        errors[i] = owed.map((value, k) => (oneBit ? value - sent[k] : 0));
        for (let k = 0; k < sent.length; k++) gradient[k] += (sent[k] * bankUnit(plan)) / SITES;
      }
      optimizer.step(gradient);
    }
    return toFederatedDense(optimizer.result(), plan, planHash, contract);
  }
}
