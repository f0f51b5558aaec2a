/**
 * Records for a simulated federation: synthetic transactions of made-up banks, or CSV files with their contract.
 *
 * A fifth of the customers test the model in the clear, as `veilrisk evaluate` does; a plan with an evaluation holds out
 * more of the others. Limit: whole data sets in memory, and figures on the test side that are exact, NOT private.
 */
import { type Contract, createRowParser, layoutOf } from '../../contract/contract.ts';
import { RequestError } from '../../errors.ts';
import { type BinnedData, poolRows, selectRows } from '../../learning/binned.ts';
import type { SiteData } from '../../learning/siteRelease.ts';
import { boundContributions } from '../../privacy/contributions.ts';
import { BANK_NAMES } from '../../simulator/banks.ts';
import { lineWriter, SIMULATED_COLUMNS } from '../../simulator/csv.ts';
import { seededRandom } from '../../simulator/random.ts';
import { generateTransactions } from '../../simulator/transactions.ts';
import { loadRows } from '../evaluation/rows.ts';

export interface FederationData {
  readonly banks: SiteData[];
  /** Records of customers who are in no bank's data. */
  readonly test: BinnedData;
}

/** One customer's rows are all on one side of it. */
interface Rows {
  readonly data: BinnedData;
  readonly customers: Uint32Array;
  readonly customerCount: number;
}

const TEST_SHARE = 0.2;
const ROWS_PER_CUSTOMER = 3.5;
/** Reading is ended by ending the process. */
const NEVER = AbortSignal.any([]);

/** @param rows transactions of each bank. @param holdout share of the other customers that only evaluate. */
export function simulatedData(
  contract: Contract,
  options: { sites: number; rows: number; seed: number; holdout: number },
): FederationData {
  const { sites, rows, seed, holdout } = options;
  const parts = Array.from({ length: sites }, (_, site) => {
    // Four profiles in turn, each bank with customers of its own.
    const bank = BANK_NAMES[site % BANK_NAMES.length];
    const own = seed + 1000 * Math.floor(site / BANK_NAMES.length);
    return splitBank(transactions(contract, bank, own, rows), contract, { seed: own, holdout, name: `bank ${site}` });
  });
  return { banks: parts, test: poolRows(parts.map(({ test }) => test)) };
}

function transactions(contract: Contract, bank: string, seed: number, rows: number): Rows {
  const { sizes } = layoutOf(contract);
  const customerCount = Math.max(1, Math.round(rows / ROWS_PER_CUSTOMER));
  const parse = createRowParser(contract, [...SIMULATED_COLUMNS]);
  const write = lineWriter({ bank });
  const bins = new Uint16Array(rows * sizes.length);
  const labels = new Uint8Array(rows);
  const customers = new Uint32Array(rows);
  let at = 0;
  for (const transaction of generateTransactions({ bank, seed, rows, customers: customerCount })) {
    const row = parse(write(transaction).split(','), at + 2);
    if ('issues' in row || row.label === null) {
      throw new RequestError('USAGE', 'The contract does not read the simulated transactions.', {
        where: contract.name,
        fix: 'Use the contract demo-transactions, or give --data.',
      });
    }
    bins.set(row.bins, at * sizes.length);
    labels[at] = row.label;
    customers[at] = transaction.customer;
    at++;
  }
  return { data: { rows, sizes, bins, labels }, customers, customerCount };
}

/**
 * One file for each site, or one file whose customers are dealt to all of them.
 * @throws ContractError where a file does not fit the contract; RequestError USAGE for another number of files.
 */
export async function fileData(
  contract: Contract,
  files: readonly string[],
  options: { sites: number; seed: number; holdout: number },
): Promise<FederationData> {
  const { sites, seed, holdout } = options;
  if (files.length !== 1 && files.length !== sites) {
    throw new RequestError('USAGE', `There are ${files.length} files for ${sites} sites.`, {
      where: '--data',
      fix: 'Give one file for each site, or one file that is dealt to all of them by customer.',
    });
  }
  const banks: Rows[] = [];
  for (const file of files) {
    const rows = await loadRows(contract, file, { maxRejected: 0, signal: NEVER });
    if (rows !== null) banks.push(rows);
  }
  const dealt = files.length === sites ? banks : deal(banks[0], sites, seed);
  const parts = dealt.map((rows, at) => splitBank(rows, contract, { seed, holdout, name: `bank ${at}` }));
  return { banks: parts, test: poolRows(parts.map(({ test }) => test)) };
}

function deal({ data, customers, customerCount }: Rows, sites: number, seed: number): Rows[] {
  const random = seededRandom(seed, 'dealing');
  const bankOf = Uint8Array.from({ length: customerCount }, () => random.below(sites));
  return Array.from({ length: sites }, (_, bank) => {
    const rows = rowsWhere(data.rows, (row) => bankOf[customers[row]] === bank);
    return { data: selectRows(data, rows), customers: customers.filter((who) => bankOf[who] === bank), customerCount };
  });
}

/** Test customers, hold-out and training, at most m records of a customer but in the test. */
function splitBank(
  { data, customers, customerCount }: Rows,
  contract: Contract,
  { seed, holdout, name }: { seed: number; holdout: number; name: string },
): SiteData & { test: BinnedData } {
  const random = seededRandom(seed, `${name} split`);
  const place = Float64Array.from({ length: customerCount }, () => random.uniform());
  const key = new Uint8Array(32);
  random.fill(key);
  const usable = boundContributions(Array.from(customers, String), key, contract.maxRecordsPerSubject);
  const held = TEST_SHARE + (1 - TEST_SHARE) * holdout;
  const test = rowsWhere(data.rows, (row) => place[customers[row]] < TEST_SHARE);
  const evaluating = usable.filter((row) => place[customers[row]] >= TEST_SHARE && place[customers[row]] < held);
  const training = usable.filter((row) => place[customers[row]] >= held);
  return {
    test: selectRows(data, test),
    holdout: selectRows(data, evaluating),
    training: selectRows(data, training),
  };
}

function rowsWhere(rows: number, isIn: (row: number) => boolean): number[] {
  return Array.from({ length: rows }, (_, row) => row).filter(isIn);
}
