/**
 * `veilrisk aggregator init | roster | start | health`: the consortium operator's process.
 *
 * Standard output carries the progress lines (with --progress-json) and the results of init and health; the log goes to
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
  roster: string;
  host: string;
  port: number;
  databaseUrl?: string;
  progressJson?: boolean;
}

interface RosterFlags {
  consortium: string;
  aggregator: string;
  url?: string;
  minimumQuorum: number;
  out: string;
  rosterVersion: number;
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
    .command('init')
    .description('create identity, operator key and TLS certificate; print what the roster needs as JSON')
    .option('--data-dir <dir>', 'where keys and database live', DEFAULT_DATA_DIR)
    .option('--host <name...>', 'DNS names and IP addresses of the certificate', ['localhost', '127.0.0.1'])
    .addHelpText(
      'after',
      '\nExample:\n  $ veilrisk aggregator init --data-dir /var/lib/veilrisk --host agg.example.org',
    )
    .action(async ({ dataDir, host }: { dataDir: string; host: string[] }) => {
      const { initAggregator } = await import('./installation.ts');
      print(await initAggregator(dataDir, host));
    });
  aggregator
    .command('roster')
    .description('write the roster from what `aggregator init` and each `node init --json` printed')
    .requiredOption('--consortium <name>', 'name of the consortium')
    .requiredOption('--aggregator <file>', 'output of `aggregator init`')
    .option('--url <url>', 'where the sites reach the aggregator, https; else each node is told with --aggregator')
    .requiredOption('--minimum-quorum <count>', 'no plan may have a smaller quorum', countOption)
    .requiredOption('--out <file>', 'roster to write; an existing file is never replaced')
    .option('--roster-version <count>', 'raised with every change of the consortium', countOption, 1)
    .argument('<site...>', 'outputs of `node init --json`, one file a site')
    .addHelpText(
      'after',
      '\nExample:\n  $ veilrisk aggregator roster --consortium demo --aggregator aggregator.json \\\n' +
        '      --url https://agg.example.org:7443 --minimum-quorum 2 --out roster.json bank-a.json bank-b.json bank-c.json',
    )
    .action(async (siteFiles: string[], flags: RosterFlags) => {
      const { writeRoster } = await import('./rosterFile.ts');
      const { aggregator: aggregatorFile, rosterVersion: version, ...rest } = flags;
      const { roster, hash } = await writeRoster({ ...rest, aggregatorFile, version, siteFiles });
      process.stdout.write(`roster of ${roster.sites.length} sites written to ${flags.out}\nhash ${hash}\n`);
    });
  aggregator
    .command('start')
    .description('serve the sites of a roster until stopped')
    .requiredOption('--roster <file>', 'roster, JSON')
    .option('--data-dir <dir>', 'where keys and database live', DEFAULT_DATA_DIR)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on; 0 takes a free one', portOption, DEFAULT_PORT)
    .option('--database-url <url>', 'PostgreSQL instead of the embedded one (or VEILRISK_AGGREGATOR_DATABASE_URL)')
    .option('--progress-json', 'one JSON object a line on standard output for each event')
    .addHelpText(
      'after',
      '\nExample:\n  $ veilrisk aggregator start --data-dir /var/lib/veilrisk --roster roster.json --host 0.0.0.0',
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
    .option(
      '--data-dir <dir>',
      'whose certificate the aggregator must show, unless --roster is given',
      DEFAULT_DATA_DIR,
    )
    .option('--roster <file>', 'roster that pins the certificate; the aggregator must serve this very roster')
    .option('--aggregator <url>', "address of the aggregator instead of the roster's or this machine's")
    .option('--port <port>', `port on this machine (default: ${DEFAULT_PORT}, or the roster's address)`, portOption)
    .option('--json', 'print {url, consortium, protocol, rosterHash} as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  $ veilrisk aggregator health --data-dir /var/lib/veilrisk\n' +
        '  $ veilrisk aggregator health --roster roster.json --aggregator https://agg.example.org:7443',
    )
    .action(async ({ json, ...flags }: HealthFlags) => {
      const { checkHealth } = await import('./health.ts');
      const health = await checkHealth({ ...flags, defaultPort: DEFAULT_PORT });
      if (json) print(health);
      else process.stdout.write(`serving consortium ${health.consortium}, protocol ${health.protocol}\n`);
    });
}

function countOption(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('must be a whole number of at least 1.');
  return Number(text);
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
