/**
 * The outbound gRPC connection: HTTP/2 over TLS 1.3 to an aggregator whose exact certificate the roster pins.
 *
 * The certificate is the only trust anchor, and the leaf must be that certificate byte for byte: no public authority,
 * and no name in it, can vouch for another one. Limit: the client shows no certificate of its own; messages are signed.
 */

import { X509Certificate } from 'node:crypto';
import type { PeerCertificate } from 'node:tls';
import { type Client, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { FederationError } from '../../src/errors.ts';
import { Federation } from './generated/veilrisk_pb.js';
import type { Roster } from './roster.ts';

/** The part of a roster that a connection needs. */
export interface Pinned {
  aggregator: Pick<Roster['aggregator'], 'certificate' | 'url'>;
}

/** Largest message either side reads, bytes. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 5_000;

export interface Connection {
  readonly federation: Client<typeof Federation>;
  /** Ends the connection at once; open calls fail. */
  close(): void;
}

/** `url` overrides the roster's. Nothing is dialled until the first call. */
export function connect(roster: Pinned, url?: string): Connection {
  const baseUrl = url ?? roster.aggregator.url;
  if (baseUrl === undefined || !URL.canParse(baseUrl) || new URL(baseUrl).protocol !== 'https:') {
    throw new FederationError('ROSTER_INVALID', "The aggregator's URL must be an https URL.", {
      where: 'aggregator.url',
      fix: 'Give a URL, or a roster that holds one.',
    });
  }
  const pinned = new X509Certificate(roster.aggregator.certificate);
  const sessions = new Http2SessionManager(
    baseUrl,
    { pingIntervalMs: PING_INTERVAL_MS, pingTimeoutMs: PING_TIMEOUT_MS },
    {
      ca: [roster.aggregator.certificate],
      minVersion: 'TLSv1.3',
      checkServerIdentity: (_host: string, shown: PeerCertificate) =>
        pinned.raw.equals(shown.raw)
          ? undefined
          : new FederationError(
              'AGGREGATOR_UNREACHABLE',
              'The aggregator shows a certificate the roster does not pin.',
            ),
    },
  );
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager: sessions,
    readMaxBytes: MAX_MESSAGE_BYTES,
    writeMaxBytes: MAX_MESSAGE_BYTES,
    acceptCompression: [],
  });
  return { federation: createClient(Federation, transport), close: () => sessions.abort() };
}
