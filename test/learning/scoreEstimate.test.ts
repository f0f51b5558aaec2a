/**
 * Estimates and intervals from score histograms: exact without noise, and covering the truth with it.
 *
 * Coverage: 500 populations a case are drawn and noised. If an interval of 95 % holds its promise, misses are binomial
 * (500, at most .05), and more than 49 of them have a probability of 4e-6 a measure, 1e-4 for all of them. Seeds are fixed,
 * so that the test is a constant of the code. Intervals that ignore the noise fail it.
 */
import { describe, expect, test } from '@jest/globals';
import { auc, ks } from '../../src/learning/evaluation.ts';
import type { Measure } from '../../src/learning/ratioInterval.ts';
import { estimate, type ScoreEstimates } from '../../src/learning/scoreEstimate.ts';
import { SCORE_BINS, SCORE_CELLS, scoreEdges, scoreHistogram } from '../../src/learning/scoreHistogram.ts';
import { addNoise } from '../../src/learning/site.ts';
import type { RandomSource } from '../../src/random.ts';
import { seededRandom } from '../support/publicData.ts';

const REPETITIONS = 500;
const MOST_MISSES = 49;

/** Scores are normal about the intercept; the label is 1 with the logistic of intercept + level + slope * distance. */
interface Population {
  name: string;
  intercept: number;
  spread: number;
  level: number;
  slope: number;
  records: number;
  sigma: number;
  /** Every customer has so many records, all alike; 1 if left out. */
  together?: number;
}

const POPULATIONS: Population[] = [
  { name: 'a common event', intercept: -1.2, spread: 1.5, level: 0, slope: 1, records: 4000, sigma: 5 },
  { name: 'a rare event', intercept: -4, spread: 1.8, level: 0, slope: 1, records: 10_000, sigma: 5 },
  { name: 'a model too sure of itself', intercept: -2, spread: 1.5, level: 0.4, slope: 0.7, records: 6000, sigma: 12 },
  { name: 'noise as large as the data', intercept: -2.5, spread: 1.5, level: 0, slope: 1, records: 3000, sigma: 30 },
  {
    name: 'customers of three like records',
    intercept: -2,
    spread: 1.5,
    level: 0,
    slope: 1,
    records: 6000,
    sigma: 9,
    together: 3,
  },
  { name: 'no noise', intercept: -2, spread: 1, level: 0, slope: 1, records: 3000, sigma: 0 },
];

const STEPS = 8000;
const WIDTH = 12;

/** Probability of each of 128 cells, and the measures of the whole population, by fine quadrature. */
function truthOf({ intercept, spread, level, slope }: Population) {
  const cells = new Float64Array(SCORE_CELLS);
  const edges = scoreEdges({ intercept });
  const [positive, negative] = [new Float64Array(STEPS), new Float64Array(STEPS)];
  let expected = 0;
  let mass = 0;
  for (let i = 0; i < STEPS; i++) {
    const distance = ((i + 0.5) / STEPS - 0.5) * WIDTH;
    const weight = Math.exp(-((distance / spread) ** 2) / 2);
    const probability = 1 / (1 + Math.exp(-(intercept + level + slope * distance)));
    positive[i] = weight * probability;
    negative[i] = weight * (1 - probability);
    expected += weight / (1 + Math.exp(-(intercept + distance)));
    mass += weight;
    let bin = 0;
    while (bin < edges.length && intercept + distance >= edges[bin]) bin++;
    cells[bin] += negative[i];
    cells[SCORE_BINS + bin] += positive[i];
  }
  const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);
  const [positives, negatives] = [sum(positive), sum(negative)];
  let [wins, below, seen, largest] = [0, 0, 0, 0];
  for (let i = 0; i < STEPS; i++) {
    wins += positive[i] * (below + negative[i] / 2);
    below += negative[i];
    seen += positive[i];
    largest = Math.max(largest, below / negatives - seen / positives);
  }
  const truth = {
    baseRate: positives / mass,
    auc: wins / (positives * negatives),
    ks: largest,
    inTheLarge: positives / expected,
    slope,
  };
  return { cells: cells.map((cell) => cell / mass), truth };
}

/** So many records dealt to cells of the given probabilities. */
function deal(cells: Float64Array, records: number, together: number, random: RandomSource): Float64Array {
  const cumulative = Array.from(cells);
  for (let i = 1; i < cumulative.length; i++) cumulative[i] += cumulative[i - 1];
  const dealt = new Float64Array(SCORE_CELLS);
  for (let record = 0; record < records; record += together) {
    const at = (random.nextUint32() + 0.5) / 2 ** 32;
    let [low, high] = [0, SCORE_CELLS - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle] > at) high = middle;
      else low = middle + 1;
    }
    dealt[low] += together;
  }
  return dealt;
}

const MEASURES = ['baseRate', 'auc', 'ks', 'inTheLarge', 'slope'] as const;
type Name = (typeof MEASURES)[number];
const measureOf = (found: ScoreEstimates, name: Name): Measure =>
  name === 'inTheLarge' || name === 'slope' ? found.calibration[name] : found[name];

