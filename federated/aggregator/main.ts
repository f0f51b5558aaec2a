/**
 * `veilrisk aggregator init | start`: the consortium operator's process.
 *
 * Standard output carries the progress lines (with --progress-json) and the result of init; the log goes to standard
 * error. SIGINT and SIGTERM end it cleanly; SIGKILL loses nothing but time.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { LevelWithSilent } from 'pino';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { FederationError, RequestError } from '../../src/errors.ts';
import { openLog } from '../../src/log.ts';
import { parseRoster, type Roster } from '../protocol/roster.ts';
import { initAggregator, openInstallation } from './installation.ts';
import { startAggregator } from './server.ts';

/** The part of the process's settings the aggregator uses. */
export interface AggregatorSettings {
  VEILRISK_AGGREGATOR_DATABASE_URL?: string | undefined;
  VEILRISK_LOG_LEVEL: LevelWithSilent;
}

interface StartOptions {
  dataDir: string;
  roster: string;
  host: string;
  port: string;
  databaseUrl?: string;
  progressJson?: boolean;
}

const DEFAULT_DATA_DIR = '.veilrisk/aggregator';

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
      print(await initAggregator(dataDir, host));
    });
  aggregator
    .command('start')
    .description('serve the sites of a roster until stopped')
    .requiredOption('--roster <file>', 'roster, JSON')
    .option('--data-dir <dir>', 'where keys and database live', DEFAULT_DATA_DIR)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on; 0 takes a free one', '8443')
    .option('--database-url <url>', 'PostgreSQL instead of the embedded one (or VEILRISK_AGGREGATOR_DATABASE_URL)')
    .option('--progress-json', 'one JSON object a line on standard output for each event')
    .addHelpText(
      'after',
      '\nExample:\n  $ veilrisk aggregator start --data-dir /var/lib/veilrisk --roster roster.json --host 0.0.0.0 --port 8443',
    )
    .action((options: StartOptions) => start(options, settings));
}

async function start(options: StartOptions, settings: AggregatorSettings): Promise<void> {
  const log = openLog('aggregator', settings.VEILRISK_LOG_LEVEL);
  const port = Number(options.port);
  if (!/^\d+$/.test(options.port) || port > 65_535) {
    throw new RequestError('USAGE', 'The port must be an integer from 0 to 65535.', { where: '--port' });
  }
  const roster = await readRoster(options.roster);
  const installation = await openInstallation(options.dataDir);
  const given = options.databaseUrl ?? settings.VEILRISK_AGGREGATOR_DATABASE_URL;
  const postgres =
    given === undefined ? await startEmbeddedPostgres({ dataDir: join(options.dataDir, 'postgres'), log }) : undefined;
  const stopped = Promise.withResolvers<NodeJS.Signals>();
  process.once('SIGINT', stopped.resolve);
  process.once('SIGTERM', stopped.resolve);
  try {
    const running = await startAggregator({
      ...{ roster, ...installation, host: options.host, port, log },
      databaseUrl: given ?? postgres!.url,
      onEvent: (event) => options.progressJson && print(event),
    });
    log.info({ url: running.url, consortium: roster.consortium }, 'ready');
    if (options.progressJson) print({ event: 'ready', url: running.url });
    log.info({ signal: await stopped.promise }, 'stopping');
    await running.stop();
  } finally {
    await postgres?.stop();
  }
}

async function readRoster(path: string): Promise<Roster> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new FederationError('ROSTER_INVALID', 'The roster cannot be read as JSON.', { where: path, cause });
  }
  return parseRoster(json);
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
