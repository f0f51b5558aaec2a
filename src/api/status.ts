/**
 * Error code -> HTTP status, title and how much a caller may read. One exhaustive switch: a code added to
 * src/errors.ts without a line here does not compile.
 *
 * Source: RFC 9110 section 15 (status codes), RFC 9457 (problem details).
 */
import type { ErrorCode } from '../errors.ts';

export interface ProblemKind {
  /** HTTP status code, 400 to 599. */
  status: number;
  /** The same for every occurrence of the code (RFC 9457 section 3.1.3). */
  title: string;
  /**
   * Whether message, `where`, `fix` and `issues` of the error go out. False for what is the node's own affair: such a
   * message may name a file, a host or a table, which helps its operator in the log and a caller in nothing.
   */
  disclose: boolean;
  /** Seconds to wait, where trying again later can help; sent as Retry-After (RFC 9110 section 10.2.3). */
  retryAfter?: number;
}

const callers = (status: number, title: string): ProblemKind => ({ status, title, disclose: true });
const nodes = (title: string): ProblemKind => ({ status: 500, title, disclose: false });
const later = (title: string, retryAfter: number, disclose = true): ProblemKind => ({
  status: 503,
  title,
  disclose,
  retryAfter,
});

export function problemKind(code: ErrorCode): ProblemKind {
  switch (code) {
    // What the caller sent.
    case 'REQUEST_MALFORMED':
      return callers(400, 'The request cannot be read');
    case 'UNAUTHENTICATED':
      return callers(401, 'A valid API key is needed');
    case 'FORBIDDEN':
      return callers(403, 'This API key may not do that');
    case 'ROUTE_UNKNOWN':
      return callers(404, 'There is nothing at this address');
    case 'METHOD_NOT_ALLOWED':
      return callers(405, 'This address does not take this method');
    case 'REQUEST_TOO_SLOW':
      return callers(408, 'The request body comes too slowly');
    case 'REQUEST_TOO_LARGE':
      return callers(413, 'The request body is too large');
    case 'MEDIA_TYPE_UNSUPPORTED':
      return callers(415, 'The media type of the body is not taken here');
    case 'TRANSACTION_INVALID':
      return callers(422, 'The transaction is not in the form of the API');
    case 'RECORD_INVALID':
      return callers(422, 'The transaction does not fit the contract');
    case 'IDEMPOTENCY_CONFLICT':
      return callers(422, 'The idempotency key was used for another body');
    case 'KEY_UNKNOWN':
      return callers(404, 'The encryption key is not registered');
    case 'KEY_REVOKED':
      return callers(403, 'The encryption key was revoked');
    case 'KEY_EXPIRED':
      return callers(403, 'The encryption key has expired');
    case 'KEY_LIMIT':
      return callers(409, 'There are too many encryption keys');
    case 'VECTOR_LIMIT':
      return callers(429, 'The limit of scored vectors is reached');
    case 'REQUEST_REPLAYED':
      return callers(409, 'The encrypted request was answered too often');
    case 'NOT_FOUND':
      return callers(404, 'There is no such object');
    case 'ALREADY_EXISTS':
      return callers(409, 'The object exists already');
    case 'CONTRACT_HASH_MISMATCH':
      return callers(409, 'The request is for another contract');
    case 'MODEL_CONTRACT_MISMATCH':
      return callers(409, 'The request is for another model or contract');
    case 'FRAME_MISMATCH':
      return callers(409, 'The encrypted request is for another model, contract or key');
    case 'FRAME_MALFORMED':
    case 'CIPHERTEXT_MALFORMED':
    case 'CIPHERTEXT_PARAMETERS':
      return callers(400, 'The encrypted request is refused');
    case 'PUBLIC_KEY_MALFORMED':
    case 'PUBLIC_KEY_DEGENERATE':
      return callers(400, 'The public key is refused');
    case 'ENCRYPTION_INPUT':
      return callers(400, 'The encrypted request does not fit the model');

    // What passes with time.
    case 'NO_MODEL':
      return later('No model has been adopted yet', 30);
    case 'NOT_READY':
      return later('The node is not ready', 5);
    case 'POOL_FULL':
      return later('Encrypted scoring is at its limit', 1);
    case 'WORKER_TIMEOUT':
      return later('Encrypted scoring took too long', 5, false);
    case 'WORKER_FAILED':
      return later('Encrypted scoring failed', 5, false);
    case 'DATABASE_UNAVAILABLE':
      return later('The database does not answer', 5, false);

    // What no route's caller can cause or mend.
    case 'CONTRACT_INVALID':
    case 'FILE_UNREADABLE':
    case 'FILE_TRUNCATED':
    case 'FILE_HEADER_MISMATCH':
    case 'FILE_REJECTED':
    case 'FILE_OVERLAP':
      return nodes('A file of the node is wrong');
    case 'PRIVACY_PARAMETER':
    case 'BUDGET_EXHAUSTED':
    case 'LEDGER_MISMATCH':
    case 'RELEASE_REPLAYED':
      return nodes('The privacy ledger refused');
    case 'PRIVACY_VIOLATED':
    case 'AUDIT_INCONCLUSIVE':
      return nodes('A privacy audit failed');
    case 'MODEL_INVALID':
    case 'MODEL_SIGNATURE':
    case 'TRAINING_INPUT':
      return nodes('The model is wrong');
    case 'ENCRYPTION_PARAMETER':
      return nodes('The encryption is set up wrongly');
    case 'AUDIT_ENTRY_INVALID':
    case 'AUDIT_PROOF_INVALID':
    case 'AUDIT_SIGNATURE_INVALID':
    case 'AUDIT_NOTE_MALFORMED':
    case 'AUDIT_LOG_TAMPERED':
    case 'AUDIT_FILE_MALFORMED':
      return nodes('The audit log refused');
    case 'DATABASE_SCHEMA_NEWER':
    case 'DATABASE_IN_USE':
      return nodes('The database is set up wrongly');
    case 'MESSAGE_MALFORMED':
    case 'MESSAGE_SIGNATURE':
    case 'MESSAGE_REPLAYED':
    case 'SITE_UNKNOWN':
    case 'PLAN_UNKNOWN':
    case 'PLAN_REFUSED':
    case 'PLAN_STATE':
    case 'ROUND_CLOSED':
    case 'ROUND_MISMATCH':
    case 'QUORUM_LOST':
    case 'EPOCH_UNKNOWN':
    case 'ROSTER_INVALID':
    case 'CERTIFICATE_REFUSED':
    case 'LOG_UNKNOWN':
    case 'LOG_STALE':
    case 'LOG_INCONSISTENT':
    case 'AGGREGATOR_UNREACHABLE':
    case 'SECAGG_KEYS':
    case 'SECAGG_SHARES':
    case 'SECAGG_CONTEXT':
    case 'SECAGG_AGREEMENT':
    case 'SECAGG_THRESHOLD':
    case 'SECAGG_RANGE':
      return nodes('The federation refused');
    case 'SERVICE_UNREACHABLE':
    case 'SERVICE_REFUSED':
    case 'REPLY_MALFORMED':
    case 'KEY_FILE_MALFORMED':
    case 'PASSPHRASE_WRONG':
    case 'OPTION_INVALID':
    case 'CANCELLED':
      return nodes('Another service refused');
    case 'CONFIGURATION':
    case 'USAGE':
      return nodes('The node is configured wrongly');
    case 'INTERNAL':
      return nodes('The node failed');
    default:
      return unreachable(code);
  }
}

// A code from an error class that was made outside the type system still gets an answer, and the dullest one.
function unreachable(_code: never): ProblemKind {
  return nodes('The node failed');
}
