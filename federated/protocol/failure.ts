/**
 * Our error codes over gRPC: each FederationError becomes a Connect status with the stable code in the details (and in
 * the `veilrisk-code` trailer for people with a packet dump), and is rebuilt at the other end.
 *
 * Limit: failures are not signed; inside the pinned TLS channel only the aggregator can make one, and a site never
 * spends budget because of one.
 */

import { Code, ConnectError } from '@connectrpc/connect';
import { FederationError, type FederationErrorCode, VeilriskError } from '../../src/errors.ts';
import { FailureSchema } from './generated/veilrisk_pb.js';

const CODE_HEADER = 'veilrisk-code';

const STATUS: Record<FederationErrorCode, Code> = {
  MESSAGE_MALFORMED: Code.InvalidArgument,
  MESSAGE_SIGNATURE: Code.Unauthenticated,
  MESSAGE_REPLAYED: Code.AlreadyExists,
  SITE_UNKNOWN: Code.PermissionDenied,
  PLAN_UNKNOWN: Code.NotFound,
  PLAN_REFUSED: Code.FailedPrecondition,
  PLAN_STATE: Code.FailedPrecondition,
  ROUND_CLOSED: Code.FailedPrecondition,
  ROUND_MISMATCH: Code.FailedPrecondition,
  QUORUM_LOST: Code.Aborted,
  EPOCH_UNKNOWN: Code.FailedPrecondition,
  ROSTER_INVALID: Code.FailedPrecondition,
  CERTIFICATE_REFUSED: Code.Unauthenticated,
  LOG_UNKNOWN: Code.NotFound,
  LOG_STALE: Code.FailedPrecondition,
  LOG_INCONSISTENT: Code.FailedPrecondition,
  AGGREGATOR_UNREACHABLE: Code.Unavailable,
};

/** What the aggregator answers for anything a handler threw. Unexpected errors say nothing about their inside. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof FederationError) {
    return new ConnectError(error.message, STATUS[error.code], { [CODE_HEADER]: error.code }, [
      { desc: FailureSchema, value: { code: error.code, where: error.where ?? '', fix: error.fix ?? '' } },
    ]);
  }
  if (error instanceof VeilriskError) {
    // Contract, plan and database errors: the code is stable, the message names no customer value by house rule.
    return new ConnectError(error.message, Code.Internal, { [CODE_HEADER]: error.code }, [
      { desc: FailureSchema, value: { code: error.code, where: error.where ?? '', fix: error.fix ?? '' } },
    ]);
  }
  return new ConnectError('The aggregator failed inside; its log has the cause.', Code.Internal, {
    [CODE_HEADER]: 'INTERNAL',
  });
}

/**
 * The FederationError behind a failed call; anything without one of our codes is AGGREGATOR_UNREACHABLE.
 * @param url of the aggregator, where the caller knows it.
 */
export function fromConnectError(error: unknown, url?: string): FederationError {
  if (error instanceof FederationError) return error;
  const connect = ConnectError.from(error);
  for (const failure of connect.findDetails(FailureSchema)) {
    if (failure.code in STATUS) {
      // Safe: the line above checked that the string is one of the codes.
      return new FederationError(failure.code as FederationErrorCode, connect.rawMessage, {
        ...(failure.where === '' ? {} : { where: failure.where }),
        ...(failure.fix === '' ? {} : { fix: failure.fix }),
        cause: connect,
      });
    }
  }
  return handshakeFailure(connect) ?? unreachable(connect, url);
}

function unreachable(cause: ConnectError, url: string | undefined): FederationError {
  return new FederationError('AGGREGATOR_UNREACHABLE', `The aggregator did not answer: ${cause.message}`, {
    ...(url === undefined ? {} : { where: url }),
    fix: 'Check the URL, the network and that this party holds the roster the operator handed out last.',
    cause,
  });
}

/** What TLS said (RFC 8446 section 6.2), in a sentence; undefined when it was not about a certificate. */
const HANDSHAKE: Record<string, string> = {
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'The aggregator asks for a certificate of the consortium.',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'The aggregator does not know the authority that issued our certificate.',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'The aggregator says that our certificate has expired.',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'The aggregator refuses our certificate.',
  CERT_HAS_EXPIRED: "The aggregator's certificate has expired.",
  CERT_NOT_YET_VALID: "The aggregator's certificate is not valid yet by this machine's clock.",
};

function handshakeFailure(connect: ConnectError): FederationError | undefined {
  for (let cause: unknown = connect; isObject(cause); cause = cause.cause) {
    const said = typeof cause.code === 'string' ? HANDSHAKE[cause.code] : undefined;
    if (said === undefined) continue;
    return new FederationError('CERTIFICATE_REFUSED', said, {
      where: 'TLS handshake',
      fix: 'Check the clocks, and install the roster the operator handed out last with `veilrisk provision join`.',
      cause: connect,
    });
  }
  return undefined;
}

/** Not `instanceof Error`: what the runtime throws may come from another realm. */
function isObject(value: unknown): value is { code?: unknown; cause?: unknown } {
  return typeof value === 'object' && value !== null;
}
