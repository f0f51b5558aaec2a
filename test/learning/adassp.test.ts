/**
 * AdaSSP: the declared sensitivities attacked, the noise it adds, and least squares against an independent solution.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Contract, layoutOf } from '../../src/contract/contract.ts';
import {
  adaSspStatement,
  releaseOf,
  type Statistics,
  sensitivitiesSquared,
  siteStatistics,
  trainAdaSsp,
} from '../../src/learning/adassp.ts';
import { groupsOf, solve } from '../../src/learning/adasspSolve.ts';
import { type BinnedData, type ModelShape, offsetsOf, poolRows, selectRows } from '../../src/learning/binned.ts';
import { choleskySolve } from '../../src/learning/cholesky.ts';
import { auc } from '../../src/learning/evaluation.ts';
import { logitsOf } from '../../src/learning/site.ts';
import { boundContributions } from '../../src/privacy/contributions.ts';
import { muFor } from '../../src/privacy/gdp.ts';
import { approximately } from '../../src/privacy/rational.ts';
import { contractOf, dealRows, publicData, seededRandom, splitRows } from '../support/publicData.ts';

const KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const PARTS = ['counts', 'labels', 'crosses'] as const;

interface Case {
  shape: ModelShape;
  data: BinnedData;
  customers: string[];
  m: number;
}

const cases: fc.Arbitrary<Case> = fc
  .record({
    fields: fc.array(fc.record({ size: fc.integer({ min: 2, max: 9 }), ordered: fc.boolean() }), {
      minLength: 1,
      maxLength: 6,
    }),
    rows: fc.integer({ min: 1, max: 25 }),
    m: fc.integer({ min: 1, max: 4 }),
    draws: fc.infiniteStream(fc.nat(10_000)),
  })
  .map(({ fields, rows, m, draws }) => {
    // Safe: an infinite stream always has a value.
    const draw = (below: number) => (draws.next().value as number) % below;
    const sizes = fields.map(({ size }) => size);
    const bins = Uint16Array.from({ length: rows * sizes.length }, (_, i) => draw(sizes[i % sizes.length]));
    return {
      shape: { sizes, ordered: fields.map(({ size, ordered }) => (ordered ? size - 1 : 0)) },
      data: { rows, sizes, bins, labels: Uint8Array.from({ length: rows }, () => draw(2)) },
      customers: Array.from({ length: rows }, () => `customer ${draw(4)}`),
      m,
    };
  });

function squaredDistance(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);
}

/** The largest ratio of what removing a customer moves to what is declared, over parts and customers. */
function worstRatio({ shape, data, customers, m }: Case, declared: typeof sensitivitiesSquared): number {
  const groups = groupsOf(shape);
  const bounded = (rows: number[]) => {
    const names = rows.map((row) => customers[row]);
    return siteStatistics(selectRows(selectRows(data, rows), boundContributions(names, KEY, m)), groups);
  };
  const all = customers.map((_, row) => row);
  const whole = bounded(all);
  const limits = declared(data.sizes.length, m);
  let worst = 0;
  for (const customer of new Set(customers)) {
    const without = bounded(all.filter((row) => customers[row] !== customer));
    for (const part of PARTS) {
      const moved = squaredDistance(whole[part], without[part]);
      if (moved > 0) worst = Math.max(worst, moved / limits[part]);
    }
  }
  return worst;
}

