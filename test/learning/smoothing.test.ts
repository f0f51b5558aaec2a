/** The tridiagonal solve against the dense definition of its matrix. */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { smoothingEnergy, smoothingSolve, solvedNoise } from '../../src/learning/smoothing.ts';

function matrixOf(diagonal: Float64Array, ordered: number, ridge: number, smooth: number): number[][] {
  const size = diagonal.length;
  const matrix = Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (_, j) => (i === j ? diagonal[i] + ridge : 0)),
  );
  for (let i = 0; i + 1 < ordered; i++) {
    matrix[i][i] += smooth;
    matrix[i + 1][i + 1] += smooth;
    matrix[i][i + 1] -= smooth;
    matrix[i + 1][i] -= smooth;
  }
  return matrix;
}

const problems = fc.integer({ min: 1, max: 12 }).chain((size) =>
  fc.record({
    diagonal: fc.array(fc.double({ min: 0, max: 1e4, noNaN: true }), { minLength: size, maxLength: size }),
    gradient: fc.array(fc.double({ min: -1e4, max: 1e4, noNaN: true }), { minLength: size, maxLength: size }),
    ordered: fc.integer({ min: 0, max: size }),
    ridge: fc.double({ min: 0.5, max: 1e3, noNaN: true }),
    smooth: fc.double({ min: 0, max: 1e3, noNaN: true }),
  }),
);

test('A x is the gradient, and the energy is x^T A x', () => {
  fc.assert(
    fc.property(problems, ({ diagonal, gradient, ordered, ridge, smooth }) => {
      const d = Float64Array.from(diagonal);
      const x = smoothingSolve(Float64Array.from(gradient), d, ordered, { ridge, smooth });
      const product = matrixOf(d, ordered, ridge, smooth).map((row) => row.reduce((sum, a, j) => sum + a * x[j], 0));
      product.forEach((value, i) => {
        expect(Math.abs(value - gradient[i])).toBeLessThan(1e-8 * (1 + Math.max(...gradient.map(Math.abs))));
      });
      const energy = product.reduce((sum, value, i) => sum + value * x[i], 0);
      expect(smoothingEnergy(x, d, ordered, { ridge, smooth })).toBeCloseTo(energy, 3);
    }),
    { seed: 1 },
  );
});

test('the trace is the sum of the diagonal of the inverse', () => {
  // [[3, -1], [-1, 3]] has inverse [[3, 1], [1, 3]] / 8; the third bin is alone: 1 / 2.
  expect(solvedNoise(Float64Array.of(1, 1, 1), 2, { ridge: 1, smooth: 1 }).energy).toBeCloseTo(0.75 + 0.5, 12);
});

test('bins of a vocabulary and the missing bin are not smoothed into their neighbours', () => {
  const x = smoothingSolve(Float64Array.of(0, 0, 100), Float64Array.of(1, 1, 1), 2, { ridge: 1, smooth: 50 });
  expect([...x]).toEqual([0, 0, 50]);
});

test('a system without ridge is refused', () => {
  expect(() => smoothingSolve(Float64Array.of(1), Float64Array.of(1), 0, { ridge: 0, smooth: 1 })).toThrow(
    expect.objectContaining({ code: 'TRAINING_INPUT' }),
  );
});
