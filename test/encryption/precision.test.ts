/**
 * The error of a logit: an analytic bound from its parts, the figures of THREATS.md, and a hill climb for the worst case.
 * Measured <= analytic <= contract, per preset and layout.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { type Encryption, openEncryption, type SecretKey, type SparseVector } from '../../src/encryption/encryption.ts';
import {
  LOGIT_ERROR_CONTRACT,
  MAX_ABS_WEIGHT,
  MAX_INPUT_MASS,
  PRESETS,
  type Preset,
  productBits,
  replyScale,
  rowCapacity,
} from '../../src/encryption/presets.ts';
import { modelOf, roundTrip, seededRandom } from './support.ts';

/** Deviations of the flood that the bound leaves room for: exceeded with 2 exp(-12^2 / 2) < 1.1e-31 a logit. */
const TAIL = 12;
/** Largest coefficient of SEAL's error: a centred binomial of 21 coin pairs. */
const LARGEST_ERROR = 21;

/** The parts of the bound, in logits; each is a worst case but the flood, which is its tail. */
function analytic(preset: Preset) {
  const { degree, weightBits, inputBits, floodBits, primes } = preset;
  const product = 2 ** productBits(preset);
  return {
    // Every weight half a unit off, the same way, under all the mass.
    weights: MAX_INPUT_MASS * 2 ** -(weightBits + 1),
    inputs: degree * 2 ** -(inputBits + 1) * MAX_ABS_WEIGHT,
    // The caller's error under the largest weights.
    errors: (LARGEST_ERROR * degree * MAX_ABS_WEIGHT * 2 ** weightBits) / product,
    // u e + e0 + e1 s over the special prime, and its rounding.
    zero: (((2 * degree + 1) * LARGEST_ERROR) / Number(primes[2]) + (1 + degree) / 2) / product,
    flood: (TAIL * 2 ** floodBits) / product,
    // Half a unit of c0 and half a unit of c1 times a ternary secret of N coefficients.
    rescaling: (1 + degree) / 2 / replyScale(preset),
  };
}

describe.each(Object.values(PRESETS))('preset $name', (preset) => {
  const parts = analytic(preset);
  const bound = Object.values(parts).reduce((sum, part) => sum + part, 0);
  const ulp = 2 ** -preset.weightBits;
  let encryption: Encryption;
  let key: SecretKey;

  beforeAll(async () => {
    encryption = await openEncryption(preset.name);
    key = encryption.createKeys();
  });

  test('the bound keeps the contract and is the one that THREATS.md gives', () => {
    expect(bound).toBeLessThan(LOGIT_ERROR_CONTRACT);
    const document = readFileSync(join(import.meta.dirname, '../../src/encryption/THREATS.md'), 'utf8');
    const column = preset.name === 'standard' ? 1 : 2;
    for (const [name, value] of [...Object.entries(parts), ['sum', bound] as const]) {
      const row = document.split('\n').find((line) => line.startsWith(`| ${name} `)) ?? '';
      expect([name, row.split('|')[column + 1]?.trim()]).toEqual([name, value.toExponential(2)]);
    }
  });

  interface Case {
    weights: number[];
    intercept: number;
    /** Values of one transaction by dimension; the same in every place of the layout. */
    values: number[];
  }

  /** Starting points: where rounding, range and mass are at their ends. */
  function seeds(random: ReturnType<typeof seededRandom>): Case[] {
    const half = (weight: number) => Math.min(MAX_ABS_WEIGHT, Math.floor(weight / ulp) * ulp + ulp / 2);
    const spread = Array.from({ length: MAX_INPUT_MASS }, () => 1);
    const sixty = Array.from({ length: 60 }, () => MAX_INPUT_MASS / 60);
    const of = (length: number, weight: (j: number) => number) => Array.from({ length }, (_, j) => weight(j));
    return [
      { weights: [MAX_ABS_WEIGHT - ulp / 2], intercept: 64, values: [MAX_INPUT_MASS] },
      { weights: [-MAX_ABS_WEIGHT + ulp / 2], intercept: -64, values: [MAX_INPUT_MASS] },
      { weights: of(56, () => MAX_ABS_WEIGHT - ulp / 2), intercept: 64, values: spread },
      { weights: of(56, () => -MAX_ABS_WEIGHT + ulp / 2), intercept: -64, values: spread },
      { weights: of(60, () => half(16 * random.unit() - 8)), intercept: -64 + 2 ** -40, values: sixty },
      // A mass of fractions that no power of two divides, and of both signs.
      {
        weights: of(60, (j) => half(j % 2 ? -8 : 7)),
        intercept: Math.PI,
        values: sixty.map((x, j) => (j % 2 ? -x : x)),
      },
      {
        weights: of(preset.degree, () => half(7.9)),
        intercept: 64,
        values: of(preset.degree, () => 56 / preset.degree),
      },
    ];
  }

  test.each(['row', 'column'] as const)('%s: the worst error that a hill climb finds', (layout) => {
    const random = seededRandom(31 + preset.code);
    // The flood is seeded too, so the figures below are those of every run but for SEAL's own errors, 1e-7.
    const scorer = encryption.openScorer(seededRandom(77));
    const measure = ({ weights, intercept, values }: Case): number => {
      const dimension = weights.length;
      const count = layout === 'row' ? 2 * rowCapacity(preset, dimension) : preset.degree;
      const one: SparseVector = values.map((value, j) => [j, value]);
      // Whole columns where one dimension makes them cheap; scoring.test.ts has a full column of 30.
      const most = dimension === 1 ? count : Math.min(count, 512);
      const vectors = Array.from({ length: most }, () => one);
      return roundTrip(encryption, key, scorer, modelOf(weights, intercept), layout, vectors).worst;
    };
    const starts = seeds(random).filter(({ weights }) => layout === 'row' || weights.length <= 60);
    let best = starts[0];
    let worst = 0;
    const consider = (candidate: Case) => {
      const found = measure(candidate);
      if (found > worst) [worst, best] = [found, candidate];
    };
    for (const start of starts) consider(start);
    for (let step = 0; step < 4; step++) consider(mutate(best, random));
    process.stdout.write(
      `worst |logit error| ${preset.name} ${layout}: ${worst.toExponential(2)} of ${bound.toExponential(2)}\n`,
    );
    expect(worst).toBeLessThan(bound);
    // A search that finds less than the rounding of the weights would not have searched.
    expect(worst).toBeGreaterThan(0.95 * parts.weights);
  });

  /** Moves weights to the end of their rounding interval, mass between two dimensions, and the intercept. */
  function mutate({ weights, values }: Case, random: ReturnType<typeof seededRandom>): Case {
    const moved = weights.map((weight) => {
      if (random.unit() < 0.7) return weight;
      const next = Math.floor((16 * random.unit() - 8) / ulp) * ulp + ulp / 2;
      return Math.max(-MAX_ABS_WEIGHT, Math.min(MAX_ABS_WEIGHT - ulp / 2, next));
    });
    const from = Math.floor(random.unit() * values.length);
    const to = Math.floor(random.unit() * values.length);
    const part = from === to ? 0 : values[from] * random.unit();
    const shifted = values.map((value, j) => (j === from ? value - part : j === to ? value + part : value));
    const mass = shifted.reduce((sum, value) => sum + Math.abs(value), 0);
    // Room for the sum in doubles, which may come out an ulp larger.
    const room = mass > MAX_INPUT_MASS ? (MAX_INPUT_MASS / mass) * (1 - 2 ** -50) : 1;
    return { weights: moved, intercept: 128 * random.unit() - 64, values: shifted.map((value) => value * room) };
  }
});
