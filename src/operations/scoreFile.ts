/**
 * Scores every row of a CSV file at a node, encrypted or in the clear: one result line an input row, in order.
 *
 * The file is read twice. The first time before anything is sent: its end, its columns and its number of rows are then
 * known, and a broken file costs nothing. The second time as the source of the stream; a content that is not the same
 * any more ends the run.
 * Limit: encrypted results that were under way when a process was killed are asked for and counted again by the run
 * that goes on, because an encryption is never made twice with the same randomness.
 */
import { createHash } from 'node:crypto';
import type { Client, LayoutName } from '../client/client.ts';
import type { Contract } from '../contract/contract.ts';
import { ClientError, ContractError, type FieldIssue, RequestError } from '../errors.ts';
import { readTransactions, type TransactionRow } from './readTransactions.ts';
import { type LineFormat, openResultsFile, openStandardOutput, type ResultLine, type Results } from './resultsFile.ts';
import { scoreClearStream } from './scoreClear.ts';

export interface FileScoring {
  client: Client;
  /** CSV, plain or gzip, with the columns of the contract of the node's champion. */
  input: string;
  /** File of the results; null: standard output. */
  out: string | null;
  scoring: 'encrypted' | 'clear';
  lines: LineFormat;
  /** Go on with the results file where it ends. */
  resume?: boolean | undefined;
  /** Of encrypted scoring; chosen when left out. */
  layout?: LayoutName | undefined;
  /** Most transactions of an encrypted request. */
  batch?: number | undefined;
  /** When aborted, no more rows are read; what is under way is finished and written. */
  stop?: AbortSignal | undefined;
  /** When aborted, what is under way is left. */
  cancel?: AbortSignal | undefined;
  onProgress?: ((progress: FileProgress) => void) | undefined;
}

export interface FileProgress {
  /** Rows of the file, and rows that have their line, those of an earlier run included. */
  rows: number;
  done: number;
  /** Bytes of bodies up and down, and repeated requests; of encrypted scoring only. */
  bytes: number;
  retries: number;
}

export interface FileReport {
  rows: number;
  /** Rows that an earlier run had done. */
  resumed: number;
  scored: number;
  invalid: number;
  /** False when the run was stopped before the last row. */
  complete: boolean;
  /** Hashes of the models that scored, in the order of their first row. */
  models: string[];
}

/** Requests in the clear that are under way at once. */
const CLEAR_IN_FLIGHT = 8;

interface Waiting {
  line: number;
  /** Of a row that is not sent. */
  issues?: readonly FieldIssue[];
}

/**
 * @throws what reading the file, the results file and the SDK throw; results that were there before are written. A
 *   refusal of the node says how to go on.
 */
export async function scoreFile(wish: FileScoring): Promise<FileReport> {
  const { client, input, out, scoring, lines, resume = false } = wish;
  const { contract, contractHash } = await championOf(client);
  const seen = await lookOver(contract, input, wish.stop);
  const results =
    out === null
      ? openStandardOutput(lines)
      : await openResultsFile(out, { input: seen.sha256, contractHash, scoring, lines }, resume);
  const run = openRun(wish, contract, seen, results);
  try {
    for await (const result of run.outcomes()) {
      run.settle(result);
      await results.ready();
    }
    run.settle();
  } catch (error) {
    throw await explained(error, wish, run.report());
  } finally {
    await results.close(run.report().complete);
  }
  return run.report();
}

type Outcome = Omit<Exclude<ResultLine, { issues: unknown }>, 'line'> | { issues: readonly FieldIssue[] };

