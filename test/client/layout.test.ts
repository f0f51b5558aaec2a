import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { chooseLayout, layoutCost, trafficBytes } from '../../src/client/layout.ts';
import {
  type LayoutName,
  maxTransactions,
  openEncryption,
  PRESETS,
  type PresetName,
  requestBytes,
} from '../../src/encryption/encryption.ts';
import { modelOf, roundTrip, seededRandom } from '../encryption/support.ts';

/** What a node takes in one request (api/routes/limits.ts). */
const LARGEST_BODY_BYTES = 64 * 1024 * 1024;

const presets: readonly PresetName[] = ['standard', 'conservative'];
const layouts: readonly LayoutName[] = ['row', 'column'];

const batch = fc
  .constantFrom(...presets)
  .chain((preset) => fc.tuple(fc.constant(preset), fc.integer({ min: 1, max: PRESETS[preset].degree })))
  .chain(([preset, dimension]) =>
    fc.tuple(fc.constant(preset), fc.constant(dimension), fc.integer({ min: 1, max: 100_000 })),
  );

describe('chooseLayout', () => {
  test('never costs more than the other layout by the model', () => {
    fc.assert(
      fc.property(batch, ([preset, dimension, transactions]) => {
        const chosen = chooseLayout(preset, dimension, transactions);
        const costs = layouts.map((layout) => layoutCost(preset, layout, dimension, transactions));
        expect(layoutCost(preset, chosen, dimension, transactions)).toBe(Math.min(...costs));
        expect(Math.min(...costs)).toBeLessThan(Number.POSITIVE_INFINITY);
      }),
      { numRuns: 1_000 },
    );
  });

  test('never makes a request that is more than a node takes', () => {
    fc.assert(
      fc.property(batch, ([preset, dimension, transactions]) => {
        const layout = chooseLayout(preset, dimension, transactions);
        const largest = Math.min(transactions, maxTransactions(preset, layout, dimension));
        expect(requestBytes({ preset, layout, dimension, transactions: largest })).toBeLessThanOrEqual(
          LARGEST_BODY_BYTES,
        );
      }),
      { numRuns: 1_000 },
    );
    expect(layoutCost('conservative', 'column', 1000, 8192)).toBe(Number.POSITIVE_INFINITY);
    expect(chooseLayout('conservative', 1000, 8192)).toBe('row');
  });

  test.each(presets)('%s: a single transaction is a row, a full column of the demonstration is a column', (preset) => {
    expect(chooseLayout(preset, 311, 1)).toBe('row');
    expect(chooseLayout(preset, 311, PRESETS[preset].degree)).toBe('column');
  });

  test.each(presets)('%s: once a column is cheaper it stays so up to a full column', (preset) => {
    for (const dimension of [30, 169, 311, 500]) {
      const { degree } = PRESETS[preset];
      const isColumn = Array.from({ length: degree }, (_, i) => chooseLayout(preset, dimension, i + 1) === 'column');
      const first = isColumn.indexOf(true);
      expect(first).toBeGreaterThan(0);
      // Rows go up by whole ciphertexts, so that just after the crossover the two may alternate once or twice.
      const settled = first + Math.ceil(degree / dimension);
      expect(isColumn.slice(settled).every(Boolean)).toBe(true);
    }
  });
});

describe('the cost model', () => {
  test('more transactions never cost less', () => {
    fc.assert(
      fc.property(
        batch,
        fc.constantFrom(...layouts),
        fc.integer({ min: 1, max: 5_000 }),
        ([preset, dimension, n], layout, more) => {
          const [few, many] = [n, n + more].map((each) => layoutCost(preset, layout, dimension, each));
          expect(many).toBeGreaterThanOrEqual(few);
        },
      ),
    );
  });

  test.each(layouts)('counts the bytes of a real %s request and reply', async (layout) => {
    const encryption = await openEncryption('standard');
    const random = seededRandom(5);
    const scorer = encryption.openScorer(random);
    const model = modelOf(new Float64Array(900).fill(0.5));
    // Five fill a row ciphertext of 900 dimensions to one more than it holds.
    for (const transactions of layout === 'row' ? [1, 4, 5] : [3]) {
      const vectors = Array.from({ length: transactions }, (_, i) => [[i, 1]] as const);
      const { request, reply } = roundTrip(encryption, encryption.createKeys(), scorer, model, layout, vectors);
      expect(trafficBytes('standard', layout, 900, transactions)).toEqual({ up: request.length, down: reply.length });
    }
    scorer.close();
  });
});
