/**
 * Scores held-out transactions over REST as a caller would, by the SDK: in the clear at every bank, and encrypted in both
 * layouts with the secret key on the caller's side only, in a key file. The error of an encrypted score is its distance
 * from the clear one. At the end the key is replaced, and the new one revoked.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
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
import { createKeyFile, openSecretKey } from '../callerKeys.ts';
import { readTransactions } from '../readTransactions.ts';
import type { Bank, Consortium } from './consortium.ts';
import type { Supervisor } from './supervisor.ts';
import type { DemoView } from './view.ts';

const CLEAR_SCORES = 1000;
const ROW_SCORES = 40;
const COLUMN_SCORES = 256;
// A full column at the preset standard: more would show nothing else and take seconds.
const STREAMED_SCORES = 4096;

export interface DemoScores {
  encrypted: {
    rowMaxLogitError: number;
    columnMaxLogitError: number;
    /** Transactions of one stream, and how many a second, with encryption and decryption. */
    streamed: number;
    streamedPerSecond: number;
  };
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
  const heldOut = await firstTransactions(contract, options.holdoutFile, STREAMED_SCORES);
  const transactions = heldOut.slice(0, CLEAR_SCORES);
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
  const keyFile = join(consortium.workspace, 'caller.vrk');
  const passphrase = randomBytes(16).toString('hex');
  await createKeyFile(keyFile, 'standard', passphrase);
  const secretKey = await openSecretKey(keyFile, passphrase);
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
  view.note(`key ${secretKey.keyId.slice(0, 16)}… made in a file under a passphrase, read again and registered`);
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
  const stream = await streamed(caller, heldOut, view);
  await replaceAndRevoke(caller, transactions[0], view);

  view.note(`a bad transaction: ${await refusalOf(caller, transactions[0], contract)}`);
  return {
    encrypted: { rowMaxLogitError: rowError, columnMaxLogitError: columnError, ...stream },
    latencyMs: { scoreP50: median(clearMs), scoreEncryptedRowP50: median(rowMs) },
    apiKeys,
  };
}

/** All transactions through one stream, and what the node then counts for this caller. */
async function streamed(
  caller: Client,
  transactions: readonly Transaction[],
  view: DemoView,
): Promise<{ streamed: number; streamedPerSecond: number }> {
  const started = performance.now();
  let count = 0;
  for await (const result of caller.scoreEncryptedStream(transactions, {
    onInvalid: 'report',
    onProgress: ({ scored }) => view.progress(`${scored} of ${transactions.length} scored in a stream`),
  })) {
    if (!('issues' in result)) count++;
  }
  const perSecond = (1000 * count) / (performance.now() - started);
  view.note(`${count} encrypted in a stream, ${Math.round(perSecond)} a second with encryption and decryption`);
  const meter = (await caller.usage()).find(({ model }) => model.status === 'champion');
  if (meter === undefined || meter.vectors < count) {
    throw new RequestError('INTERNAL', 'the meter counts less than was scored', { where: '/v1/usage' });
  }
  const figure = (value: number) => value.toLocaleString('en');
  view.note(`metered: ${figure(meter.vectors)} of ${figure(meter.limit)} vectors under this model`);
  return { streamed: count, streamedPerSecond: perSecond };
}

/** The key is replaced; the new one scores, is revoked, and is refused. */
async function replaceAndRevoke(caller: Client, transaction: Transaction, view: DemoView): Promise<void> {
  const { key, replaced } = await caller.rotateKey(await createKeys('standard'), { graceHours: 1 });
  await caller.scoreEncrypted([transaction]);
  view.note(`replaced by key ${key.keyId.slice(0, 16)}…; the old one works until ${replaced.expiresAt}`);
  await caller.revokeKey();
  try {
    await caller.scoreEncrypted([transaction]);
  } catch (error) {
    if (!(error instanceof ClientError) || error.serviceCode !== 'KEY_REVOKED') throw error;
    view.note(`revoked: ${error.serviceCode}: ${error.message}`);
    return;
  }
  throw new RequestError('INTERNAL', 'a request under a revoked key was answered', { where: key.keyId });
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

/** The first rows of a file that can be read, as the JSON transactions a caller would send. */
async function firstTransactions(contract: Contract, file: string, most: number): Promise<Transaction[]> {
  const transactions: Transaction[] = [];
  for await (const row of readTransactions(contract, file)) {
    if (!('issues' in row)) transactions.push(row.transaction);
    if (transactions.length === most) break;
  }
  return transactions;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
