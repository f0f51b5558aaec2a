/**
 * The influence report: poisoned sites stand out at realistic noise, honest ones do not, and the model without a site is
 * close to what training without it gives.
 */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { layoutOf } from '../../../src/contract/contract.ts';
import type { BinnedData } from '../../../src/learning/binned.ts';
import { shapeOf } from '../../../src/learning/binned.ts';
import { courseFor } from '../../../src/learning/course.ts';
import { scalesOf } from '../../../src/learning/influence/messages.ts';
import { type InfluenceReport, openInfluence, type RoundOfPlan } from '../../../src/learning/influence/report.ts';
import { FALSE_ALARMS, suspicions } from '../../../src/learning/influence/suspicion.ts';
import { chiSquareTail, studentTail } from '../../../src/learning/influence/tails.ts';
import { defaultPlan, parsePlan, type TrainingPlan } from '../../../src/learning/plan.ts';
import { type AdditiveModel, logitsOf } from '../../../src/learning/site.ts';
import { openSiteReleases, type SiteData } from '../../../src/learning/siteRelease.ts';
import { sumOf } from '../../../src/learning/train.ts';
import { contractOf, seededRandom } from '../../support/publicData.ts';

const contract = contractOf('demo-transactions');
const SITES = 6;
const ROWS = 4_000;

/** Made-up banks: the same effects everywhere, each with a population and a base rate of its own. */
function bank(seed: number): SiteData {
  const { sizes } = layoutOf(contract);
  const random = seededRandom(seed);
  const uniform = () => random.nextUint32() / 2 ** 32;
  const tilt = sizes.map(() => 0.7 + 0.6 * uniform());
  const make = (rows: number): BinnedData => {
    const bins = new Uint16Array(rows * sizes.length);
    const labels = new Uint8Array(rows);
    for (let row = 0; row < rows; row++) {
      let logit = -3;
      sizes.forEach((size, k) => {
        const place = uniform() ** tilt[k];
        bins[row * sizes.length + k] = Math.min(size - 1, Math.floor(place * size));
        if (k < 4) logit += 1.5 * (place - 0.5);
      });
      labels[row] = uniform() < 1 / (1 + Math.exp(-logit)) ? 1 : 0;
    }
    return { rows, sizes, bins, labels };
  };
  return { training: make(ROWS), holdout: make(ROWS / 4) };
}

function planOf(changes: Partial<TrainingPlan> = {}): TrainingPlan {
  const defaults = defaultPlan({
    ...{ contract, epsilon: 1, delta: 1e-6, sites: SITES, quorum: 2, expectedRows: SITES * ROWS },
    evaluation: { holdout: 0.2, share: 0.2, bins: 64 },
  });
  return parsePlan({ ...defaults, rounds: 8, ...changes });
}

type Tamper = (site: string, round: number, values: Float64Array) => Float64Array;
const honest: Tamper = (_site, _round, values) => values;

/** All rounds of a plan as the aggregator sees them. */
function train(banks: ReadonlyMap<string, SiteData>, plan: TrainingPlan, seed: number, tamper: Tamper) {
  const course = courseFor(parsePlan({ ...plan, quorum: Math.min(plan.quorum, banks.size) }), contract);
  const release = openSiteReleases(plan, contract);
  const rounds: RoundOfPlan[] = [];
  let state = course.firstState();
  for (let round = 0; round <= course.lastRound; round++) {
    const weights = course.weights(round, state);
    const messages = new Map(
      [...banks].map(([site, data]): [string, Float64Array] => {
        const random = seededRandom(seed * 1_000 + Number(site.slice(5)) * 100 + round);
        return [site, tamper(site, round, release(data, round, weights, random))];
      }),
    );
    rounds.push({ round, contributors: [...messages.keys()], messages });
    if (round === course.evaluation) break;
    const counts = round === 0 ? null : sumOf([...rounds[0].messages!.values()]);
    state = course.nextState(state, round, sumOf([...messages.values()]), counts, banks.size);
  }
  return { rounds, model: course.finish(state) };
}

