/**
 * Scores held-out transactions over REST as a caller would: in the clear at every bank, and encrypted in both layouts
 * with the secret key on the caller's side only. The error of an encrypted score is its distance from the clear one.
 */
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { parse } from 'csv-parse';
import {
  type Client,
  type ClientOptions,
  createClient,
  createKeys,
  decryptLogitsForMeasurement,
  type Transaction,
} from '../../client/client.ts';
import { binRecord, type Contract } from '../../contract/contract.ts';
import { ClientError, RequestError } from '../../errors.ts';
import { logitOf, type Scorecard } from '../../learning/scorecard.ts';
import type { Bank, Consortium } from './consortium.ts';
import type { Supervisor } from './supervisor.ts';
import type { DemoView } from './view.ts';

const CLEAR_SCORES = 1000;
const ROW_SCORES = 40;
const COLUMN_SCORES = 256;

export interface DemoScores {
  encrypted: { rowMaxLogitError: number; columnMaxLogitError: number };
  latencyMs: { scoreP50: number; scoreEncryptedRowP50: number };
  /** One API key a bank, for --keep. */
  apiKeys: Map<string, string>;
}

export async function scoreEverything(options: {
  consortium: Consortium;
  supervisor: Supervisor;
  contract: Contract;
  /** What the banks adopted; only to measure the encrypted logits against it. */
  model: Scorecard;
  holdoutFile: string;
  view: DemoView;
}): Promise<DemoScores> {
  const { consortium, supervisor, contract, model, view } = options;
  const transactions = await readTransactions(contract, options.holdoutFile, CLEAR_SCORES);
  const apiKeys = new Map<string, string>();
  for (const { name, dataDir } of consortium.banks) {
    const args = [
      'apikey',
      'create',
      '--data-dir',
      dataDir,
      '--name',
      'demo',
      '--scopes',
      'score,keys,models',
      '--json',
    ];
    // Safe: the output of `apikey create --json`.
    apiKeys.set(name, (JSON.parse(await supervisor.run(`${name}-apikey`, args)) as { key: string }).key);
  }
  const secretKey = await createKeys('standard');
  const optionsOf = (bank: Bank): ClientOptions => ({ url: bank.url, apiKey: apiKeys.get(bank.name) ?? '', secretKey });
  const clients = consortium.banks.map((bank) => createClient(optionsOf(bank)));

  const clearMs: number[] = [];
  const decisions = { approve: 0, review: 0, decline: 0 };
  for (const [i, transaction] of transactions.entries()) {
    const started = performance.now();
    const scored = await clients[i % clients.length].score(transaction);
    clearMs.push(performance.now() - started);
    decisions[scored.decision]++;
    if (i % 25 === 0) view.progress(`${i} of ${transactions.length} scored`);
  }
  view.note(
    `${transactions.length} in the clear: ${decisions.approve} approved, ${decisions.review} to review, ${decisions.decline} declined`,
  );

  const caller = clients[0];
  await caller.registerKey();
  const rowMs: number[] = [];
  const rowCount = Math.min(ROW_SCORES, transactions.length);
  for (let i = 0; i < rowCount; i++) {
    const started = performance.now();
    await caller.scoreEncrypted([transactions[i]], { layout: 'row' });
    rowMs.push(performance.now() - started);
    view.progress(`${i} of ${rowCount} scored encrypted`);
  }
  const logits = transactions.map((transaction) => logitOf(model, binRecord(contract, transaction).bins));
  // The key pair of the demo is thrown away: only then may raw decodings be looked at.
  const measure = async (layout: 'row' | 'column', count: number): Promise<number> => {
    const measured = await decryptLogitsForMeasurement(optionsOf(consortium.banks[0]), transactions.slice(0, count), {
      layout,
    });
    const worst = measured.reduce((error, logit, i) => Math.max(error, Math.abs(logit - logits[i])), 0);
    view.note(`${count} encrypted in ${layout} layout, worst logit error ${worst.toExponential(1)}`);
    return worst;
  };
  const rowError = await measure('row', rowCount);
  const columnError = await measure('column', Math.min(COLUMN_SCORES, transactions.length));

  view.note(`a bad transaction: ${await refusalOf(caller, transactions[0], contract)}`);
  return {
    encrypted: { rowMaxLogitError: rowError, columnMaxLogitError: columnError },
    latencyMs: { scoreP50: median(clearMs), scoreEncryptedRowP50: median(rowMs) },
    apiKeys,
  };
}

/** Sends a transaction with a text where a number belongs, and tells how it was refused. */
async function refusalOf(client: Client, good: Transaction, contract: Contract): Promise<string> {
  const field = contract.fields.find(({ kind }) => kind === 'numeric') ?? contract.fields[0];
  try {
    await client.score({ ...good, [field.name]: 'not a number', surprise: 1 });
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    return `${error.serviceCode}: ${error.issues.map((issue) => `${issue.field} ${issue.rule}`).join('; ')}`;
  }
  throw new RequestError('INTERNAL', 'a transaction that does not fit the contract was scored', { where: field.name });
}

/** The first rows of a file as the JSON transactions a caller would send. */
async function readTransactions(contract: Contract, file: string, most: number): Promise<Transaction[]> {
  const { csv } = contract;
  const source = createReadStream(file);
  const parser = (file.endsWith('.gz') ? source.pipe(createGunzip()) : source).pipe(
    parse({
      delimiter: csv.delimiter,
      trim: csv.trim,
      columns: csv.header ? true : (csv.columns ?? false),
      skip_empty_lines: true,
      to: most,
    }),
  );
  const transactions: Transaction[] = [];
  // Safe: with `columns` the parser yields one object of strings a row.
  for await (const cells of parser as AsyncIterable<Record<string, string>>) {
    transactions.push(toTransaction(contract, cells));
  }
  return transactions;
}

function toTransaction(contract: Contract, cells: Readonly<Record<string, string>>): Transaction {
  const missing = new Set(contract.csv.missing);
  return Object.fromEntries(
    contract.fields.flatMap((field): [string, unknown][] => {
      if (field.kind === 'interaction') return [];
      const text = cells[field.name];
      if (text === undefined || missing.has(text)) return [[field.name, null]];
      if (field.kind === 'numeric') return [[field.name, Number(text)]];
      if (field.kind === 'boolean') return [[field.name, /^(1|true|yes)$/i.test(text)]];
      return [[field.name, text]];
    }),
  );
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
