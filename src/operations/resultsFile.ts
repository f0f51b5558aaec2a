/**
 * Results of scoring a file: one line an input row, in order, and a file of them that a later run can go on with.
 *
 * Every result is written to the file as soon as it is there, so that of a killed process at most one unfinished line is
 * lost. Beside FILE, `FILE.resume` holds what the lines belong to (fingerprint of the input, contract, kind of scoring)
 * until all rows are done. A run that goes on cuts an unfinished last line off and counts the lines that are left.
 * Limit: two processes that write to the same file at once are not kept apart.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, createReadStream } from 'node:fs';
import { type FileHandle, open, readFile, rm, stat, truncate } from 'node:fs/promises';
import * as z from 'zod';
import { ContractError, type FieldIssue, RequestError, StoreError } from '../errors.ts';

export type ResultLine = { readonly line: number } & (
  | {
      readonly score: number;
      readonly probability: number;
      /** Absent when the node publishes no thresholds. */
      readonly decision?: string | undefined;
      /** Codes; in the clear only, because the node does not see what an encrypted score came from. */
      readonly reasons?: readonly string[] | undefined;
      /** Hash of the model that scored it: the champion may change between two rows. */
      readonly model: string;
    }
  | { readonly issues: readonly FieldIssue[] }
);

export type LineFormat = 'csv' | 'json';

const headSchema = z.strictObject({
  format: z.literal('veilrisk-results/1'),
  /** SHA-256 of the input's content after decompression. */
  input: z.string().regex(/^[0-9a-f]{64}$/),
  contractHash: z.string().regex(/^[0-9a-f]{64}$/),
  scoring: z.enum(['encrypted', 'clear']),
  lines: z.enum(['csv', 'json']),
  /** Of this run and those that go on with it; part of the idempotency keys. */
  run: z.string().regex(/^[0-9a-f]{32}$/),
});
/** What the lines of a results file belong to. */
export type ResultsHead = z.infer<typeof headSchema>;

export interface Results {
  readonly run: string;
  /** Rows that an earlier run has lines for, and the line number of the last of them; 0 and null in a new file. */
  readonly done: number;
  readonly lastLine: number | null;
  write(result: ResultLine): void;
  /** Waits while the reader of standard output is slower than the results. */
  ready(): Promise<void>;
  /** Syncs and closes. @param complete every row has its line: there is nothing to go on with */
  close(complete: boolean): Promise<void>;
}

const COLUMNS = 'line,score,probability,decision,reasons,model,issues';

export function formatLine(result: ResultLine, format: LineFormat): string {
  if (format === 'json') return `${JSON.stringify(result)}\n`;
  if ('issues' in result) {
    const issues = result.issues.map(({ field, rule }) => `${field}: ${rule}`).join('; ');
    return `${result.line},,,,,,${quoted(issues)}\n`;
  }
  const { line, score, probability, decision = '', reasons = [], model } = result;
  return `${line},${score},${probability},${decision},${quoted(reasons.join(' '))},${model},\n`;
}

/**
 * RFC 4180, section 2, without line breaks: a line is a result. These texts are the node's: one that a spreadsheet would
 * take for a formula gets an apostrophe before it (OWASP, "CSV Injection").
 */