function reportOf(plan: TrainingPlan, { rounds, model }: ReturnType<typeof train>): InfluenceReport {
  const hashes = { planHash: '0'.repeat(64), modelHash: '1'.repeat(64) };
  const { sites, of, report } = openInfluence({ plan, contract, ...hashes, intercept: model.intercept, rounds });
  return report(sites.map(of));
}

const suspected = ({ sites }: InfluenceReport) =>
  Object.fromEntries(
    sites.filter(({ suspicion }) => suspicion?.suspected.length).map((each) => [each.site, each.suspicion!.suspected]),
  );

let banks: Map<string, SiteData>;
beforeAll(() => {
  banks = new Map(Array.from({ length: SITES }, (_, i) => [`bank-${i}`, bank(i + 1)]));
});

describe('a poisoned site at epsilon 1', () => {
  const plan = planOf();
  const run = (tamper: Tamper) => reportOf(plan, train(banks, plan, 1, tamper));
  const from =
    (first: number, change: (values: Float64Array) => Float64Array): Tamper =>
    (site, round, values) =>
      site === 'bank-2' && round >= first && round <= plan.rounds ? change(values) : values;

  test('is not suspected when it is honest', () => {
    const report = run(honest);
    expect(suspected(report)).toEqual({});
    expect(report.sites.map(({ records }) => records!).reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
  });

  test('that flips the sign of its updates goes another way than all others', () => {
    const report = run(from(1, (values) => values.map((value) => -value)));
    expect(suspected(report)).toEqual({ 'bank-2': ['direction'] });
    const first = report.sites.map(({ site, updates }) => ({ site, ...updates[0] }));
    expect(first.find(({ site }) => site === 'bank-2')!.cosine).toBeLessThan(-0.5);
    for (const { site, cosine, z } of first.filter((each) => each.site !== 'bank-2')) {
      expect([site, cosine > 0.5]).toEqual([site, true]);
      expect(z!).toBeLessThan(first.find((each) => each.site === 'bank-2')!.z!);
    }
  });

  test('that boosts its updates sends more than its own counts could cause', () => {
    const report = run(from(1, (values) => values.map((value) => 10 * value)));
    expect(suspected(report)['bank-2']).toEqual(expect.arrayContaining(['range', 'direction']));
    expect(Object.keys(suspected(report))).toEqual(['bank-2']);
    expect(report.sites.find(({ site }) => site === 'bank-2')!.updates[0].share).toBeGreaterThan(0.5);
  });

  test('that pushes one bin alone has fields that disagree', () => {
    const unit = scalesOf(plan, shapeOf(contract)).gradientUnit;
    const report = run(from(3, (values) => values.map((value, at) => (at === 7 ? value + 1_000 * unit : value))));
    expect(suspected(report)['bank-2']).toContain('fields');
    expect(Object.keys(suspected(report))).toEqual(['bank-2']);
  });

  test('that leaves as large a mark on the model is told by the model without it', () => {
    const report = run(from(1, (values) => values.map((value) => -3 * value)));
    const shifts = report.sites.map(({ site, withoutIt }) => [site, withoutIt!.logitShift] as const);
    const [most] = shifts.toSorted((a, b) => b[1] - a[1]);
    expect(most[0]).toBe('bank-2');
  });
});

describe('honest banks', () => {
  test('are suspected in at most one plan of a hundred', () => {
    const plan = planOf({ rounds: 3, evaluation: null });
    const scales = scalesOf(plan, shapeOf(contract));
    const plans = 60;
    let alarms = 0;
    for (let seed = 1; seed <= plans; seed++) {
      const [counts, ...gradients] = train(banks, plan, seed, honest).rounds.map(({ messages }) => messages!);
      const found = suspicions(counts, gradients, scales);
      if ([...found.values()].some((each) => each.suspected.length > 0)) alarms++;
    }
    // Seeded. At a rate of .01 more than 5 of 60 have probability below 1e-4.
    expect(FALSE_ALARMS).toBe(0.01);
    expect(alarms).toBeLessThanOrEqual(5);
  });

  test('that are few are not compared with each other', () => {
    const three = new Map([...banks].slice(0, 3));
    const plan = planOf({ sites: 3 });
    const report = reportOf(plan, train(three, plan, 1, honest));
    for (const { suspicion } of report.sites) expect(suspicion!.tails.direction).toBeNull();
  });
});

describe('the model without a site', () => {
  test('moves about as far as training without it does', () => {
    // Without much noise, so that what is compared is the estimate and not two draws.
    const plan = planOf({ epsilon: 20, evaluation: null, rounds: 20 });
    const odd = new Map(banks);
    const other = bank(77).training;
    // A bank whose fraud is of another kind: a third of the records with a certain value are fraudulent.
    const isOdd = (row: number) => other.bins[row * other.sizes.length + 6] < 2 && row % 4 === 0;
    const labels = other.labels.map((label, row) => (isOdd(row) ? 1 : label));
    odd.set('bank-5', { training: { ...other, labels }, holdout: other });
    const all = train(odd, plan, 2, honest);
    const report = reportOf(plan, all);
    for (const site of ['bank-0', 'bank-5']) {
      const rest = new Map([...odd].filter(([name]) => name !== site));
      const retrained = train(rest, plan, 2, honest);
      // Safe: the documents of scorecard plans are additive models.
      const [before, after] = [all, retrained].map(({ model }) => logitsOf(other, model.document as AdditiveModel));
      const truth = Math.sqrt(after.reduce((sum, logit, row) => sum + (logit - before[row]) ** 2, 0) / after.length);
      const estimated = report.sites.find((each) => each.site === site)!.withoutIt!.logitShift;
      expect([site, estimated / truth > 0.5, estimated / truth < 2]).toEqual([site, true, true]);
    }
    const shift = (site: string) => report.sites.find((each) => each.site === site)!.withoutIt!.logitShift;
    expect(shift('bank-5')).toBeGreaterThan(1.5 * shift('bank-0'));
  });

  test('is evaluated on the held-out customers of all others', () => {
    const plan = planOf({ epsilon: 4 });
    const run = train(banks, plan, 3, honest);
    const report = reportOf(plan, run);
    const { evaluationWithoutIt } = report.sites[0];
    expect(evaluationWithoutIt!.auc!.low).toBeLessThan(evaluationWithoutIt!.auc!.estimate);
    expect(evaluationWithoutIt!.auc!.estimate).toBeGreaterThan(0.6);
    // Another site's hold-out makes another figure.
    expect(report.sites[1].evaluationWithoutIt).not.toEqual(evaluationWithoutIt);
  });
});

test('sums under masks tell nothing of a single site, and the report says so', () => {
  const plan = planOf({ mode: 'sum', quorum: SITES, threshold: 5, ringBits: 32, ringShift: 0, evaluation: null });
  const contributors = [...banks.keys()];
  const rounds = Array.from({ length: plan.rounds + 1 }, (_, round) => ({ round, contributors, messages: null }));
  const hashes = { planHash: '0'.repeat(64), modelHash: '1'.repeat(64) };
  const { sites, of, report } = openInfluence({ plan, contract, ...hashes, intercept: 0, rounds });
  const { notes, sites: told } = report(sites.map(of));
  expect(notes[0]).toMatch(/summed under masks/);
  for (const each of told) {
    expect(each).toEqual({
      ...{ site: each.site, rounds: plan.rounds + 1, records: null, suspicion: null, updates: [] },
      ...{ withoutIt: null, evaluationWithoutIt: null },
    });
  }
});

describe('tails', () => {
  test.each([
    // R: pt(t, df, lower.tail = FALSE).
    [1, 1, 0.25],
    [2, 2, 0.0917517],
    [3, 3, 0.02883444],
    [5, 4, 0.003744791],
    [6, 9, 0.0001010902],
    [-1, 1, 0.75],
  ])('of t %d with %d degrees of freedom', (t, degrees, tail) => {
    expect(studentTail(t, degrees)).toBeCloseTo(tail, 6);
  });

  test.each([
    // Tables: 11.070 and 20.515 for 5, 18.307 for 10, 124.342 for 100 degrees of freedom.
    [11.0705, 5, 0.05],
    [20.515, 5, 0.001],
    [18.307, 10, 0.05],
    [124.342, 100, 0.05],
  ])('of chi-square %d with %d degrees of freedom', (x, degrees, tail) => {
    expect(Math.abs(chiSquareTail(x, degrees) / tail - 1)).toBeLessThan(0.12);
  });
});
