/**
 * One aggregator process: gRPC over HTTP/2 with mutual TLS 1.3 (tls.ts), the clock that closes rounds, and a stop that loses nothing.
 *
 * Limit: no limit on the number of connections; the port belongs behind the consortium's firewall.
 */

import { createSecureServer, type ServerHttp2Session } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { FederationError } from '../../src/errors.ts';
import type { Log } from '../../src/log.ts';
import { Party } from '../protocol/envelope.ts';
import type { IdentityKey } from '../protocol/identity.ts';
import { AGGREGATOR, type Roster } from '../protocol/roster.ts';
import { grpcHandler } from './adapter.ts';
import { Deadlines } from './deadlines.ts';
import { type AggregatorEvent, type Desk, InFlight, Listeners, RecentWeights } from './desk.ts';
import { advancePlan } from './rounds.ts';
import { registerFederation } from './service.ts';
import { type Database, openDatabase } from './store/database.ts';
import { checkOwnCertificate, openAdmission, secureOptions } from './tls.ts';

const TICK_MS = 200;

export interface AggregatorOptions {
  roster: Roster;
  identity: IdentityKey;
  tls: { key: string; certificate: string };
  databaseUrl: string;
  host?: string;
  /** 0 takes a free port. */
  port: number;
  /** A proxy ends the members' TLS: envelopes of any member may come over any admitted connection. */
  behindProxy?: boolean;
  log: Log;
  onEvent?: (event: AggregatorEvent) => void;
}

export interface Aggregator {
  /** https URL with the port in use. */
  url: string;
  /** Ends every connection and the database client. Idempotent; safe at any moment, as is killing the process. */
  stop(): Promise<void>;
}

/** Throws ROSTER_INVALID when identity or certificate are not the roster's, or what opening database and port found. */
export async function startAggregator(options: AggregatorOptions): Promise<Aggregator> {
  const { roster, identity, tls, log, host = '127.0.0.1' } = options;
  const party = new Party(roster, AGGREGATOR, identity);
  if (roster.aggregator.certificate.trim() !== tls.certificate.trim()) {
    throw new FederationError('ROSTER_INVALID', 'The roster pins another TLS certificate.', {
      where: 'aggregator.certificate',
      fix: "Put this aggregator's certificate into the roster, and hand the roster out again.",
    });
  }
  checkOwnCertificate(tls.certificate);
  const database = await openDatabase(options.databaseUrl, identity.publicKey);
  const listeners = new Listeners();
  const desk: Desk = {
    ...{ database, party, log, listeners },
    inFlight: new InFlight(),
    weights: new RecentWeights(),
    deadlines: new Deadlines(),
    journal: null,
    announce(events) {
      for (const event of events) {
        options.onEvent?.(event);
        if (event.event === 'plan' && (event.state === 'completed' || event.state === 'aborted')) {
          desk.deadlines.forget(event.plan);
        }
      }
      if (events.length > 0) listeners.ring();
    },
  };
  const stopping = new AbortController();
  const admission = openAdmission(roster, { behindProxy: options.behindProxy ?? false });
  const server = createSecureServer(
    secureOptions(roster, tls),
    grpcHandler((router) => registerFederation(router, desk, stopping.signal), admission, log),
  );
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', (error) => log.debug({ err: error }, 'connection failed'));
  });
  server.on('tlsClientError', (error, socket) =>
    log.info({ err: error, from: socket.remoteAddress }, 'connection refused in the TLS handshake'),
  );
  let port: number;
  try {
    port = await listen(server, options.port, host);
  } catch (error) {
    await database.$disconnect();
    throw error;
  }
  const ticking = tick(desk, stopping.signal);
  let stopped: Promise<void> | undefined;
  const stop = async () => {
    stopping.abort();
    for (const session of sessions) session.destroy();
    await new Promise<void>((done) => server.close(() => done()));
    await ticking;
    // A query after the disconnection would silently open the database again.
    await desk.inFlight.close();
    await database.$disconnect();
  };
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    stop: () => {
      stopped ??= stop();
      return stopped;
    },
  };
}

/** Takes the steps that time alone makes due, and picks up plans another process or an earlier life left open. */
async function tick(desk: Desk, stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    try {
      for (const { id } of await openPlans(desk.database)) {
        await advancePlan(desk, id);
      }
    } catch (error) {
      if (!stopping.aborted) desk.log.error({ err: error }, 'could not advance a plan');
    }
    await sleep(TICK_MS, undefined, { signal: stopping }).catch(() => {});
  }
}

function openPlans(database: Database): Promise<{ id: string }[]> {
  return database.plan.findMany({ where: { endedAt: null }, select: { id: true }, orderBy: { createdAt: 'asc' } });
}

function listen(server: ReturnType<typeof createSecureServer>, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new FederationError('AGGREGATOR_UNREACHABLE', 'The port cannot be opened.', {
          where: `${host}:${port}`,
          fix: 'Choose another port, or stop the process that holds it.',
          cause,
        }),
      ),
    );
    server.listen(port, host, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}