describe('sensitivity', () => {
  test('adding or removing one customer moves each vector by at most what is declared', () => {
    fc.assert(
      fc.property(cases, (each) => {
        expect(worstRatio(each, sensitivitiesSquared)).toBeLessThanOrEqual(1);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test.each([
    ['that forgets m', (fields: number, _m: number) => sensitivitiesSquared(fields, 1)],
    [
      'of m records as if they were independent',
      (fields: number, m: number) => sensitivitiesSquared(fields, Math.sqrt(m)),
    ],
    [
      'of one field instead of K',
      (_fields: number, m: number) => ({ counts: m ** 2, labels: m ** 2, crosses: m ** 2 }),
    ],
  ])('the attack catches a declaration %s', (_name, broken) => {
    const found = fc.sample(cases, { seed: 1, numRuns: 300 }).some((each) => worstRatio(each, broken) > 1);
    expect(found).toBe(true);
  });

  test('the bounds are reached: m equal records', () => {
    const shape = { sizes: [3, 4, 6], ordered: [0, 3, 5] };
    const data = { rows: 2, sizes: shape.sizes, bins: Uint16Array.of(1, 2, 5, 1, 2, 5), labels: Uint8Array.of(1, 1) };
    expect(worstRatio({ shape, data, customers: ['a', 'a'], m: 2 }, sensitivitiesSquared)).toBe(1);
  });
});

describe('statement', () => {
  const contract = contractOf('adult');

  test.each([0.05, 0.1, 1, 8])('spends epsilon %d and no more', (epsilon) => {
    const statement = adaSspStatement(contract, { epsilon, delta: 1e-6, mode: 'site' }, 1);
    expect(statement.epsilon).toBeLessThanOrEqual(epsilon);
    expect(statement.epsilon).toBeGreaterThan(epsilon * 0.999);
    expect(statement.muSquared).toBeLessThanOrEqual(muFor(epsilon, 1e-6) ** 2);
  });

  test('in mode sum the banks that neither collude nor drop out have the noise together', () => {
    const facts = { epsilon: 0.1, delta: 1e-6 };
    const site = adaSspStatement(contract, { ...facts, mode: 'site' }, 7);
    const sum = adaSspStatement(contract, { ...facts, mode: 'sum', colluders: 2, dropouts: 1 }, 7);
    const effective = (sigma: number) => sigma ** 2 - 4;
    const ratio = effective(approximately(site.labels.sigma)) / effective(approximately(sum.labels.sigma));
    expect(ratio).toBeGreaterThan(4 * 0.9999);
    expect(ratio).toBeLessThan(4 * 1.0001);
    expect(sum.epsilon).toBeLessThanOrEqual(0.1);
    expect(() => adaSspStatement(contract, { ...facts, mode: 'sum', colluders: 6, dropouts: 1 }, 7)).toThrow(
      'colluders and drop-outs must be fewer than the banks',
    );
  });

  test('m records of a customer multiply the noise by m', () => {
    const facts = { epsilon: 0.1, delta: 1e-6, mode: 'site' } as const;
    const one = adaSspStatement(contract, facts, 1);
    const three = adaSspStatement({ ...contract, maxRecordsPerSubject: 3 }, facts, 1);
    for (const part of PARTS) {
      // Safe: Adult has 14 fields, so cross tables are released.
      const ratio = approximately(three[part]!.sigma) / approximately(one[part]!.sigma);
      expect(Math.abs(ratio - 3)).toBeLessThan(1e-3);
    }
  });

  test('every coordinate of every vector gets its noise (seeded; six standard errors)', () => {
    const statement = adaSspStatement(contract, { epsilon: 0.5, delta: 1e-6, mode: 'site' }, 1);
    const size = 20_000;
    const zeros: Statistics = {
      counts: new Float64Array(size),
      labels: new Float64Array(size),
      crosses: new Float64Array(size),
    };
    const released = releaseOf(zeros, statement, seededRandom(5));
    for (const part of PARTS) {
      // Safe: as above.
      const variance = approximately(statement[part]!.sigma) ** 2;
      const measured = released[part].reduce((sum, value) => sum + value ** 2, 0) / size;
      expect(Math.abs(measured / variance - 1)).toBeLessThan(6 * Math.sqrt(2 / size));
      expect(released[part].every(Number.isSafeInteger)).toBe(true);
    }
  });
});

/** x with A x = b by Gaussian elimination with partial pivoting: independent of the code under test. */
function eliminate(matrix: number[][], target: number[]): number[] {
  const rows = matrix.map((row, i) => [...row, target[i]]);
  const n = rows.length;
  for (let j = 0; j < n; j++) {
    let best = j;
    for (let i = j; i < n; i++) if (Math.abs(rows[i][j]) > Math.abs(rows[best][j])) best = i;
    [rows[j], rows[best]] = [rows[best], rows[j]];
    for (let i = 0; i < n; i++) {
      if (i === j) continue;
      const factor = rows[i][j] / rows[j][j];
      for (let k = j; k <= n; k++) rows[i][k] -= factor * rows[j][k];
    }
  }
  return rows.map((row, i) => row[n] / row[i]);
}

/** Correlated made-up records of fields whose groups are their bins. */
function correlated(rows: number, shape: ModelShape): BinnedData {
  const random = seededRandom(11);
  const uniform = () => random.nextUint32() / 2 ** 32;
  const bins = new Uint16Array(rows * shape.sizes.length);
  const labels = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    const hidden = uniform();
    shape.sizes.forEach((size, k) => {
      bins[row * shape.sizes.length + k] = Math.min(size - 1, Math.floor((0.7 * hidden + 0.3 * uniform()) * size));
    });
    labels[row] = uniform() < 0.15 + 0.6 * hidden ? 1 : 0;
  }
  return { rows, sizes: shape.sizes, bins, labels };
}

describe('least squares', () => {
  const shape: ModelShape = { sizes: [4, 3, 4, 2], ordered: [3, 0, 0, 0] };

  test('without noise it is the ordinary ridge regression on the profiles of the fields', () => {
    const data = correlated(3000, shape);
    const { rows, bins, labels, sizes } = data;
    const { offsets } = offsetsOf(sizes);
    const statistics = siteStatistics(data, groupsOf(shape));
    const model = solve(statistics, { counts: 0, labels: 0, crosses: 0 }, shape, groupsOf(shape));

    const rate = labels.reduce((sum, y) => sum + y, 0) / rows;
    // Profile of field k: ridge 1, and a smoothness of ordered / 32 between neighbouring ordered bins.
    const profiles = sizes.map((size, k) => {
      const matrix = Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => (i === j ? 1 : 0)));
      const target = new Array<number>(size).fill(0);
      for (let row = 0; row < rows; row++) {
        const bin = bins[row * sizes.length + k];
        matrix[bin][bin]++;
        target[bin] += labels[row] - rate;
      }
      const smooth = shape.ordered[k] / 32;
      for (let i = 0; i + 1 < shape.ordered[k]; i++) {
        matrix[i][i] += smooth;
        matrix[i + 1][i + 1] += smooth;
        matrix[i][i + 1] -= smooth;
        matrix[i + 1][i] -= smooth;
      }
      const profile = eliminate(matrix, target);
      const mean = profile.reduce((sum, value, bin) => sum + value * statistics.counts[offsets[k] + bin], 0) / rows;
      return profile.map((value) => value - mean);
    });
    // Records as rows of profile values, the normal equations from them, the penalty that the profiles carry.
    const values = (row: number) => profiles.map((profile, k) => profile[bins[row * sizes.length + k]]);
    const normal = profiles.map(() => new Array<number>(profiles.length).fill(0));
    const target = new Array<number>(profiles.length).fill(0);
    for (let row = 0; row < rows; row++) {
      const z = values(row);
      z.forEach((a, k) => {
        target[k] += a * (labels[row] - rate);
        z.forEach((b, l) => {
          normal[k][l] += a * b;
        });
      });
    }
    profiles.forEach((_, k) => {
      normal[k][k] += target[k] - normal[k][k];
    });
    const expected = eliminate(normal, target);
    // The fields overlap, so the regression must not leave the profiles as they are.
    expect(Math.max(...expected.map((factor) => Math.abs(factor - 1)))).toBeGreaterThan(0.2);
    model.weights.forEach((field, k) => {
      field.forEach((weight, bin) => {
        expect(weight * rate * (1 - rate)).toBeCloseTo(expected[k] * profiles[k][bin], 10);
      });
    });
    expect(model.intercept).toBeCloseTo(Math.log(rate / (1 - rate)), 10);
  });

  test('statistics of banks add up to those of their pooled records', () => {
    const data = correlated(500, shape);
    const parts = dealRows(data, 3).map((part) => siteStatistics(part, groupsOf(shape)));
    const pooled = siteStatistics(poolRows(dealRows(data, 3)), groupsOf(shape));
    for (const part of PARTS) {
      const sum = pooled[part].map((_, i) => parts.reduce((total, each) => total + each[part][i], 0));
      expect(sum).toEqual(pooled[part]);
    }
  });

  test('groups cover every bin, and cross tables hold every record once', () => {
    fc.assert(
      fc.property(cases, ({ shape, data }) => {
        const groups = groupsOf(shape);
        const { offsets } = offsetsOf(shape.sizes);
        shape.sizes.forEach((size, k) => {
          const seen = new Set(groups.groupOf.subarray(offsets[k], offsets[k] + size));
          expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: groups.sizes[k] }, (_, i) => i));
        });
        const pairs = (shape.sizes.length * (shape.sizes.length - 1)) / 2;
        expect(siteStatistics(data, groups).crosses.reduce((sum, value) => sum + value, 0)).toBe(data.rows * pairs);
      }),
      { seed: 2, numRuns: 100 },
    );
  });

  test('pure noise gives a finite model of the right shape', () => {
    const contract = contractOf('telco');
    const { sizes } = layoutOf(contract);
    const empty = { rows: 0, sizes, bins: new Uint16Array(0), labels: new Uint8Array(0) };
    for (let seed = 1; seed <= 20; seed++) {
      const model = trainAdaSsp([empty], contract, { epsilon: 0.01, delta: 1e-6, mode: 'site' }, [seededRandom(seed)]);
      expect(model.weights.map((field) => field.length)).toEqual(sizes);
      expect(model.weights.flat().every(Number.isFinite) && Number.isFinite(model.intercept)).toBe(true);
    }
  });

  test('one field, and more fields than are crossed', () => {
    const base = contractOf('adult');
    for (const count of [1, 101]) {
      const fields = Array.from({ length: count }, (_, k) => ({ ...base.fields[0], name: `f${k}` }));
      const contract: Contract = { ...base, fields };
      const { sizes } = layoutOf(contract);
      const data = correlated(400, { sizes, ordered: sizes.map((size) => size - 1) });
      const facts = { epsilon: 5, delta: 1e-6, mode: 'site' } as const;
      expect(adaSspStatement(contract, facts, 1).crosses).toBeNull();
      const model = trainAdaSsp([data], contract, facts, [seededRandom(1)]);
      expect(auc(logitsOf(data, model), data.labels)).toBeGreaterThan(0.55);
    }
  });

  test('refuses a source of randomness too few', () => {
    const data = correlated(10, shape);
    const facts = { epsilon: 1, delta: 1e-6, mode: 'site' } as const;
    expect(() => trainAdaSsp([data, data], contractOf('adult'), facts, [seededRandom(1)])).toThrow(
      'one random source for each site',
    );
  });
});

