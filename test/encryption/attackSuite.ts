/**
 * The attacks as tests, run against whatever `open` opens: first a service that leaves out the protection, where the
 * attack must return the secret, then the real one, where the same code must not.
 */
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { LinearModel } from '../../src/encryption/model.ts';
import { floodMarginBits, LOGIT_ERROR_CONTRACT, productBits } from '../../src/encryption/presets.ts';
import {
  type Attacker,
  confirmGuess,
  quotientOfC1,
  repeated,
  type Service,
  smuggledColumns,
  symmetricMask,
  zeroWeight,
} from './attacker.ts';
import type { Stripped } from './strippedScorer.ts';

export interface Scene {
  readonly attacker: Attacker;
  /** What the attacker wants. Weights are multiples of 2^-16 and some of them zero, one is at least 2. */
  readonly model: LinearModel;
  readonly real: Service;
  stripped(how: Stripped): Promise<Service>;
}

export function attackSuite(open: () => Promise<Scene>): void {
  let scene: Scene;
  let attacker: Attacker;
  let weights: number[];
  const furthest = (stolen: readonly number[]) =>
    stolen.reduce((most, weight, j) => Math.max(most, Math.abs(weight - weights[j])), 0);

  beforeAll(async () => {
    scene = await open();
    attacker = scene.attacker;
    weights = Array.from(scene.model.weights);
  }, 60_000);

  describe('quotient of c1', () => {
    test('returns every weight of a service that only multiplies', async () => {
      expect(await quotientOfC1(attacker, await scene.stripped('only multiplies'))).toEqual(weights);
    });

    test('returns noise from the real one', async () => {
      const stolen = await quotientOfC1(attacker, scene.real);
      // Residues of 45 bits: one lands within the range of weights by chance with 2^-24.
      expect(stolen.filter((weight) => Math.abs(weight) <= 8)).toEqual([]);
    });

    test('tells the true weights from a guess when a service rescales but does not re-randomise', async () => {
      const service = await scene.stripped('does not re-randomise');
      expect(await confirmGuess(attacker, service, guesses())).toEqual([0, 1, 0]);
    });

    test('does not even confirm the true weights on the real one', async () => {
      expect(await confirmGuess(attacker, scene.real, guesses())).toEqual([0, 0, 0]);
    });

    function guesses(): LinearModel[] {
      const { model } = scene;
      const off = (by: number) => ({ ...model, weights: model.weights.map((w, j) => (j === 3 ? w + by : w)) });
      return [off(2 ** -10), model, off(-(2 ** -10))];
    }
  });

  describe('imaginary part', () => {
    test('returns every weight of a service that masks in real slots', async () => {
      // The estimator's deviation is below 1e-4: rounding to one prime and 2,047 equations.
      expect(furthest(await symmetricMask(attacker, await scene.stripped('masks in real slots')))).toBeLessThan(1e-2);
    });

    test('misses them on the real one', async () => {
      // On this scale estimates have deviation 0.2 around zero, whatever the weights are; the largest weight is 2 or more.
      expect(furthest(await symmetricMask(attacker, scene.real))).toBeGreaterThan(0.5);
    });
  });

  describe('zero weights', () => {
    test('a service that refuses zero products names the first of them', async () => {
      expect(await zeroWeight(attacker, await scene.stripped('refuses zero products'))).toBe(weights.indexOf(0));
    });

    test('the real one answers', async () => {
      expect(await zeroWeight(attacker, scene.real)).toBeNull();
    });
  });

  describe('the same frame again', () => {
    test('a service that uses one zero for all replies sends c1 twice', async () => {
      const service = await scene.stripped('uses one zero for all replies');
      expect(await repeated(attacker, service, 2, 1)).toMatchObject({ equal: 1, close: 1 });
    });

    test('eight replies of the real one differ by fresh ring-LWE samples, on whatever thread they were made', async () => {
      const { preset } = attacker.runtime;
      const transactions = 64;
      const { logits, equal, close } = await repeated(attacker, scene.real, 8, transactions);
      expect(equal).toBeLessThan(0.002);
      // By chance 2^-14 of the coefficients are that close; nine of 4,096 instead of a quarter of one: 1e-11 a pair.
      expect(close).toBeLessThan(0.002);
      const truth = scene.model.intercept + weights[0];
      const flood = 2 ** (preset.floodBits - productBits(preset));
      const spread = (rows: readonly Float64Array[]) => {
        const means = logits[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length - truth);
        return Math.sqrt(means.reduce((sum, x) => sum + x * x, 0) / transactions) / flood;
      };
      // Ratio to the flood's deviation within six deviations of the estimator, 1 / sqrt(2 n): false alarm below 2e-9.
      const slack = 6 / Math.sqrt(2 * transactions);
      for (const row of logits) {
        expect(Math.abs(spread([row]) - 1)).toBeLessThan(slack);
        for (const logit of row) expect(Math.abs(logit - truth)).toBeLessThan(LOGIT_ERROR_CONTRACT);
      }
      // Averaging all eight is worth a factor sqrt(8) and no more.
      expect(Math.abs(spread(logits) * Math.sqrt(8) - 1)).toBeLessThan(slack);
      for (const dimension of [1, 30, 350, preset.degree]) {
        expect(floodMarginBits(preset, dimension) - Math.log2(8) / 2).toBeGreaterThan(36);
      }
    });
  });

  describe('more transactions than the header says', () => {
    test('a service that does not cut scores a whole column for one', async () => {
      const { degree } = attacker.runtime.preset;
      expect(await smuggledColumns(attacker, await scene.stripped('does not cut'))).toBe(degree);
    });

    test('the real one answers one', async () => {
      expect(await smuggledColumns(attacker, scene.real)).toBe(1);
    });
  });
}
