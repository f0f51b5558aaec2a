/**
 * `veilrisk aggregator start`: database, server, and a clean end at SIGINT or SIGTERM; SIGKILL loses nothing but time.
 *
 * A newer roster of the same operator is taken up while it runs (looked for every two seconds, and at SIGHUP): the server
 * stops and starts again with it on the same port, so that connections of members it no longer lists are cut at once, and
 * plans begun under the old one end with ROSTER_INVALID. A roster it cannot serve is refused and the old one kept.
 */

import { join } from 'node:path';
import type { LevelWithSilent } from 'pino';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { type Log, openLog } from '../../src/log.ts';
import { rosterHash } from '../protocol/roster.ts';
import { daysLeft } from '../protocol/transport.ts';
import { memberFiles, rememberRoster } from '../provision/membership.ts';
import { nextRoster } from '../provision/watch.ts';
import type { AggregatorEvent } from './desk.ts';
import { type Installation, openInstallation } from './installation.ts';
import { startAggregator } from './server.ts';
import { checkOwnCertificate } from './tls.ts';

export interface StartOptions {
  dataDir: string;
  /** File to serve, and to watch, instead of the data directory's. */
  roster?: string;
  host: string;
  port: number;
  behindProxy?: boolean;
  /** Without it an embedded PostgreSQL runs in the data directory. */
  databaseUrl: string | undefined;
  logLevel: LevelWithSilent;
  onEvent: (event: AggregatorEvent | ReadyEvent) => void;
}

type ReadyEvent =
  | { event: 'ready'; url: string; roster: number }
  /** A newer roster is in force. */
  | { event: 'roster'; version: number; rosterHash: string };

const WARN_DAYS = 30;

/** Settles when a signal has ended the process's work. */
export async function runAggregator(options: StartOptions): Promise<void> {
  const { dataDir, host, onEvent } = options;
  const log = openLog('aggregator', options.logLevel);
  let installation = await open(options);
  warn(installation, log);
  const postgres =
    options.databaseUrl === undefined
      ? await startEmbeddedPostgres({ dataDir: join(dataDir, 'postgres'), log })
      : { url: options.databaseUrl, stop: async () => {} };
  const stopping = new AbortController();
  const stop = (signal: NodeJS.Signals) => {
    log.info({ signal }, 'stopping');
    stopping.abort();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const hangups = bell('SIGHUP');
  const serve = (port: number) => {
    const { signedRoster, identity, tls } = installation;
    const common = { host, port, log, onEvent, databaseUrl: postgres.url, behindProxy: options.behindProxy ?? false };
    return startAggregator({ roster: signedRoster.roster, signedRoster, identity, tls, ...common });
  };
  try {
    let running = await serve(options.port);
    try {
      const { consortium, version } = installation.signedRoster.roster;
      log.info({ url: running.url, consortium, roster: version }, 'ready');
      onEvent({ event: 'ready', url: running.url, roster: version });
      for (;;) {
        const next = await nextRoster(installation.signedRoster, {
          file: options.roster ?? memberFiles(dataDir).roster,
          read: async () => (await open(options)).signedRoster,
          refused: (error) => log.error({ err: error }, 'a changed roster is refused; the old one stays in force'),
          ...{ signal: stopping.signal, look: hangups },
        });
        if (next === null) break;
        installation = await open(options);
        warn(installation, log);
        await running.stop();
        running = await serve(Number(new URL(running.url).port));
        const { roster } = installation.signedRoster;
        log.info({ roster: roster.version, sites: roster.sites.length }, 'a newer roster is in force');
        onEvent({ event: 'roster', version: roster.version, rosterHash: rosterHash(roster) });
      }
    } finally {
      await running.stop();
    }
  } finally {
    await postgres.stop();
  }
}

/** Throws what `openInstallation` does, and CERTIFICATE_REFUSED when the certificate cannot be served with now. */
async function open({ dataDir, roster }: StartOptions): Promise<Installation> {
  const installation = await openInstallation(dataDir, roster);
  checkOwnCertificate(installation.tls.certificate);
  await rememberRoster(dataDir, installation.signedRoster);
  return installation;
}

function warn({ tls }: Installation, log: Log): void {
  const days = daysLeft(tls.certificate);
  if (days < WARN_DAYS) log.warn({ days }, "the aggregator's certificate expires soon; rotate it");
}

/** Each call waits for the next time the signal comes. */
function bell(signal: NodeJS.Signals): () => Promise<void> {
  let rung = Promise.withResolvers<void>();
  process.on(signal, () => {
    rung.resolve();
    rung = Promise.withResolvers<void>();
  });
  return () => rung.promise;
}
