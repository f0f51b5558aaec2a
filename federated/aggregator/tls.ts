/**
 * Who may connect: TLS 1.3 with a client certificate of the consortium's authority, and of these only the ones the roster
 * lists for a member now.
 *
 * The handshake itself refuses plain connections and ones without a certificate, with an expired one, or one of another
 * authority. A certificate of the consortium that was revoked or replaced is told so, in a reply to whatever it asks, and gets
 * nothing else. Each request's envelope must be signed by the member whose certificate opened the connection, unless a
 * proxy in front has ended the members' TLS (`behindProxy`); signatures hold either way. Revocation is by roster alone:
 * there is no CRL and no OCSP. Dates are judged by this machine's clock.
 */

import { X509Certificate } from 'node:crypto';
import type { Http2Session, SecureServerOptions } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { createContextKey, type Interceptor } from '@connectrpc/connect';
import { FederationError } from '../../src/errors.ts';
import { toConnectError } from '../protocol/failure.ts';
import { AGGREGATOR, certificateFingerprint, membersOf, type Roster } from '../protocol/roster.ts';
import { checkDates } from '../protocol/transport.ts';

export function secureOptions(roster: Roster, tls: { key: string; certificate: string }): SecureServerOptions {
  return {
    ...{ key: tls.key, cert: tls.certificate, ca: [roster.authority] },
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    settings: { maxConcurrentStreams: 64 },
  };
}

/** The connection's peer as the certificate names it, handed to the routes. */
export interface Peer {
  /** Site id, "operator", or "aggregator" for its own health check. */
  name: string;
}

export const PEER = createContextKey<Peer | undefined>(undefined);

export interface Admission {
  /** Throws CERTIFICATE_REFUSED when the roster does not list the connection's certificate, or its time is over. */
  peerOf(session: Http2Session | undefined): Peer;
  /** Refuses an envelope of another member than the connection's. */
  readonly interceptor: Interceptor;
}

export function openAdmission(roster: Roster, options: { behindProxy?: boolean } = {}): Admission {
  const names = new Map(
    membersOf(roster).map(({ name, certificate }) => [certificateFingerprint(certificate), name] as const),
  );
  const revoked = new Set(roster.revoked);
  const check = (message: unknown, peer: Peer | undefined) => {
    if (options.behindProxy || !isSigned(message)) return;
    if (peer === undefined || peer.name === AGGREGATOR || message.signer !== peer.name) {
      throw toConnectError(
        new FederationError(
          'CERTIFICATE_REFUSED',
          'The message is signed by another member than the connection is of.',
          {
            where: 'signer',
            fix: 'Send each message over a connection with the certificate of its signer.',
          },
        ),
      );
    }
  };
  // A connection keeps its certificate; reading it out of OpenSSL for each request costs more than the rest of the check.
  const admitted = new WeakMap<Http2Session, Peer & { certificate: X509Certificate }>();
  const identify = ({ socket }: Http2Session) => {
    const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
    if (certificate === undefined) throw refused('The connection shows no certificate.', 'connection');
    const fingerprint = certificate.fingerprint256.replaceAll(':', '').toLowerCase();
    const name = names.get(fingerprint);
    const subject = /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? 'certificate';
    if (revoked.has(fingerprint)) throw refused('The certificate was revoked or replaced.', subject);
    if (name === undefined) throw refused('The certificate is not in the roster in force.', subject);
    return { name, certificate };
  };
  return {
    peerOf(session) {
      if (session === undefined) throw refused('The connection is gone.', 'connection');
      let known = admitted.get(session);
      if (known === undefined) {
        known = identify(session);
        admitted.set(session, known);
      }
      checkDates(known.name, known.certificate);
      return known;
    },
    interceptor: (next) => async (request) => {
      const peer = request.contextValues.get(PEER);
      if (!request.stream) {
        check(request.message, peer);
        return next(request);
      }
      async function* checked<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
        for await (const message of messages) {
          check(message, peer);
          yield message;
        }
      }
      return next({ ...request, message: checked(request.message) });
    },
  };
}

/** Throws CERTIFICATE_REFUSED when the aggregator's own certificate cannot be served with: expired, or not valid yet. */
export function checkOwnCertificate(certificate: string): void {
  checkDates(AGGREGATOR, new X509Certificate(certificate));
}

function isSigned(message: unknown): message is { signer: string } {
  return typeof message === 'object' && message !== null && 'signer' in message;
}

function refused(message: string, where: string): FederationError {
  return new FederationError('CERTIFICATE_REFUSED', message, {
    where,
    fix: 'Install the roster the operator handed out last; ask him if this member is not in it.',
  });
}