function quoted(text: string): string {
  const flat = text.replace(/\p{Cc}+/gu, ' ').replace(/^(?=\s*[=+@-])/, "'");
  return /[",]/.test(flat) ? `"${flat.replaceAll('"', '""')}"` : flat;
}

/** Results to standard output; they cannot be gone on with. */
export function openStandardOutput(format: LineFormat, out: NodeJS.WritableStream = process.stdout): Results {
  let full = false;
  let failed: Error | undefined;
  // Such as EPIPE, when the reader has seen enough: the run ends, and nothing more is sent to the node.
  out.on('error', (cause: Error) => {
    failed = cause;
  });
  const put = (text: string) => {
    if (failed !== undefined) throw unread(failed);
    full = !out.write(text);
  };
  if (format === 'csv') put(`${COLUMNS}\n`);
  return {
    run: newRun(),
    done: 0,
    lastLine: null,
    write: (result) => put(formatLine(result, format)),
    async ready() {
      // Rejects with what the stream fails with.
      if (full && failed === undefined) await once(out, 'drain').catch(() => {});
      full = false;
      if (failed !== undefined) throw unread(failed);
    },
    async close() {},
  };
}

/**
 * @param resume go on with the file where it ends; when there is none it is begun
 * @throws StoreError ALREADY_EXISTS; RequestError USAGE when the file is not one of the same input and scoring;
 *   ContractError FILE_UNREADABLE
 */
export async function openResultsFile(
  path: string,
  wanted: Omit<ResultsHead, 'format' | 'run'>,
  resume: boolean,
): Promise<Results> {
  return writing(path, async () => {
    const headFile = `${path}.resume`;
    const there = await exists(path);
    if (there && !resume) {
      throw new StoreError('ALREADY_EXISTS', 'the results file exists and is not overwritten', {
        where: path,
        fix: 'Name another file, or go on with an interrupted run by --resume.',
      });
    }
    const known = resume ? await readHead(headFile) : undefined;
    if (there && known === undefined) {
      throw new RequestError('USAGE', 'there is no unfinished run to go on with', {
        where: headFile,
        fix: `${path} is complete, or of something else; name another file.`,
      });
    }
    const head: ResultsHead = { format: 'veilrisk-results/1', ...wanted, run: known?.run ?? newRun() };
    if (known !== undefined) requireSame(known, head, headFile);
    else await writeSynced(headFile, `${JSON.stringify(head)}\n`);
    const { done, lastLine, bytes } = there ? await readDone(path, head.lines) : { done: 0, lastLine: null, bytes: 0 };
    if (there) await truncate(path, bytes);
    const file = await open(path, 'a', 0o600);
    if (bytes === 0 && head.lines === 'csv') appendFileSync(file.fd, `${COLUMNS}\n`);
    return { run: head.run, done, lastLine, ...writer(file, path, headFile, head.lines) };
  });
}

function writer(
  file: FileHandle,
  path: string,
  headFile: string,
  format: LineFormat,
): Pick<Results, 'write' | 'ready' | 'close'> {
  return {
    write(result) {
      try {
        appendFileSync(file.fd, formatLine(result, format));
      } catch (cause) {
        throw unwritable(path, cause);
      }
    },
    async ready() {},
    close: (complete) =>
      writing(path, async () => {
        try {
          await file.sync();
        } finally {
          await file.close();
        }
        if (complete) await rm(headFile, { force: true });
      }),
  };
}

/** Complete lines of results, the line number of the last, and the bytes up to its end. */
async function readDone(
  path: string,
  format: LineFormat,
): Promise<{ done: number; lastLine: number | null; bytes: number }> {
  let lines = 0;
  let bytes = 0;
  let at = 0;
  let last = '';
  let open: Buffer[] = [];
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      last = Buffer.concat([...open, chunk.subarray(from, end)]).toString('utf8');
      if (lines === 0 && format === 'csv' && last !== COLUMNS) throw foreign(path);
      open = [];
      from = end + 1;
      lines++;
      bytes = at + from;
    }
    open.push(chunk.subarray(from));
    at += chunk.length;
  }
  const done = Math.max(0, format === 'csv' ? lines - 1 : lines);
  return { done, lastLine: done === 0 ? null : lineNumberOf(last, format, path), bytes };
}

function lineNumberOf(text: string, format: LineFormat, path: string): number {
  const digits = format === 'csv' ? /^(\d+),/.exec(text)?.[1] : /^\{"line":(\d+),/.exec(text)?.[1];
  if (digits === undefined) throw foreign(path);
  return Number(digits);
}

async function readHead(path: string): Promise<ResultsHead | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cause;
  }
  try {
    return headSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new RequestError('USAGE', 'the file of the interrupted run cannot be understood', {
      where: path,
      fix: 'Remove the results and this file, and score again.',
      cause,
    });
  }
}

const DIFFERENCES = {
  input: 'the input file has another content than the one it was begun with',
  contractHash: "the contract of the node's model has changed since it was begun",
  scoring: 'it was begun with the other of encrypted scoring and scoring in the clear',
  lines: 'it was begun with the other of CSV and JSON lines',
} as const;

function requireSame(known: ResultsHead, wanted: ResultsHead, path: string): void {
  // Safe: the names of the object's own literal.
  const names = Object.keys(DIFFERENCES) as (keyof typeof DIFFERENCES)[];
  const different = names.find((name) => known[name] !== wanted[name]);
  if (different === undefined) return;
  throw new RequestError('USAGE', `the interrupted run is of something else: ${DIFFERENCES[different]}`, {
    where: path,
    fix: 'Give what it was begun with, or another results file.',
  });
}

function foreign(path: string): RequestError {
  return new RequestError('USAGE', 'the file does not hold results of this command', {
    where: path,
    fix: 'Name another file.',
  });
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return false;
    throw cause;
  }
}

async function writing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw codeOf(cause).startsWith('E') ? unwritable(path, cause) : cause;
  }
}

function unwritable(path: string, cause: unknown): ContractError {
  return new ContractError('FILE_UNREADABLE', `the results file cannot be written (${codeOf(cause)})`, {
    where: path,
    fix: 'Check the folder, its rights and the room on the disk; then go on with --resume.',
    cause,
  });
}

function unread(cause: unknown): ContractError {
  return new ContractError('FILE_UNREADABLE', `the results cannot be written (${codeOf(cause)})`, {
    where: 'standard output',
    fix: 'Let its reader take all lines, or write to a file with --out.',
    cause,
  });
}

/** Of a failed system call; our own errors have codes too, and are no system calls. */
function codeOf(cause: unknown): string {
  if (typeof cause !== 'object' || cause === null || !('syscall' in cause) || !('code' in cause)) return '';
  return String(cause.code);
}

function newRun(): string {
  return randomBytes(16).toString('hex');
}
