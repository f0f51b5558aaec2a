/**
 * The public data sets of the shared folder, read through their contracts, and seeded splits of them.
 *
 * The folder is not part of the project; `publicData` returns null where it is absent and the caller skips with a
 * clear line. Seeded generators live here, in tests, and nowhere else.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parse } from 'csv-parse/sync';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { type Contract, createRowParser, layoutOf, parseContract } from '../../src/contract/contract.ts';
import type { BinnedData } from '../../src/learning/binned.ts';
import { selectRows } from '../../src/learning/binned.ts';
import type { RandomSource } from '../../src/random.ts';

const CONTRACTS = join(import.meta.dirname, '../../contracts');
const DATA = join(import.meta.dirname, '../../../shared/data');

const FILES = {
  adult: ['adult/adult.data.gz'],
  telco: ['telco/telco.csv.gz'],
  taiwan: ['taiwan/taiwan.csv.gz'],
  ulb: ['ulb/creditcard_uniform_sample.csv.gz'],
} as const;

export type PublicName = keyof typeof FILES;

export function contractOf(name: string): Contract {
  return parseContract(JSON.parse(readFileSync(join(CONTRACTS, `${name}.json`), 'utf8')));
}

/** Every labelled row, or null when the shared folder is not there. */
export function publicData(name: PublicName): { data: BinnedData; contract: Contract } | null {
  const files = FILES[name].map((file) => join(DATA, file));
  if (!files.every(existsSync)) return null;
  const contract = contractOf(name);
  const { csv } = contract;
  const bins: Uint16Array[] = [];
  const labels: number[] = [];
  for (const file of files) {
    const rows: string[][] = parse(gunzipSync(readFileSync(file)), {
      delimiter: csv.delimiter,
      trim: csv.trim,
      skip_empty_lines: true,
      relax_column_count: true,
      ...(csv.comment === null ? {} : { comment: csv.comment, comment_no_infix: true }),
    });
    const header = csv.header ? rows[0] : null;
    const parseRow = createRowParser(contract, header);
    rows.slice(csv.header ? 1 : 0).forEach((cells, i) => {
      const row = parseRow(cells, i + 1);
      if ('issues' in row || row.label === null) return;
      bins.push(row.bins);
      labels.push(row.label);
    });
  }
  const { sizes } = layoutOf(contract);
  const flat = new Uint16Array(bins.length * sizes.length);
  bins.forEach((record, i) => {
    flat.set(record, i * sizes.length);
  });
  return { contract, data: { rows: bins.length, sizes, bins: flat, labels: Uint8Array.from(labels) } };
}

/** A deterministic source for tests: the same seed gives the same noise, so a statistical test cannot flake. */
export function seededRandom(seed: number): RandomSource {
  const generator = xoroshiro128plus(seed);
  return {
    nextUint32: () => generator.next() >>> 0,
    fill(out) {
      for (let i = 0; i < out.length; i++) out[i] = generator.next() & 0xff;
    },
  };
}

/** A seeded 80/20 split. */
export function splitRows(data: BinnedData, seed: number): { train: BinnedData; test: BinnedData } {
  const order = shuffled(data.rows, seed);
  const cut = Math.floor(data.rows * 0.8);
  return { train: selectRows(data, order.subarray(0, cut)), test: selectRows(data, order.subarray(cut)) };
}

/** The rows dealt out evenly to `sites` banks, in their given order. */
export function dealRows(data: BinnedData, sites: number): BinnedData[] {
  return Array.from({ length: sites }, (_, site) => {
    const rows: number[] = [];
    for (let row = site; row < data.rows; row += sites) rows.push(row);
    return selectRows(data, rows);
  });
}

function shuffled(length: number, seed: number): Uint32Array {
  const random = seededRandom(seed);
  const order = Uint32Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = Math.floor((random.nextUint32() / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
