/** The transform against its definition, within the error it states. */
import { describe, expect, test } from '@jest/globals';
import { addPoint, transform, transformError } from '../../src/privacy/fft.ts';
import { seededRandom } from '../support/publicData.ts';

const uniform = (length: number, seed: number): Float64Array => {
  const random = seededRandom(seed);
  return Float64Array.from({ length }, () => random.nextUint32() / 2 ** 31 - 1);
};

/** The definition, with the angle reduced on integers so that its own error is a few units. */
function byDefinition(re: Float64Array, im: Float64Array): { re: Float64Array; im: Float64Array } {
  const length = re.length;
  const out = { re: new Float64Array(length), im: new Float64Array(length) };
  for (let k = 0; k < length; k++) {
    for (let n = 0; n < length; n++) {
      const angle = (2 * Math.PI * ((k * n) % length)) / length;
      out.re[k] += re[n] * Math.cos(angle) + im[n] * Math.sin(angle);
      out.im[k] += im[n] * Math.cos(angle) - re[n] * Math.sin(angle);
    }
  }
  return out;
}

const norm = (...parts: Float64Array[]): number =>
  Math.sqrt(parts.reduce((sum, part) => sum + part.reduce((squares, x) => squares + x * x, 0), 0));
const minus = (a: Float64Array, b: Float64Array): Float64Array => a.map((x, i) => x - b[i]);

describe('transform', () => {
  test.each([2, 4, 8, 64, 512])('length %d agrees with the definition within the stated error', (length) => {
    const [re, im] = [uniform(length, 1), uniform(length, 2)];
    const exact = byDefinition(re, im);
    transform(re, im);
    expect(norm(minus(re, exact.re), minus(im, exact.im))).toBeLessThan(
      (transformError(length) + 2 ** -50) * norm(exact.re, exact.im),
    );
  });

  test('twice gives the input back, reversed, within twice the stated error', () => {
    const length = 2 ** 16;
    const start = uniform(length, 3);
    const [re, im] = [Float64Array.from(start), new Float64Array(length)];
    transform(re, im);
    transform(re, im);
    const back = re.map((_, n) => re[(length - n) % length] / length);
    expect(norm(minus(back, start))).toBeLessThan(2 * transformError(length) * norm(start));
    // The bound is a worst case, but not an idle one: within a factor of 1000 of what is seen.
    expect(norm(minus(back, start))).toBeGreaterThan(1e-3 * transformError(length) * norm(start));
  });

  test('a point added directly is what the transform of that point gives', () => {
    const length = 1024;
    const re = new Float64Array(length);
    const im = new Float64Array(length);
    re[77] = 0.75;
    transform(re, im);
    const direct = [new Float64Array(length), new Float64Array(length)] as const;
    addPoint(direct[0], direct[1], 77, 0.75);
    for (let k = 0; k <= length / 2; k++) {
      expect(Math.abs(direct[0][k] - re[k])).toBeLessThan(2 ** -47);
      expect(Math.abs(direct[1][k] - im[k])).toBeLessThan(2 ** -47);
    }
  });

  test('only powers of two', () => {
    for (const length of [0, 1, 3, 12]) {
      expect(() => transform(new Float64Array(length), new Float64Array(length))).toThrow(
        expect.objectContaining({ code: 'PRIVACY_PARAMETER' }),
      );
    }
    expect(() => transform(new Float64Array(4), new Float64Array(8))).toThrow();
  });
});
