/**
 * `veilrisk aggregator start | health | log`: the consortium operator's process. `veilrisk provision` makes its keys.
 *
 * Standard output carries the progress lines (with --progress-json) and the result of health; the log goes to
 * standard error. Each action is loaded when it runs: a health check every few seconds must not load a database client.
 */

import { type Command, InvalidArgumentError } from 'commander';
import type { LevelWithSilent } from 'pino';

/** The part of the process's settings the aggregator uses. */
export interface AggregatorSettings {
  VEILRISK_AGGREGATOR_DATABASE_URL?: string | undefined;
  VEILRISK_LOG_LEVEL: LevelWithSilent;
}

interface StartFlags {
  dataDir: string;
  roster?: string;
  host: string;
  port: number;
  databaseUrl?: string;
  behindProxy?: boolean;
  progressJson?: boolean;
}

interface LogFlags {
  dataDir: string;
  roster?: string;
  databaseUrl?: string;
  json?: boolean;
}

interface HealthFlags {
  dataDir: string;
  roster?: string;
  aggregator?: string;
  port?: number;
  json?: boolean;
}

const DEFAULT_DATA_DIR = '.veilrisk/aggregator';
const DEFAULT_PORT = 7443;

export function registerAggregator(program: Command, settings: AggregatorSettings): void {
  const aggregator = program.command('aggregator').description("the consortium operator's process");
  aggregator
    .command('start')
    .description('serve the sites of a roster until stopped')
    .option('--data-dir <dir>', 'where keys, roster and database live', DEFAULT_DATA_DIR)
    .option('--roster <file>', 'signed roster instead of the one `provision join` accepted; not older')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on; 0 takes a free one', portOption, DEFAULT_PORT)
    .option('--database-url <url>', 'PostgreSQL instead of the embedded one (or VEILRISK_AGGREGATOR_DATABASE_URL)')
    .option('--behind-proxy', "a proxy with the aggregator's TLS key ends the members' TLS and dials on with it")
    .option('--progress-json', 'one JSON object a line on standard output for each event')
    .addHelpText(
      'after',
      '\nA newer roster is taken up while it runs, or at SIGHUP at once.\n\n' +
        'Example:\n  $ veilrisk aggregator start --data-dir /var/lib/veilrisk --host 0.0.0.0',
    )
    .action(async ({ databaseUrl, progressJson, ...flags }: StartFlags) => {
      const { runAggregator } = await import('./start.ts');
      await runAggregator({
        ...flags,
        databaseUrl: databaseUrl ?? settings.VEILRISK_AGGREGATOR_DATABASE_URL,
        logLevel: settings.VEILRISK_LOG_LEVEL,
        onEvent: (event) => progressJson && print(event),
      });
    });
  aggregator
    .command('health')
    .description('ask a running aggregator whether it serves; exit code 0 when it does')
    .option('--data-dir <dir>', "the aggregator's or a bank's: whose certificate is shown", DEFAULT_DATA_DIR)
    .option('--roster <file>', 'signed roster instead of the accepted one; the aggregator must serve this very roster')
    .option('--aggregator <url>', "address of the aggregator instead of the roster's or this machine's")
    .option('--port <port>', `port on this machine (default: ${DEFAULT_PORT}, or the roster's address)`, portOption)
    .option('--json', 'print {url, consortium, protocol, rosterHash} as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  $ veilrisk aggregator health --data-dir /var/lib/veilrisk\n' +
        '  $ veilrisk aggregator health --data-dir bank-a --aggregator https://agg.example.org:7443',
    )
    .action(async ({ json, ...flags }: HealthFlags) => {
      const { checkHealth } = await import('./health.ts');
      const health = await checkHealth({ ...flags, defaultPort: DEFAULT_PORT });
      if (json) print(health);
      else process.stdout.write(`serving consortium ${health.consortium}, protocol ${health.protocol}\n`);
    });
  registerLog(aggregator, settings);
}

function registerLog(aggregator: Command, settings: AggregatorSettings): void {
  const log = aggregator
    .command('log')
    .description("the aggregator's own log: rosters, plans, rounds and models")
    .addHelpText('after', '\nExample:\n  $ veilrisk aggregator log export --data-dir agg --out aggregator.log');
  const place = ({ databaseUrl, ...flags }: LogFlags) => ({
    ...flags,
    databaseUrl: databaseUrl ?? settings.VEILRISK_AGGREGATOR_DATABASE_URL,
    logLevel: settings.VEILRISK_LOG_LEVEL,
  });
  logFlags(log.command('export'))
    .description('write the whole log, with its signed and cosigned checkpoints, to a text file')
    .requiredOption('--out <file>', 'where to; the file appears complete or not at all')
    .option('--json', 'print {entries, verifierKey, witnesses} as JSON')
    .addHelpText(
      'after',
      '\nVerify it anywhere with `veilrisk audit verify`; ask the banks themselves for their witness keys.\n\n' +
        'Example:\n  $ veilrisk aggregator log export --data-dir /var/lib/veilrisk --out aggregator.log',
    )
    .action(async (flags: LogFlags & { out: string }) => {
      const { exportLog } = await import('./logCommand.ts');
      const exported = await exportLog(place(flags), flags.out);
      if (flags.json) return print(exported);
      process.stdout.write(`${exported.entries} entries written to ${flags.out}\n`);
      process.stdout.write(`verifier key: ${exported.verifierKey}\n`);
      for (const witness of exported.witnesses) process.stdout.write(`witness key:  ${witness}\n`);
    });
  logFlags(log.command('check'))
    .description('recompute the log from the rows in the database')
    .option('--json', 'print {origin, verifierKey, size, root, checkpoint} as JSON')
    .addHelpText(
      'after',
      '\nEnds with an error that names the first bad index when a row was changed, removed, moved or added.\n\n' +
        'Example:\n  $ veilrisk aggregator log check --data-dir /var/lib/veilrisk',
    )
    .action(async (flags: LogFlags) => {
      const { checkLog } = await import('./logCommand.ts');
      const report = await checkLog(place(flags));
      if (flags.json) print(report);
      else process.stdout.write(`${report.origin}: ${report.size} entries, root ${report.root}\n`);
    });
}

function logFlags(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'where keys, roster and database live', DEFAULT_DATA_DIR)
    .option('--roster <file>', 'signed roster instead of the accepted one')
    .option('--database-url <url>', 'PostgreSQL instead of the embedded one (or VEILRISK_AGGREGATOR_DATABASE_URL)');
}

function portOption(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) {
    throw new InvalidArgumentError('The port must be an integer from 0 to 65535.');
  }
  return Number(text);
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
