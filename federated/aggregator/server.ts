/**
 * One aggregator process: gRPC over HTTP/2 with mutual TLS 1.3 (tls.ts), the clock that closes rounds, and a stop that loses nothing.
 *
 * Limit: no limit on the number of connections; the port belongs behind the consortium's firewall.
 */

import { randomUUID } from 'node:crypto';
import { createSecureServer } from 'node:http2';
import type { Socket } from 'node:net';
import { FederationError } from '../../src/errors.ts';
import type { Log } from '../../src/log.ts';
import { Party } from '../protocol/envelope.ts';
import type { IdentityKey } from '../protocol/identity.ts';
import { AGGREGATOR, type Roster } from '../protocol/roster.ts';
import { grpcHandler } from './adapter.ts';
import { Boards } from './boards.ts';
import { Deadlines } from './deadlines.ts';
import { type AggregatorEvent, type Desk, InFlight, Listeners } from './desk.ts';
import { Driver } from './driver.ts';
import { EarlyAgreements } from './earlyAgreements.ts';
import { RecentStates, RecentWeights } from './kept.ts';
import { Leases } from './lease.ts';
import { type AggregatorLog, openAggregatorLog } from './log.ts';
import { MaskedSums } from './maskedSums.ts';
import { Presence } from './presence.ts';
import { registerFederation } from './service.ts';
import { type Database, openDatabase } from './store/database.ts';
import { MessageStore } from './store/messages.ts';
import { type News, Notifications } from './store/notifications.ts';
import { checkOwnCertificate, openAdmission, secureOptions } from './tls.ts';
import { Vectors } from './vectors.ts';

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
  /** The roster as the operator signed it, for sites that ask. */
  signedRoster?: object;
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
  const journal = await openJournal(options, database);
  const name = randomUUID();
  const listeners = new Listeners();
  const stopping = new AbortController();
  const desk: Desk = {
    ...{ process: name, database, party, log, listeners },
    boards: new Boards(database, log),
    messages: new MessageStore(database.pool, name),
    vectors: new Vectors(database),
    earlyAgreements: new EarlyAgreements(database),
    sums: new MaskedSums(),
    leases: new Leases(database, name),
    presence: new Presence(database, name),
    inFlight: new InFlight(),
    weights: new RecentWeights(),
    states: new RecentStates(),
    deadlines: new Deadlines(),
    journal,
    signedRoster: options.signedRoster ?? null,
    poke: (planId) => driver.poke(planId),
    announce(events) {
      for (const event of events) {
        options.onEvent?.(event);
        if (event.event === 'plan' && (event.state === 'completed' || event.state === 'aborted')) {
          for (const kept of [desk.deadlines, desk.vectors, desk.earlyAgreements, desk.states, desk.sums])
            kept.forget(event.plan);
        }
      }
    },
  };
  const driver = new Driver(desk, stopping.signal);
  desk.boards.onChange((planId) => {
    listeners.ring();
    driver.poke(planId);
  });
  const admission = openAdmission(roster, { behindProxy: options.behindProxy ?? false });
  const server = createSecureServer(
    secureOptions(roster, tls),
    grpcHandler((router) => registerFederation(router, desk, stopping.signal), admission, log),
  );
  server.on('session', (session) => {
    session.on('error', (error) => log.debug({ err: error }, 'connection failed'));
  });
  // Sockets and not sessions: a stop must not wait for a stranger in the middle of a handshake either.
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', (error, socket) =>
    log.info({ err: error, from: socket.remoteAddress }, 'connection refused in the TLS handshake'),
  );
  let port: number;
  try {
    port = await listen(server, options.port, host);
  } catch (error) {
    await database.close();
    throw error;
  }
  await desk.boards.refreshAll();
  const notifications = new Notifications(database.url, name, newsFor(desk, driver), log);
  const driving = driver.run();
  let stopped: Promise<void> | undefined;
  const stop = async () => {
    stopping.abort();
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((done) => server.close(() => done()));
    await driving;
    await notifications.close();
    // A query after the disconnection would fail, or open the database again.
    await desk.inFlight.close();
    await journal.close();
    await database.close();
  };
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    stop: () => {
      stopped ??= stop();
      return stopped;
    },
  };
}

async function openJournal({ identity, roster, log }: AggregatorOptions, database: Database): Promise<AggregatorLog> {
  try {
    return await openAggregatorLog({ pool: database.pool, identity, roster, log });
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** What other processes on the database report. */
function newsFor(desk: Desk, driver: Driver): News {
  const look = (reading: Promise<unknown>) => {
    reading.catch((error) => desk.log.warn({ err: error }, 'could not read what another process reported'));
  };
  const presence = async () => {
    if (await desk.presence.read()) driver.pokeAll();
  };
  return {
    plan: (planId) => look(desk.boards.refresh(planId)),
    presence: () => look(presence()),
    everything: () => look(Promise.all([desk.boards.refreshAll(), presence()])),
  };
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
