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

/** The FederationError behind a failed call; anything without one of our codes is AGGREGATOR_UNREACHABLE. */
export function fromConnectError(error: unknown): FederationError {
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
  return new FederationError('AGGREGATOR_UNREACHABLE', `The aggregator did not answer: ${connect.message}`, {
    fix: 'Check the URL, the network and that the roster holds the certificate the aggregator shows.',
    cause: connect,
  });
}
