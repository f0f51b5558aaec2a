/**
 * The demo's data: for each bank a file to train on, and one file held out for the test. Synthetic transactions come
 * from the simulator, one profile a bank; a real file is split over the banks by customer.
 */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Contract } from '../../contract/contract.ts';
import { fingerprintFile } from '../readRows.ts';
import { simulateToFile } from '../simulate.ts';
import { concatenateFiles, splitByCustomer } from './split.ts';

export interface DemoData {
  banks: { name: string; file: string; rows: number }[];
  holdoutFile: string;
  holdoutRows: number;
}

const HOLDOUT = 0.2;
/** Transactions of a synthetic customer over the simulated days; the contract keeps one of them for training. */
const ROWS_PER_CUSTOMER = 3.5;
const NAMES = 'abcdefgh';

export async function prepareData(options: {
  contract: Contract;
  workspace: string;
  banks: number;
  rows: number;
  seed: number;
  data?: string;
}): Promise<DemoData> {
  const dir = join(options.workspace, 'data');
  await mkdir(dir, { recursive: true });
  const names = [...NAMES.slice(0, options.banks)].map((letter) => `bank-${letter}`);
  const files = names.map((name) => join(dir, `${name}.csv`));
  const holdoutFile = join(dir, 'holdout.csv');

  if (options.data !== undefined) {
    // Reads it once to the end: a missing or truncated file is refused before anything starts.
    await fingerprintFile(resolve(options.data));
    const share = (1 - HOLDOUT) / names.length;
    const assign = (fraction: number) =>
      fraction < HOLDOUT ? names.length : Math.min(names.length - 1, Math.floor((fraction - HOLDOUT) / share));
    const rows = await splitByCustomer(options.contract, resolve(options.data), [...files, holdoutFile], assign);
    return {
      banks: names.map((name, i) => ({ name, file: files[i], rows: rows[i] })),
      holdoutFile,
      holdoutRows: rows[names.length],
    };
  }

  const holdouts = names.map((name) => join(dir, `${name}-holdout.csv`));
  const counts: number[][] = [];
  for (const [i, name] of names.entries()) {
    const source = join(dir, `synthetic-${name}.csv`);
    await simulateToFile({
      bank: NAMES[i],
      rows: options.rows,
      customers: Math.round(options.rows / ROWS_PER_CUSTOMER),
      seed: options.seed,
      out: source,
    });
    counts.push(await splitByCustomer(options.contract, source, [files[i], holdouts[i]], (f) => (f < HOLDOUT ? 1 : 0)));
  }
  await concatenateFiles(holdouts, holdoutFile, options.contract.csv.header);
  return {
    banks: names.map((name, i) => ({ name, file: files[i], rows: counts[i][0] })),
    holdoutFile,
    holdoutRows: counts.reduce((sum, [, held]) => sum + held, 0),
  };
}