describe('Cholesky', () => {
  test('solves what elimination solves, and refuses an indefinite matrix', () => {
    const a = [
      [4, 1, 0.5],
      [1, 3, -1],
      [0.5, -1, 2],
    ];
    const x = choleskySolve(Float64Array.from(a.flat()), Float64Array.of(1, -2, 3));
    eliminate(a, [1, -2, 3]).forEach((value, i) => {
      expect(x?.[i]).toBeCloseTo(value, 12);
    });
    expect(choleskySolve(Float64Array.of(1, 2, 2, 1), Float64Array.of(1, 1))).toBeNull();
    expect(choleskySolve(Float64Array.of(1, 1, 1, 1), Float64Array.of(1, 1))).toBeNull();
  });
});

describe.each([
  ['adult', 0.85],
  ['telco', 0.78],
  ['taiwan', 0.72],
  ['ulb', 0.88],
] as const)('%s at epsilon 0.05, delta 1e-6', (name, atLeast) => {
  const real = publicData(name);
  if (real === null) {
    test.skip(`the shared data set ${name} is not in this checkout`, () => {});
    return;
  }
  test(`test AUC of one shot is at least ${atLeast} (seeded, mean of 4 splits)`, () => {
    const { data, contract } = real;
    let sum = 0;
    for (let split = 1; split <= 4; split++) {
      const { train, test: held } = splitRows(data, split);
      const facts = { epsilon: 0.05, delta: 1e-6, mode: 'site' } as const;
      const model = trainAdaSsp([train], contract, facts, [seededRandom(split)]);
      sum += auc(logitsOf(held, model), held.labels);
    }
    expect(sum / 4).toBeGreaterThan(atLeast);
  });
});