function openRun(wish: FileScoring, contract: Contract, seen: Seen, results: Results) {
  const { client, input, stop, onProgress } = wish;
  /** Rows that were read and have no line yet, in order. */
  const waiting: Waiting[] = [];
  const models = new Set<string>();
  let [scored, invalid, bytes, retries] = [0, 0, 0, 0];
  const progress = () => onProgress?.({ rows: seen.rows, done: results.done + scored + invalid, bytes, retries });

  function writeRefused(): void {
    for (let next = waiting[0]; next?.issues !== undefined; next = waiting[0]) {
      waiting.shift();
      invalid++;
      results.write({ line: next.line, issues: next.issues });
    }
  }

  async function* source(): AsyncGenerator<TransactionRow, void, undefined> {
    let row = 0;
    let sha256: string | undefined;
    for await (const read of readTransactions(contract, input, { onContent: (hash) => (sha256 = hash) })) {
      if (stop?.aborted) return;
      row++;
      if (row <= results.done) {
        if (row === results.done && read.line !== results.lastLine) throw misfit(wish.out ?? input);
        continue;
      }
      if ('issues' in read) {
        waiting.push({ line: read.line, issues: read.issues });
        // At the front nothing would come that writes it.
        if (waiting.length === 1) writeRefused();
        continue;
      }
      waiting.push({ line: read.line });
      yield read;
    }
    if (sha256 !== seen.sha256) throw changed(input);
  }

  async function* outcomes(): AsyncGenerator<Outcome, void, undefined> {
    progress();
    if (wish.scoring === 'clear') {
      const keyed = mapped(source(), ({ line, transaction }) => ({
        transaction,
        idempotencyKey: keyOf(results.run, seen.sha256, line),
      }));
      for await (const reply of scoreClearStream(client, contract, keyed, CLEAR_IN_FLIGHT)) {
        if ('issues' in reply) yield reply;
        else {
          const { score, probability, decision, reasons, model } = reply;
          yield { score, probability, decision, reasons: reasons.map(({ code }) => code), model: model.hash };
        }
      }
      return;
    }
    const stream = client.scoreEncryptedStream(
      mapped(source(), ({ transaction }) => transaction),
      {
        onInvalid: 'report',
        ...(wish.layout !== undefined && { layout: wish.layout }),
        ...(wish.batch !== undefined && { batch: wish.batch }),
        ...(wish.cancel !== undefined && { signal: wish.cancel }),
        onProgress(traffic) {
          bytes = traffic.bytesUp + traffic.bytesDown;
          retries = traffic.retries;
          progress();
        },
      },
    );
    for await (const result of stream) {
      if ('issues' in result) yield { issues: result.issues };
      else {
        const { score, probability, decision, model } = result;
        yield { score, probability, decision, model: model.hash };
      }
    }
  }

  return {
    outcomes,
    /** Writes what is known of the rows at the front. */
    settle(outcome?: Outcome): void {
      writeRefused();
      if (outcome !== undefined) {
        // Safe: the stream gives one outcome, in order, for every transaction it was given.
        const { line } = waiting.shift()!;
        results.write({ line, ...outcome });
        if ('issues' in outcome) invalid++;
        else {
          scored++;
          models.add(outcome.model);
        }
        writeRefused();
      }
      progress();
    },
    report(): FileReport {
      const resumed = results.done;
      const complete = resumed + scored + invalid === seen.rows;
      return { rows: seen.rows, resumed, scored, invalid, complete, models: [...models] };
    },
  };
}

async function championOf(client: Client): Promise<{ contract: Contract; contractHash: string }> {
  const champion = (await client.models()).find(({ status }) => status === 'champion');
  if (champion !== undefined) return champion;
  throw new ClientError('SERVICE_REFUSED', 'the node has no model yet', {
    where: '/v1/models',
    serviceCode: 'NO_MODEL',
    fix: 'Try again when a model has been adopted.',
  });
}

interface Seen {
  rows: number;
  sha256: string;
}

/** The whole file once, before anything is sent. */
async function lookOver(contract: Contract, input: string, stop: AbortSignal | undefined): Promise<Seen> {
  let rows = 0;
  let sha256 = '';
  const onContent = (hash: string) => {
    sha256 = hash;
  };
  for await (const _ of readTransactions(contract, input, { onContent })) {
    if (stop?.aborted)
      throw new ClientError('CANCELLED', 'the run was stopped before anything was sent', { where: input });
    rows++;
  }
  return { rows, sha256 };
}

async function* mapped<T, U>(source: AsyncIterable<T>, change: (item: T) => U): AsyncGenerator<U, void, undefined> {
  for await (const item of source) yield change(item);
}

/** The same for the same row of the same file, in one run however often it is gone on with. */
function keyOf(run: string, input: string, line: number): string {
  return createHash('sha256').update(`veilrisk/score-file/1 ${run} ${input} ${line}`).digest('hex');
}

/** A refusal with how to go on. */
async function explained(error: unknown, wish: FileScoring, report: FileReport): Promise<unknown> {
  if (!(error instanceof ClientError)) return error;
  const done = report.resumed + report.scored + report.invalid;
  const room = error.serviceCode === 'VECTOR_LIMIT' ? await roomLeft(wish) : '';
  const goOn =
    wish.out === null
      ? `${done} of ${report.rows} rows were written; --out FILE would let a later run go on with --resume.`
      : `${done} of ${report.rows} rows are in ${wish.out}; run the same with --resume to go on.`;
  return new ClientError(error.code, error.message, {
    ...(error.where !== undefined && { where: error.where }),
    ...(error.status !== undefined && { status: error.status }),
    ...(error.serviceCode !== undefined && { serviceCode: error.serviceCode }),
    issues: error.issues,
    fix: [error.fix, room, goOn].filter(Boolean).join(' '),
    cause: error,
  });
}

/** A request is counted as a whole: what is left may be enough for a smaller one. */
async function roomLeft({ client, scoring }: FileScoring): Promise<string> {
  const usage = await client.usage().catch(() => []);
  const left = usage.find(({ model }) => model.status === 'champion')?.left ?? 0;
  if (left === 0 || scoring === 'clear') return '';
  return `The node still scores ${left}: --batch ${left} makes requests that small.`;
}

function misfit(path: string): RequestError {
  return new RequestError('USAGE', 'the last line of the results is of another row of the input', {
    where: path,
    fix: 'Name another results file, and score from the beginning.',
  });
}

function changed(path: string): ContractError {
  return new ContractError('FILE_UNREADABLE', 'the file changed while it was scored', {
    where: path,
    fix: 'Score a file that nobody writes to; the results so far are not of one file.',
  });
}
