/**
 * `veilrisk aggregator start`: database, server, and a clean end at SIGINT or SIGTERM; SIGKILL loses nothing but time.
 */

import { join } from 'node:path';
import type { LevelWithSilent } from 'pino';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { openLog } from '../../src/log.ts';
import type { AggregatorEvent } from './desk.ts';
import { openInstallation, readRoster } from './installation.ts';
import { startAggregator } from './server.ts';

export interface StartOptions {
  dataDir: string;
  roster: string;
  host: string;
  port: number;
  /** Without it an embedded PostgreSQL runs in the data directory. */
  databaseUrl: string | undefined;
  logLevel: LevelWithSilent;
  onEvent: (event: AggregatorEvent | { event: 'ready'; url: string }) => void;
}

/** Settles when a signal has ended the process's work. */
export async function runAggregator(options: StartOptions): Promise<void> {
  const { dataDir, host, port, onEvent } = options;
  const log = openLog('aggregator', options.logLevel);
  const roster = await readRoster(options.roster);
  const installation = await openInstallation(dataDir);
  const postgres =
    options.databaseUrl === undefined
      ? await startEmbeddedPostgres({ dataDir: join(dataDir, 'postgres'), log })
      : { url: options.databaseUrl, stop: async () => {} };
  const stopped = Promise.withResolvers<NodeJS.Signals>();
  process.once('SIGINT', stopped.resolve);
  process.once('SIGTERM', stopped.resolve);
  try {
    const databaseUrl = postgres.url;
    const running = await startAggregator({ roster, ...installation, host, port, log, databaseUrl, onEvent });
    log.info({ url: running.url, consortium: roster.consortium }, 'ready');
    onEvent({ event: 'ready', url: running.url });
    log.info({ signal: await stopped.promise }, 'stopping');
    await running.stop();
  } finally {
    await postgres.stop();
  }
}
