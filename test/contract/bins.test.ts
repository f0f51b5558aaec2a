import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { fieldEdges, locate } from '../../src/contract/bins.ts';
import { binRecord, binTitle, layoutOf, type NumericField, parseContract } from '../../src/contract/contract.ts';
import { ContractError } from '../../src/errors.ts';
import { exampleDocument } from './example.ts';

const reason = { code: 'X1', text: 'x' };

function field(part: Partial<NumericField>): NumericField {
  return { kind: 'numeric', name: 'x', min: 0, max: 1, scale: 'linear', reason, ...part };
}

describe('edges', () => {
  test('linear edges by hand', () => {
    expect(fieldEdges(field({ min: 0, max: 100, bins: 4 }))).toEqual([25, 50, 75]);
    expect(fieldEdges(field({ min: -20, max: 20, bins: 5 }))).toEqual([-12, -4, 4, 12]);
  });

  test('log1p edges by hand: 1 + x is multiplied by 1,000,001^(1/6) from edge to edge', () => {
    const edges = fieldEdges(field({ min: 0, max: 1_000_000, scale: 'log1p', bins: 6 }));
    const expected = [1, 2, 3, 4, 5].map((i) => 1_000_001 ** (i / 6) - 1);
    expect(edges).toHaveLength(5);
    edges.forEach((edge, i) => {
      expect(Math.abs(edge / expected[i] - 1)).toBeLessThan(1e-10);
    });
  });

  test('log1p of a negative minimum is moved to zero first', () => {
    const moved = fieldEdges(field({ min: -10, max: 90, scale: 'log1p', bins: 8 }));
    const plain = fieldEdges(field({ min: 0, max: 100, scale: 'log1p', bins: 8 }));
    moved.forEach((edge, i) => {
      expect(edge).toBeCloseTo(plain[i] - 10, 8);
    });
  });

  test('log1p of a positive minimum resolves the whole range', () => {
    const edges = fieldEdges(field({ min: 10_000, max: 1_000_000, scale: 'log1p', bins: 32 }));
    // 10,001 * (1,000,001 / 10,001)^(1/32) - 1, with Python's decimal at 40 digits.
    expect(edges[0]).toBeCloseTo(11547.9389010985, 6);
  });

  test('an edge belongs to the bin above it, the maximum to the last bin', () => {
    const edges = fieldEdges(field({ min: 0, max: 100, bins: 4 }));
    expect([0, 24.999, 25, 50, 74.9, 75, 100].map((x) => locate(edges, x))).toEqual([0, 0, 1, 2, 2, 3, 3]);
  });

  test('whole numbers get a bin each when there are as many bins as numbers', () => {
    for (const [min, max] of [
      [-2, 9],
      [1, 16],
      [0, 23],
      [0, 12],
      [0, 40],
    ]) {
      const edges = fieldEdges(field({ min, max, bins: max - min + 1 }));
      for (let x = min; x <= max; x++) expect(locate(edges, x)).toBe(x - min);
    }
  });
});

const anyField = fc
  .record({
    min: fc.double({ min: -1e9, max: 1e9, noNaN: true }),
    width: fc.double({ min: 1e-3, max: 1e9, noNaN: true }),
    bins: fc.integer({ min: 2, max: 200 }),
    scale: fc.constantFrom('linear' as const, 'log1p' as const),
  })
  .map(({ min, width, bins, scale }) => field({ min, max: min + width, bins, scale }))
  .filter((f) => {
    const edges = [f.min, ...fieldEdges(f), f.max];
    return edges.every((edge, i) => i === 0 || edge > edges[i - 1]);
  });
const finite = fc.double({ noNaN: true, noDefaultInfinity: true });

describe('every finite number', () => {
  test('falls into exactly one bin, the one whose interval holds it', () => {
    fc.assert(
      fc.property(anyField, finite, (f, x) => {
        const edges = fieldEdges(f);
        const clamped = Math.min(f.max, Math.max(f.min, x));
        const bounds = [f.min, ...edges, f.max];
        const holding = edges.concat(0).flatMap((_, i) => {
          const last = i === edges.length;
          return clamped >= bounds[i] && (last ? clamped <= bounds[i + 1] : clamped < bounds[i + 1]) ? [i] : [];
        });
        expect(holding).toEqual([locate(edges, x)]);
      }),
    );
  });

  test('is binned monotonically, and bounds clamp', () => {
    fc.assert(
      fc.property(anyField, finite, finite, (f, x, y) => {
        const edges = fieldEdges(f);
        expect(locate(edges, Math.min(x, y))).toBeLessThanOrEqual(locate(edges, Math.max(x, y)));
        if (x < f.min) expect(locate(edges, x)).toBe(locate(edges, f.min));
        if (x > f.max) expect(locate(edges, x)).toBe(locate(edges, f.max));
      }),
    );
  });
});

describe('layout and titles', () => {
  const contract = parseContract(exampleDocument());

  test('sizes count other and missing', () => {
    expect(layoutOf(contract)).toEqual({ sizes: [5, 7, 4, 3], offsets: [0, 5, 12, 16], total: 19 });
  });

  test('every bin has its own name', () => {
    const { sizes } = layoutOf(contract);
    contract.fields.forEach((f, k) => {
      const titles = Array.from({ length: sizes[k] }, (_, bin) => binTitle(contract, f, bin));
      expect(new Set(titles).size).toBe(sizes[k]);
      expect(titles.at(-1)).toBe('missing');
      expect(() => binTitle(contract, f, sizes[k])).toThrow(ContractError);
    });
    expect(binTitle(contract, contract.fields[0], 0)).toBe('0 to below 25');
    expect(binTitle(contract, contract.fields[0], 3)).toBe('75 to 100');
    expect(binTitle(contract, contract.fields[2], 2)).toBe('other');
    expect(binTitle(contract, contract.fields[3], 1)).toBe('true');
  });

  test('a record of the layout sets one coordinate per field', () => {
    const { bins } = binRecord(contract, { income: 60, debt: 999, purpose: 'home', employed: false });
    expect([...bins]).toEqual([2, 2, 1, 0]);
  });
});
