/** `veilrisk score`: a CSV file of transactions scored at a node, encrypted or in the clear. */
import { SingleBar } from 'cli-progress';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { createClient } from '../client/client.ts';
import type { Settings } from '../config.ts';
import { RequestError } from '../errors.ts';
import { openSecretKey } from '../operations/callerKeys.ts';
import { type FileReport, type FileScoring, scoreFile } from '../operations/scoreFile.ts';
import {
  PASSPHRASE_HELP,
  passphraseFlag,
  passphraseOf,
  SERVICE_HELP,
  type ServiceFlags,
  serviceFlags,
  serviceOf,
} from './callerOptions.ts';
import { integerOption } from './options.ts';

interface ScoreFlags extends ServiceFlags {
  encrypted?: boolean;
  key?: string;
  passphraseFile?: string;
  out: string;
  layout?: 'row' | 'column';
  batch?: number;
  resume?: boolean;
  json?: boolean;
}

const INTERRUPTED = 130;

export function registerScore(program: Command, settings: Settings): void {
  passphraseFlag(
    serviceFlags(
      program
        .command('score')
        .description('score every row of a CSV file at a node; with --encrypted it sees neither rows nor scores'),
    ),
  )
    .argument('<file>', "CSV file, plain or gzip, with the columns of the node's contract; others are ignored")
    .option('--encrypted', 'encrypt on this machine; without it the rows are sent as they are')
    .option('--key <file>', 'key file of a registered key, with --encrypted')
    .option('--out <file>', 'results, one line a row in order; "-" is standard output', '-')
    .option('--resume', 'go on with an interrupted --out file')
    .addOption(new Option('--layout <layout>', 'of encrypted requests (default: by size)').choices(['row', 'column']))
    .option('--batch <number>', 'most rows of an encrypted request (default: as many as fit)', batchOption)
    .option('--json', 'results as JSON lines instead of CSV')
    .addHelpText(
      'after',
      `
The results are CSV with the columns line, score, probability, decision, reasons, model, issues. A row that breaks the
contract is not sent: its line has the fields and rules it breaks, never a value. The whole file is read before anything
is sent, so a broken file costs nothing. Ctrl-C finishes and writes what is under way; a second Ctrl-C does not wait.

With --out FILE every result is written as it comes. FILE.resume stays beside it until all rows are done; after a crash,
Ctrl-C or a spent limit the same command with --resume goes on behind the last complete line. A row in the clear is then
never decided twice; encrypted rows that were under way when the process died are counted again.

Exit status: 0 all rows scored, 1 some are invalid or the run failed, 2 wrong usage, ${INTERRUPTED} stopped by Ctrl-C.
${SERVICE_HELP}${PASSPHRASE_HELP}

Examples:
  $ veilrisk score transactions.csv.gz --encrypted --key caller.vrk --url https://scores.bank.example --out scores.csv
  $ veilrisk score transactions.csv.gz --encrypted --key caller.vrk --out scores.csv --resume
  $ veilrisk score transactions.csv --url http://127.0.0.1:8080 --api-key-file api-key --json`,
    )
    .action(async (input: string, flags: ScoreFlags) => {
      const out = flags.out === '-' ? null : flags.out;
      requireTogether(flags, out);
      const service = await serviceOf(flags, settings);
      const secretKey = flags.key === undefined ? undefined : await openKey(flags.key, flags, settings);
      const { stop, cancel, release } = interrupts();
      const bar = openBar();
      try {
        const report = await scoreFile({
          client: createClient({ ...service, ...(secretKey !== undefined && { secretKey }) }),
          ...{ input, out, stop, cancel },
          scoring: flags.encrypted ? 'encrypted' : 'clear',
          lines: flags.json ? 'json' : 'csv',
          ...{ resume: flags.resume, layout: flags.layout, batch: flags.batch },
          onProgress: bar.update,
        }).finally(bar.stop);
        process.stderr.write(describe(report, bar.seconds(), out));
        process.exitCode = report.complete ? (report.invalid > 0 ? 1 : 0) : INTERRUPTED;
      } finally {
        release();
      }
    });
}

/** An option that would do nothing is a mistake. */
function requireTogether(flags: ScoreFlags, out: string | null): void {
  const refuse = (what: string, where: string, fix: string) => {
    throw new RequestError('USAGE', what, { where, fix });
  };
  if (flags.encrypted && flags.key === undefined) {
    refuse('encrypted scoring needs a key file', '--key', 'give --key FILE; `veilrisk keys create FILE` makes one');
  }
  for (const [name, value] of [
    ['--key', flags.key],
    ['--layout', flags.layout],
    ['--batch', flags.batch],
    ['--passphrase-file', flags.passphraseFile],
  ] as const) {
    if (!flags.encrypted && value !== undefined) {
      refuse(
        `${name} is of encrypted scoring`,
        name,
        'give --encrypted too, or leave it out to send the rows readable',
      );
    }
  }
  if (flags.resume && out === null) {
    refuse('standard output cannot be gone on with', '--resume', 'give the --out file of the interrupted run');
  }
}

async function openKey(file: string, flags: ScoreFlags, settings: Settings) {
  return openSecretKey(file, await passphraseOf(flags, settings, { what: file, twice: false }));
}

/** The first Ctrl-C lets what is under way end, the second does not. */
function interrupts(): { stop: AbortSignal; cancel: AbortSignal; release: () => void } {
  const stop = new AbortController();
  const cancel = new AbortController();
  const onSignal = () => {
    if (stop.signal.aborted) {
      cancel.abort();
      return;
    }
    stop.abort();
    process.stderr.write('\nstopping: what is under way is finished and written; again to leave it\n');
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const release = () => {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  };
  return { stop: stop.signal, cancel: cancel.signal, release };
}

function openBar() {
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  let first: number | undefined;
  const bar = new SingleBar({
    format: 'scoring  {bar}  {value}/{total} rows  {rate} rows/s  {megabytes} MB  {retries} retries',
    barsize: 24,
    hideCursor: true,
    stream: process.stderr,
  });
  const update: NonNullable<FileScoring['onProgress']> = ({ rows, done, bytes, retries }) => {
    const payload = (rate: number) => ({ rate: Math.round(rate), megabytes: (bytes / 1e6).toFixed(1), retries });
    if (first === undefined) {
      first = done;
      bar.start(rows, done, payload(0));
    } else bar.update(done, payload((done - first) / seconds()));
  };
  return { update, seconds, stop: () => bar.stop() };
}

function describe(report: FileReport, seconds: number, out: string | null): string {
  const { rows, resumed, scored, invalid, complete, models } = report;
  const count = (value: number) => value.toLocaleString('en-US');
  const lines = [`${count(scored)} scored, ${count(invalid)} invalid in ${seconds.toFixed(1)} s`];
  if (resumed > 0) lines.push(`${count(resumed)} rows had been done before`);
  if (invalid > 0) lines.push('the lines of invalid rows name the fields and the rules they break');
  if (models.length > 1) lines.push(`the node changed its model: ${models.length} models scored, see the column model`);
  if (!complete) {
    const left = count(rows - resumed - scored - invalid);
    lines.push(`stopped: ${left} of ${count(rows)} rows are left${out === null ? '' : '; go on with --resume'}`);
  }
  return `${lines.join('\n')}\n`;
}

function batchOption(text: string): number {
  const value = integerOption(text);
  if (value < 1) throw new InvalidArgumentError('It must be at least 1.');
  return value;
}
