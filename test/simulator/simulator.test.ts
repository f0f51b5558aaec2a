import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { binRecord, createRowParser, parseContract } from '../../src/contract/contract.ts';
import { RequestError } from '../../src/errors.ts';
import { BANK_NAMES, FRAUD_PATTERNS, profileOf } from '../../src/simulator/banks.ts';
import { SIMULATED_COLUMNS } from '../../src/simulator/csv.ts';
import { seededRandom } from '../../src/simulator/random.ts';
import { generateTransactions, type SimulationOptions, type Transaction } from '../../src/simulator/transactions.ts';
import { recordOf, simulateTransactions } from '../support/simulated.ts';

const contract = parseContract(
  JSON.parse(readFileSync(join(import.meta.dirname, '../../contracts/demo-transactions.json'), 'utf8')),
);
const small: SimulationOptions = { seed: 1, bank: 'a', rows: 20_000, customers: 5_000 };

function all(options: SimulationOptions): Transaction[] {
  return Array.from(generateTransactions(options), (transaction) => ({ ...transaction }));
}

function digest(options: SimulationOptions): string {
  const hash = createHash('sha256');
  for (const line of simulateTransactions(options)) hash.update(`${line}\n`);
  return hash.digest('hex');
}

describe('the same options', () => {
  test('give the same bytes, any other seed or bank gives others', () => {
    const digests = [
      digest(small),
      digest({ ...small, seed: 2 }),
      digest({ ...small, seed: 1 + 2 ** 32 }),
      ...BANK_NAMES.slice(1).map((bank) => digest({ ...small, bank })),
    ];
    expect(digest(small)).toBe(digests[0]);
    expect(new Set(digests).size).toBe(digests.length);
  });

  test('give the bytes they gave when this was written', () => {
    expect(digest(small)).toBe('0a45a544684783a9328a80afa982d4439d8d4c0c0f1f8006e3ee1fda3b010eb2');
  });
});

describe('transactions', () => {
  const list = all(small);

  test('are as many as asked for, in time order, within the days', () => {
    expect(list).toHaveLength(20_000);
    for (let at = 1; at < list.length; at++) expect(list[at].time).toBeGreaterThanOrEqual(list[at - 1].time);
    expect(list.at(-1)!.time - Date.UTC(2025, 0, 6) / 1000).toBeLessThan(60 * 86_400);
  });

  test('have the fraud rate that was asked for, exactly', () => {
    for (const fraudRate of [0, 0.02, 0.25]) {
      const frauds = all({ ...small, fraudRate }).filter((t) => t.fraud).length;
      expect(frauds).toBe(20_000 * fraudRate);
    }
  });

  test('have velocity features that a slow recount of the past confirms', () => {
    for (let at = 0; at < list.length; at += 97) {
      const now = list[at];
      const past = list.slice(0, at);
      const mine = past.filter((t) => t.customer === now.customer);
      expect(now.count1h).toBe(mine.filter((t) => t.time >= now.time - 3600).length);
      expect(now.count24h).toBe(mine.filter((t) => t.time >= now.time - 86_400).length);
      expect(now.terminalCount24h).toBe(
        past.filter((t) => t.terminal === now.terminal && t.time >= now.time - 86_400).length,
      );
      if (mine.length > 0) expect(now.secondsSinceLast).toBe(now.time - mine.at(-1)!.time);
      if (mine.some((t) => t.terminal === now.terminal)) expect(now.newMerchant).toBe(false);
    }
  });

  test('say the weekday and hour of their time', () => {
    for (const t of list.slice(0, 500)) {
      const date = new Date(t.time * 1000);
      expect([t.weekday, t.hour]).toEqual([(date.getUTCDay() + 6) % 7, date.getUTCHours()]);
    }
  });

  test('fit the contract as rows and as records, with the same bins and without unknown categories', () => {
    const lines = [...simulateTransactions(small)];
    expect(lines[0]).toBe(SIMULATED_COLUMNS.join(','));
    const parse = createRowParser(contract, lines[0].split(','));
    list.forEach((t, at) => {
      const row = parse(lines[at + 1].split(','), at + 2);
      if ('issues' in row) throw new RangeError(JSON.stringify(row.issues));
      const record = binRecord(contract, recordOf(t));
      expect(row.bins).toEqual(record.bins);
      expect(row.label).toBe(t.fraud ? 1 : 0);
      expect(row.time?.getTime()).toBe(t.time * 1000);
      contract.fields.forEach((field, k) => {
        if (field.kind === 'categorical') expect(row.bins[k]).toBeLessThan(field.categories.length);
      });
    });
  });

  test('are marked as synthetic in every identifier', () => {
    const [, first] = simulateTransactions(small);
    expect(first.split(',').slice(0, 3)).toEqual([
      expect.stringMatching(/^SYN-A-\d+$/),
      expect.stringMatching(/^SYN-C-A-\d+$/),
      expect.stringMatching(/^SYN-T-A-\d+$/),
    ]);
  });
});

