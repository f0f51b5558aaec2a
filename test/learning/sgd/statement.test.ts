/** What a DP-SGD training is said to cost: within the promise, monotone, and above the truth for m records. */
import { describe, expect, test } from '@jest/globals';
import { parseSgd } from '../../../src/learning/sgd/settings.ts';
import { customerRate, sgdStatement, stepsOf } from '../../../src/learning/sgd/statement.ts';
import { composedDelta } from '../../../src/privacy/accountant.ts';
import { approximately } from '../../../src/privacy/rational.ts';
import { settingsOf } from './cases.ts';

describe.each([
  { epsilon: 0.5, batch: 1000, epochs: 50 },
  { epsilon: 1, batch: 50, epochs: 2 },
])('epsilon $epsilon, batch $batch of 1000, $epochs epochs', (change) => {
  const settings = settingsOf(change);
  const statement = sgdStatement(settings);

  test('the stated epsilon is at most the one asked for, and close to it', () => {
    expect(statement.epsilon).toBeLessThanOrEqual(settings.epsilon);
    expect(statement.epsilon).toBeGreaterThan(0.99 * settings.epsilon);
    expect(statement.steps).toBe((change.epochs * 1000) / change.batch);
    expect(statement.losses.aggregator.epsilon).toBe(statement.epsilon);
  });

  test('the noise is the multiplier times the sensitivity, and 4 units of variance more', () => {
    const wanted = statement.noiseMultiplier * statement.sensitivity;
    expect(statement.sensitivity).toBe(2 ** 16);
    expect(approximately(statement.sigmaSquared)).toBeGreaterThanOrEqual(wanted ** 2 + 4);
    expect(approximately(statement.sigma)).toBeLessThan(wanted * 1.001 + 1);
  });

  test('more records per customer cost more noise', () => {
    const three = sgdStatement({ ...settings, maxRecordsPerSubject: 3 });
    expect(three.sensitivity).toBe(3 * 2 ** 16);
    expect(three.customerRate).toBeGreaterThanOrEqual(1 - (1 - three.samplingRate) ** 3);
    expect(three.noiseMultiplier).toBeGreaterThanOrEqual(statement.noiseMultiplier);
    expect(three.epsilon).toBeLessThanOrEqual(settings.epsilon);
  });
});

test('mode sum shares the noise among the banks that are honest and there', () => {
  const site = sgdStatement(settingsOf({ sites: 5, mode: 'site' }));
  const sum = sgdStatement(settingsOf({ sites: 5, mode: 'sum', colluders: 1, dropouts: 1 }));
  expect(approximately(sum.sigma) / approximately(site.sigma)).toBeCloseTo(1 / Math.sqrt(3), 6);
  expect(sum.epsilon).toBe(site.epsilon);
  // Readers of the model face 5 banks' noise in mode site; in mode sum 4 of which 3 were charged for.
  expect(site.losses.readers.epsilon).toBeLessThan(sum.losses.readers.epsilon);
  expect(sum.losses.readers.epsilon).toBeLessThan(sum.epsilon);
  expect(sum.text.join(' ')).toContain('the aggregator together with 1 colluding bank');
});

test('settings that promise what is not kept are refused', () => {
  for (const wrong of [
    { batch: 2000 },
    { hidden: [4] },
    { colluders: 1 },
    { sites: 2, mode: 'sum', colluders: 1, dropouts: 1 },
    { epsilon: 0 },
    { clippingNorm: 0 },
    { unknown: 1 },
  ]) {
    expect(() => parseSgd({ ...settingsOf(), ...wrong })).toThrow(expect.objectContaining({ code: 'TRAINING_INPUT' }));
  }
  // More noise than the sampler draws.
  const heavy = settingsOf({ epsilon: 0.01, maxRecordsPerSubject: 1000, epochs: 10_000 });
  expect(() => sgdStatement(heavy)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
});

test('steps follow from epochs and rate; the rate of a customer is that of any of m coins', () => {
  expect(stepsOf({ epochs: 10, rows: 100_000, batch: 1000 })).toBe(1000);
  expect(stepsOf({ epochs: 0.01, rows: 1000, batch: 1000 })).toBe(1);
  expect(customerRate(0.25, 1)).toBe(0.25);
  expect(customerRate(1, 7)).toBe(1);
  expect(customerRate(0.25, 3)).toBeGreaterThanOrEqual(1 - 0.75 ** 3);
  expect(customerRate(0.25, 3)).toBeLessThan(1 - 0.75 ** 3 + 1e-9);
  expect(customerRate(1 - 2 ** -32, 1000)).toBe(1);
});

describe('a customer of m records, one step, by quadrature', () => {
  const rate = 0.2;
  const m = 3;
  const sigma = 2.4;
  const density = (x: number, mean: number) =>
    Math.exp(-((x - mean) ** 2) / (2 * sigma ** 2)) / sigma / Math.sqrt(2 * Math.PI);
  /** delta of the mixture over how many records are drawn against none, the worse of both directions. */
  function delta(epsilon: number, weights: number[], shift: number): number {
    let [removed, added] = [0, 0];
    const h = 0.02;
    for (let x = -30; x <= 40; x += h) {
      const without = density(x, 0);
      const mixed = weights.reduce((sum, weight, j) => sum + weight * density(x, j * shift), 0);
      removed += h * Math.max(0, mixed - Math.exp(epsilon) * without);
      added += h * Math.max(0, without - Math.exp(epsilon) * mixed);
    }
    return Math.max(removed, added);
  }
  const binomial = [0, 1, 2, 3].map((j) => [1, 3, 3, 1][j] * rate ** j * (1 - rate) ** (m - j));

  test.each([0.1, 0.7])('epsilon %p: the charge is above the truth', (epsilon) => {
    const truth = delta(epsilon, binomial, 1);
    const event = {
      kind: 'subsampledGaussian',
      noiseMultiplier: sigma / m,
      samplingRate: customerRate(rate, m),
      times: 1,
    } as const;
    expect(composedDelta([event], epsilon)).toBeGreaterThanOrEqual(truth);
    // The charged pair itself, by the same quadrature: all m records or none.
    const q = customerRate(rate, m);
    expect(delta(epsilon, [1 - q, 0, 0, q], 1)).toBeGreaterThanOrEqual(truth);
  });

  test('attack: the sensitivity of one record, even at the rate of m, would be below the truth', () => {
    expect(delta(0.1, [1 - rate, rate], 1)).toBeLessThan(delta(0.1, binomial, 1));
    expect(delta(0.1, [1 - customerRate(rate, m), customerRate(rate, m)], 1)).toBeLessThan(delta(0.1, binomial, 1));
  });
});
