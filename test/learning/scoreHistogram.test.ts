/** The score histogram: its cells, its grid on real data, and what one customer can change. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { auc } from '../../src/learning/evaluation.ts';
import { defaultPlan } from '../../src/learning/plan.ts';
import { estimate } from '../../src/learning/scoreEstimate.ts';
import { SCORE_BINS, SCORE_CELLS, scoreEdges, scoreHistogram } from '../../src/learning/scoreHistogram.ts';
import { addNoise, logitsOf } from '../../src/learning/site.ts';
import { trainPrivate } from '../../src/learning/train.ts';
import { type PublicName, publicData, seededRandom, splitRows } from '../support/publicData.ts';

const centre = { intercept: -2 };
const edges = scoreEdges(centre);
const logit = fc.oneof(
  fc.double({ min: -20, max: 20, noNaN: true }),
  fc.constantFrom(...edges, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY),
);
const records = fc.array(fc.record({ logit, label: fc.constantFrom(0, 1) }), { maxLength: 200 });

type Labelled = readonly { logit: number; label: number }[];
const histogramOf = (data: Labelled) =>
  scoreHistogram(
    Float64Array.from(data, (record) => record.logit),
    data.map((record) => record.label),
    edges,
  );

test('counts each record in the one cell of its label and bin', () => {
  fc.assert(
    fc.property(records, (data) => {
      const expected = new Float64Array(SCORE_CELLS);
      for (const { logit, label } of data) {
        expected[label * SCORE_BINS + edges.filter((edge) => logit >= edge).length]++;
      }
      expect(histogramOf(data)).toEqual(expected);
    }),
  );
});

test('the grid is ascending, public, and moves with the intercept', () => {
  expect(edges).toHaveLength(SCORE_BINS - 1);
  expect(edges.every((edge, i) => i === 0 || edge > edges[i - 1])).toBe(true);
  const moved = scoreEdges({ intercept: 1 });
  for (let i = 0; i < moved.length; i++) expect(moved[i] - edges[i]).toBeCloseTo(3, 12);
});

test('scores that are not numbers, other labels and wrong sizes are refused', () => {
  const refused = expect.objectContaining({ code: 'TRAINING_INPUT' });
  expect(() => scoreHistogram(Float64Array.of(Number.NaN), [1], edges)).toThrow(refused);
  expect(() => scoreHistogram(Float64Array.of(0), [2], edges)).toThrow(refused);
  expect(() => scoreHistogram(Float64Array.of(0), [], edges)).toThrow(refused);
  expect(() => scoreHistogram(Float64Array.of(0), [1], edges.slice(1))).toThrow(refused);
  expect(() => scoreEdges({ intercept: Number.NaN })).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
});

describe('a customer of m records', () => {
  /** Square of the L2 distance between what is noised with and without a customer, same randomness. */
  function moved(release: typeof histogramOf, others: Labelled, customer: Labelled): number {
    const noisy = (data: Labelled) => addNoise(release(data), { num: 100n, den: 1n }, seededRandom(1));
    const without = noisy(others);
    return noisy([...others, ...customer]).reduce((sum, cell, i) => sum + (cell - without[i]) ** 2, 0);
  }
  const customer = (m: number) => fc.array(fc.record({ logit, label: fc.constantFrom(0, 1) }), { maxLength: m });
  const withM = fc.integer({ min: 1, max: 5 }).chain((m) => fc.tuple(fc.constant(m), customer(m)));

  test('moves what is noised by at most m in L2', () => {
    fc.assert(
      fc.property(records, withM, (others, [m, own]) => {
        expect(moved(histogramOf, others, own)).toBeLessThanOrEqual(m * m);
      }),
    );
    // The bound is met: all m records in one cell.
    const one = { logit: 0, label: 1 };
    expect(moved(histogramOf, [], [one, one, one])).toBe(9);
  });

  test('moves a histogram that counts each record in both labels by more, and this test sees it', () => {
    const broken = (data: Labelled) => histogramOf(data.flatMap((record) => [record, { ...record, label: 0 }]));
    const property = fc.property(records, withM, (others, [m, own]) => moved(broken, others, own) <= m * m);
    expect(fc.check(property, { seed: 1 }).failed).toBe(true);
  });
});

describe.each<PublicName>(['adult', 'taiwan', 'telco', 'ulb'])('on %s', (name) => {
  test('the AUC of the histogram is within .001 of that of the scores', () => {
    const source = publicData(name);
    if (source === null) {
      process.stdout.write(`skipped: the shared data is not there (${name})\n`);
      return;
    }
    const { train, test } = splitRows(source.data, 1);
    const { contract } = source;
    const facts = { contract, epsilon: 4, delta: 1e-6, sites: 1, quorum: 1, expectedRows: train.rows };
    const model = trainPrivate(train, { ...defaultPlan(facts), rounds: 20 }, contract, seededRandom(2));
    const logits = logitsOf(test, model);
    const histogram = scoreHistogram(logits, test.labels, scoreEdges(model));
    const { intercept } = model;
    const { auc: measured } = estimate(histogram, {
      noiseVariance: 0,
      intercept,
      residualBound: 1,
      maxRecordsPerSubject: 1,
    });
    expect(Math.abs(measured!.estimate - auc(logits, test.labels))).toBeLessThan(0.001);
  });
});