describe('banks', () => {
  test.each(['a', 'b', 'c', 'd'])('%s meets the patterns in its own mix', (bank) => {
    const frauds = all({ ...small, bank, rows: 50_000, customers: 12_000 }).filter((t) => t.fraud);
    const { mix } = profileOf(bank)!;
    expect(mix.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    FRAUD_PATTERNS.forEach((pattern, at) => {
      const found = frauds.filter((t) => t.pattern === pattern).length;
      // Counts are dealt by quota; only rounding and the last burst of a pattern move them.
      expect(Math.abs(found - mix[at] * frauds.length)).toBeLessThanOrEqual(2);
    });
  });

  test('differ in which pattern dominates', () => {
    const dominant = ['a', 'b', 'c', 'd'].map((bank) => {
      const { mix } = profileOf(bank)!;
      return mix.indexOf(Math.max(...mix));
    });
    expect(dominant).toEqual([0, 1, 2, 3]);
  });

  test('patterns show in the features they should move', () => {
    const list = all({ seed: 3, bank: 'd', rows: 60_000, customers: 15_000 });
    const mean = (held: Transaction[], of: (t: Transaction) => number) =>
      held.reduce((sum, t) => sum + of(t), 0) / held.length;
    const legitimate = list.filter((t) => !t.fraud);
    const by = (pattern: string) => list.filter((t) => t.pattern === pattern);
    const testing = by('cardTesting');
    expect(mean(by('largeAmount'), (t) => t.amountRatio)).toBeGreaterThan(3 * mean(legitimate, (t) => t.amountRatio));
    expect(mean(testing, (t) => Number(t.entryMode === 'online-plain'))).toBeGreaterThan(0.5);
    expect(mean(testing, (t) => t.count1h)).toBeGreaterThan(3 * mean(legitimate, (t) => t.count1h));
    expect(mean(by('compromisedTerminal'), (t) => Number(t.entryMode === 'magstripe'))).toBeGreaterThan(0.4);
    expect(mean(by('compromisedCard'), (t) => Number(t.newMerchant))).toBeGreaterThan(
      mean(legitimate, (t) => Number(t.newMerchant)) + 0.2,
    );
  });
});

describe('options outside their range', () => {
  test.each([
    [{ rows: 0 }, 'rows'],
    [{ rows: 1.5 }, 'rows'],
    [{ seed: -1 }, 'seed'],
    [{ bank: 'z' }, 'bank'],
    [{ bank: '__proto__' }, 'bank'],
    [{ days: 0 }, 'days'],
    [{ terminals: 1 }, 'terminals'],
    [{ customers: 0 }, 'customers'],
    [{ fraudRate: 0.6 }, 'fraudRate'],
    [{ fraudRate: Number.NaN }, 'fraudRate'],
  ])('%j', (part, where) => {
    const run = () => generateTransactions({ ...small, ...part }).next();
    expect(run).toThrow(RequestError);
    expect(run).toThrow(expect.objectContaining({ code: 'USAGE', where }));
  });

  test('a single row, customer and day work', () => {
    expect(all({ seed: 0, bank: 'b', rows: 1, customers: 1, terminals: 24, days: 1 })).toHaveLength(1);
    expect(all({ seed: 0, bank: 'c', rows: 3, customers: 1, days: 1, fraudRate: 0.5 })).toHaveLength(3);
  });
});

describe('random', () => {
  const random = seededRandom(7, 'test');
  const n = 200_000;
  const draw = (next: () => number) => Float64Array.from({ length: n }, next);
  const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / n;

  // Means of 200,000 draws, within 5 standard errors: false alarm below 1e-6 each (the seed is fixed besides).
  test('uniform, normal, exponential and log-normal have their means', () => {
    expect(Math.abs(mean(draw(random.uniform)) - 0.5)).toBeLessThan(5 * Math.sqrt(1 / 12 / n));
    const normals = draw(random.normal);
    expect(Math.abs(mean(normals))).toBeLessThan(5 / Math.sqrt(n));
    expect(Math.abs(mean(normals.map((z) => z * z)) - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    expect(Math.abs(mean(draw(() => random.exponential(3))) - 3)).toBeLessThan((5 * 3) / Math.sqrt(n));
    expect(Math.abs(mean(draw(() => Math.log(random.logNormal(1, 0.5)))))).toBeLessThan((5 * 0.5) / Math.sqrt(n));
  });
});
