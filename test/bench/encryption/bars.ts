/** The bars of encryption.md, section 8, that one thread of one process decides. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Contract, layoutOf, parseContract } from '../../../src/contract/contract.ts';
import {
  type Encryption,
  LOGIT_ERROR_CONTRACT,
  rowCapacity,
  type SecretKey,
} from '../../../src/encryption/encryption.ts';
import type { BenchmarkReport, Measurement } from '../report.ts';
import { measure, median, percentile, type Timings } from './measure.ts';

/** The contract that the demonstration publishes. */
export function bundledContract(): { contract: Contract; dimension: number; fields: number } {
  const file = join(import.meta.dirname, '../../../contracts/demo-transactions.json');
  const contract = parseContract(JSON.parse(readFileSync(file, 'utf8')));
  return { contract, dimension: layoutOf(contract).total, fields: contract.fields.length };
}

export async function measureBars(report: BenchmarkReport, encryption: Encryption, key: SecretKey): Promise<void> {
  const preset = encryption.preset.name;
  // The bars are those of the preset that is used when none is named.
  const add = (name: string, value: number, unit: string, atMost?: number) => {
    const bar: Pick<Measurement, 'bar'> = atMost === undefined || preset !== 'standard' ? {} : { bar: { atMost } };
    report.add({ name: `${preset}: ${name}`, value, unit, ...bar });
  };
  const addPerTransaction = (name: string, times: Timings, transactions: number, bars: { server?: number } = {}) => {
    const micros = (ms: number) => (1000 * ms) / transactions;
    add(`${name}, server p50`, micros(median(times.server)), 'us/transaction', bars.server);
    add(`${name}, server p95`, micros(percentile(times.server, 0.95)), 'us/transaction');
    add(`${name}, multiply only p50`, micros(median(times.reference)), 'us/transaction');
    add(`${name}, server / multiply only`, median(times.server) / median(times.reference), 'ratio');
    add(`${name}, encrypt p50`, micros(median(times.encrypt)), 'us/transaction');
    add(`${name}, decrypt p50`, micros(median(times.decrypt)), 'us/transaction');
    add(`${name}, bytes up`, times.up, 'bytes');
    add(`${name}, bytes down`, times.down, 'bytes');
  };
  const addSingle = (name: string, times: Timings, bars: { server: number; up?: number }) => {
    for (const [label, share] of [
      ['p50', 0.5],
      ['p95', 0.95],
      ['p99', 0.99],
    ] as const) {
      add(`${name}, server ${label}`, percentile(times.server, share), 'ms', share === 0.5 ? bars.server : undefined);
    }
    add(`${name}, server, zero made within p50`, median(times.unpooled), 'ms');
    add(`${name}, multiply only p50`, median(times.reference), 'ms');
    add(`${name}, server / multiply only`, median(times.server) / median(times.reference), 'ratio');
    add(`${name}, encrypt p50`, median(times.encrypt), 'ms');
    add(`${name}, decrypt p50`, median(times.decrypt), 'ms');
    add(`${name}, bytes up`, times.up, 'bytes', bars.up);
    add(`${name}, bytes down`, times.down, 'bytes');
  };

  const { dimension, fields } = bundledContract();
  const both = { encryption, key };
  const numeric = { ...both, dimension: 30, fields: 'numeric' } as const;
  const column = await measure({ ...numeric, layout: 'column', transactions: 2048, runs: 20 });
  addPerTransaction('column 2,048 x 30 numeric', column, 2048, { server: 15 });
  const row = await measure({ ...numeric, layout: 'row', transactions: 1, runs: 300 });
  addSingle('row 1 x 30 numeric', row, { server: 2, up: 66_000 });
  const wide = await measure({ ...both, layout: 'row', dimension: 1000, fields: 30, transactions: 1, runs: 200 });
  addSingle('row 1 x 1,000 one-hot', wide, { server: 2.5 });

  const bundled = { ...both, dimension, fields } as const;
  const packing = rowCapacity(encryption.preset, dimension);
  const packed = await measure({ ...bundled, layout: 'row', transactions: packing, runs: 100 });
  addPerTransaction(`row ${packing} x ${dimension} one-hot (one ciphertext)`, packed, packing);
  const { degree } = encryption.preset;
  const full = await measure({ ...bundled, layout: 'column', transactions: degree, runs: 4 });
  addPerTransaction(`column ${degree.toLocaleString('en-US')} x ${dimension} one-hot`, full, degree);

  const worst = (...all: Timings[]) => Math.max(...all.map((one) => one.worstError));
  add('worst |logit error|, row', worst(row, wide, packed), 'logit', LOGIT_ERROR_CONTRACT);
  add('worst |logit error|, column', worst(column, full), 'logit', LOGIT_ERROR_CONTRACT);
  add('public key', key.publicKey.length, 'bytes', 100_000);
}
