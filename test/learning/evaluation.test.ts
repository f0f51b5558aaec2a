/** AUC and KS against their definitions, and the score scaling. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { auc, ks } from '../../src/learning/evaluation.ts';
import { calibratedLogit, learntLogit, probabilityOf, scoreOf } from '../../src/learning/score.ts';

const samples = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 1 })), { minLength: 2, maxLength: 40 })
  .filter((rows) => rows.some(([, y]) => y === 1) && rows.some(([, y]) => y === 0));

describe('ranking quality', () => {
  test('AUC is the share of pairs in order, ties half', () => {
    fc.assert(
      fc.property(samples, (rows) => {
        let wins = 0;
        let pairs = 0;
        for (const [s, y] of rows) {
          for (const [t, z] of rows) {
            if (y !== 1 || z !== 0) continue;
            pairs++;
            wins += s > t ? 1 : s === t ? 0.5 : 0;
          }
        }
        expect(
          auc(
            rows.map(([s]) => s),
            rows.map(([, y]) => y),
          ),
        ).toBeCloseTo(wins / pairs, 12);
      }),
      { seed: 1 },
    );
  });

  test('KS is the largest gap of the distribution functions', () => {
    fc.assert(
      fc.property(samples, (rows) => {
        const share = (label: number, limit: number) => {
          const own = rows.filter(([, y]) => y === label);
          return own.filter(([s]) => s <= limit).length / own.length;
        };
        const gaps = rows.map(([s]) => Math.abs(share(1, s) - share(0, s)));
        expect(
          ks(
            rows.map(([s]) => s),
            rows.map(([, y]) => y),
          ),
        ).toBeCloseTo(Math.max(...gaps), 12);
      }),
      { seed: 1 },
    );
  });

  test('one class, a NaN or a missing label is refused', () => {
    for (const [scores, labels] of [
      [
        [1, 2],
        [1, 1],
      ],
      [
        [1, Number.NaN],
        [0, 1],
      ],
      [[1, 2], [0]],
    ]) {
      expect(() => auc(scores, labels)).toThrow(expect.objectContaining({ code: 'TRAINING_INPUT' }));
    }
  });
});

describe('score', () => {
  const scaling = { anchorLogit: -1.5, anchorScore: 500, pointsToDouble: 50 };

  test('500 at the anchor, 50 more per doubling of the odds, clamped to 0..1000', () => {
    expect(scoreOf(scaling, -1.5)).toBe(500);
    expect(scoreOf(scaling, -1.5 + Math.LN2)).toBe(550);
    expect(scoreOf(scaling, -1.5 - 2 * Math.LN2)).toBe(400);
    expect(scoreOf(scaling, 1e5)).toBe(1000);
    expect(scoreOf(scaling, -1e5)).toBe(0);
  });

  test('probability is the logistic function, also far out', () => {
    expect(probabilityOf(0)).toBe(0.5);
    expect(probabilityOf(-800)).toBe(0);
    expect(probabilityOf(800)).toBe(1);
    expect(probabilityOf(2) + probabilityOf(-2)).toBeCloseTo(1, 15);
    expect(probabilityOf(-30)).toBeCloseTo(Math.exp(-30), 25);
  });

  test('clipped residuals have a link of their own: increasing, symmetric, and the optimum of the clipped loss', () => {
    fc.assert(
      fc.property(
        fc.double({ min: -15, max: 15, noNaN: true }),
        fc.double({ min: 0.5, max: 1, noNaN: true }),
        (z, c) => {
          const p = probabilityOf(z);
          const q = probabilityOf(z, c);
          // Expected clipped residual at the true probability q is 0.
          expect(q * Math.min(c, 1 - p) - (1 - q) * Math.min(c, p)).toBeCloseTo(0, 12);
          expect(calibratedLogit(-z, c)).toBeCloseTo(-calibratedLogit(z, c), 10);
          expect(calibratedLogit(z + 0.01, c)).toBeGreaterThan(calibratedLogit(z, c));
          expect(calibratedLogit(z, 1)).toBe(z);
          expect(learntLogit(q, c)).toBeCloseTo(z, 5);
        },
      ),
    );
  });

  test('a logit that is no number has no score', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => scoreOf(scaling, bad)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
      expect(() => probabilityOf(bad)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
    }
  });
});
