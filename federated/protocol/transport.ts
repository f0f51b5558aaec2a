/**
 * The outbound gRPC connection: HTTP/2 over TLS 1.3 with certificates on both sides.
 *
 * The aggregator must show the very certificate the roster lists for it, byte for byte: no public authority, no name in it
 * and no other certificate of the consortium can stand in. The caller shows the certificate the roster lists for its
 * identity key (RFC 8446 section 4.4.2). Limit: whether a certificate was revoked in a later roster, only the aggregator
 * tells.
 */

import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { PeerCertificate } from 'node:tls';
import { type Client, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { FederationError } from '../../src/errors.ts';
import { Federation } from './generated/veilrisk_pb.js';
import type { IdentityKey } from './identity.ts';
import { memberWithKey, OPERATOR, type Roster } from './roster.ts';

/** Largest message either side reads, bytes. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 5_000;

export interface Connection {
  readonly federation: Client<typeof Federation>;
  /** Ends the connection at once; open calls fail. */
  close(): void;
}

/**
 * `url` overrides the roster's. Nothing is dialled until the first call.
 * @throws FederationError ROSTER_INVALID without an https URL; CERTIFICATE_REFUSED when the caller has no TLS key, or a
 *   certificate that is of another key, has expired, or is not valid yet by this machine's clock.
 */
export function connect(roster: Roster, url: string | undefined, identity: IdentityKey): Connection {
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
      ...ownCertificate(roster, identity),
      ca: [roster.authority],
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

/** Key and certificate a member shows. Throws CERTIFICATE_REFUSED. */
function ownCertificate(roster: Roster, identity: IdentityKey): { key: string; cert: string } {
  const member = memberWithKey(roster, identity.publicKey);
  const key = identity.tlsKey;
  if (member === undefined || key === undefined) {
    throw new FederationError('CERTIFICATE_REFUSED', 'There is no TLS key and certificate to show to the aggregator.', {
      where: member?.name ?? 'identity key',
      fix: 'Make a request with `veilrisk provision site`, have the operator sign it, and install his roster.',
    });
  }
  const certificate = new X509Certificate(member.certificate);
  if (!certificate.checkPrivateKey(createPrivateKey(key))) {
    throw new FederationError('CERTIFICATE_REFUSED', "The roster's certificate is for another TLS key than this one.", {
      where: member.name,
      fix: 'Install the newest roster with `veilrisk provision join`.',
    });
  }
  checkDates(member.name, certificate);
  return { key, cert: member.certificate };
}

/** Throws CERTIFICATE_REFUSED with the date when a certificate is not valid at `now`. */
export function checkDates(name: string, certificate: X509Certificate, now = new Date()): void {
  const { validFromDate, validToDate } = certificate;
  if (now > validToDate) {
    throw new FederationError('CERTIFICATE_REFUSED', `The certificate expired on ${day(validToDate)}.`, {
      where: name,
      fix:
        name === OPERATOR
          ? 'Renew it: `veilrisk provision rotate --operator`, and hand the new roster out.'
          : 'Rotate it: `veilrisk provision site --rotate`, then `veilrisk provision rotate` at the operator.',
    });
  }
  if (now < validFromDate) {
    throw new FederationError('CERTIFICATE_REFUSED', `The certificate is not valid before ${day(validFromDate)}.`, {
      where: name,
      fix: `Set the clock of this machine; it says ${day(now)}.`,
    });
  }
}

const DAY_MS = 86_400_000;

/** Whole days a certificate is still valid; negative when it has expired. */
export function daysLeft(certificate: string, now = new Date()): number {
  return Math.floor((new X509Certificate(certificate).validToDate.getTime() - now.getTime()) / DAY_MS);
}

const day = (date: Date) => date.toISOString().slice(0, 10);