/** How often an interval leaves the truth out; one that is null leaves nothing out. */
function missesOf(population: Population, seed: number, believedSigma = population.sigma) {
  const { cells, truth } = truthOf(population);
  const random = seededRandom(seed);
  const { intercept, records, sigma, together: maxRecordsPerSubject = 1 } = population;
  const misses = { baseRate: 0, auc: 0, ks: 0, inTheLarge: 0, slope: 0 };
  const known = { ...misses };
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    const dealt = deal(cells, records, maxRecordsPerSubject, random);
    const noisy = sigma === 0 ? dealt : addNoise(dealt, { num: BigInt(sigma ** 2), den: 1n }, random);
    const found = estimate(noisy, {
      noiseVariance: believedSigma ** 2,
      intercept,
      residualBound: 1,
      maxRecordsPerSubject,
    });
    for (const name of MEASURES) {
      const measure = measureOf(found, name);
      if (measure === null) continue;
      known[name]++;
      expect(measure.low).toBeLessThanOrEqual(measure.estimate);
      expect(measure.estimate).toBeLessThanOrEqual(measure.high);
      if (truth[name] < measure.low || truth[name] > measure.high) misses[name]++;
    }
  }
  return { misses, known };
}

describe('intervals', () => {
  test.each(POPULATIONS)('hold the truth at their rate: $name', (population) => {
    const { misses, known } = missesOf(population, 11);
    for (const name of MEASURES) expect({ name, few: misses[name] <= MOST_MISSES }).toEqual({ name, few: true });
    expect(known.baseRate).toBe(REPETITIONS);
    // They are not empty promises: only where noise is as large as the data do they give up.
    const hidden = population.sigma >= 30;
    if (!hidden) for (const name of MEASURES) expect(known[name]).toBeGreaterThan(0.7 * REPETITIONS);
  });

  test('that ignore the noise do not, and the test sees it', () => {
    const { misses } = missesOf(POPULATIONS[2], 11, 0);
    for (const name of ['auc', 'inTheLarge', 'baseRate'] as const) expect(misses[name]).toBeGreaterThan(MOST_MISSES);
  });
});

describe('without noise', () => {
  const random = seededRandom(3);
  const rows = 5000;
  const logits = Float64Array.from({ length: rows }, () => -2 + (random.nextUint32() / 2 ** 32 - 0.5) * 6);
  const labels = Uint8Array.from(logits, (logit) =>
    random.nextUint32() / 2 ** 32 < 1 / (1 + Math.exp(-logit)) ? 1 : 0,
  );
  const facts = { noiseVariance: 0, intercept: -2, residualBound: 1, maxRecordsPerSubject: 1 };
  const histogram = scoreHistogram(logits, labels, scoreEdges(facts));
  const found = estimate(histogram, facts);

  test('AUC and KS are those of the binned scores', () => {
    const edges = scoreEdges(facts);
    const binned = Array.from(logits, (logit) => edges.filter((edge) => logit >= edge).length);
    expect(found.auc?.estimate).toBeCloseTo(auc(binned, labels), 12);
    expect(found.ks?.high).toBeGreaterThan(ks(binned, labels));
    expect(found.ks?.low).toBeLessThan(ks(binned, labels));
    expect(Math.abs(found.ks!.estimate - ks(binned, labels))).toBeLessThan(0.01);
    expect(found.records).toEqual({ estimate: rows, low: rows, high: rows });
    expect(found.baseRate?.estimate).toBeCloseTo(labels.reduce((sum, label) => sum + label, 0) / rows, 12);
  });

  test('groups hold the predicted and the observed share of each range of scores', () => {
    const { groups } = found.calibration;
    expect(groups).toHaveLength(8);
    groups.forEach((group, i) => {
      expect(group.from).toBeCloseTo(i === 0 ? group.from : groups[i - 1].to, 12);
      if (group.observed === null) return;
      expect(group.predicted).toBeGreaterThanOrEqual(group.from);
      expect(group.predicted).toBeLessThanOrEqual(group.to);
      expect(group.observed.low - 0.02).toBeLessThan(group.predicted);
      expect(group.observed.high + 0.02).toBeGreaterThan(group.predicted);
    });
  });

  test('more records a customer widen the intervals by sqrt(m)', () => {
    const wider = estimate(histogram, { ...facts, maxRecordsPerSubject: 4 });
    const width = (measure: Measure) => measure!.high - measure!.low;
    expect(width(wider.auc) / width(found.auc)).toBeCloseTo(2, 1);
  });
});

test('a histogram of nothing says nothing, and one of a wrong size is refused', () => {
  const facts = { noiseVariance: 100, intercept: -2, residualBound: 1, maxRecordsPerSubject: 1 };
  const { auc, ks, baseRate, calibration } = estimate(new Float64Array(SCORE_CELLS), facts);
  expect([auc, ks, baseRate, calibration.inTheLarge, calibration.slope]).toEqual([null, null, null, null, null]);
  expect(() => estimate(new Float64Array(3), facts)).toThrow(expect.objectContaining({ code: 'TRAINING_INPUT' }));
});
