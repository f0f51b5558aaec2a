/**
 * The closed sets of error codes, one class per room.
 *
 * A code is stable: callers and operators may match on it. `where` names the field, file, line or object that was
 * wrong; `fix` says what to do. None of the three may hold a customer's value or a secret.
 */

export interface ErrorDetail {
  /** Field, file, line, route or object that was wrong, without any customer value. */
  where?: string;
  /** What the reader can do about it. */
  fix?: string;
  /** One line per wrong field, when there are several. */
  issues?: readonly FieldIssue[];
  cause?: unknown;
}

export interface FieldIssue {
  field: string;
  rule: string;
}

export abstract class VeilriskError extends Error {
  abstract readonly code: ErrorCode;
  readonly where: string | undefined;
  readonly fix: string | undefined;
  readonly issues: readonly FieldIssue[];

  constructor(message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = new.target.name;
    this.where = detail.where;
    this.fix = detail.fix;
    this.issues = detail.issues ?? [];
  }
}

export type ContractErrorCode =
  | 'CONTRACT_INVALID'
  | 'CONTRACT_HASH_MISMATCH'
  | 'RECORD_INVALID'
  | 'FILE_UNREADABLE'
  | 'FILE_TRUNCATED'
  | 'FILE_HEADER_MISMATCH'
  | 'FILE_REJECTED'
  | 'FILE_OVERLAP';
export class ContractError extends VeilriskError {
  readonly code: ContractErrorCode;
  constructor(code: ContractErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type PrivacyErrorCode =
  | 'PRIVACY_PARAMETER'
  | 'BUDGET_EXHAUSTED'
  | 'LEDGER_MISMATCH'
  | 'RELEASE_REPLAYED'
  | 'PRIVACY_VIOLATED'
  | 'AUDIT_INCONCLUSIVE';
export class PrivacyError extends VeilriskError {
  readonly code: PrivacyErrorCode;
  constructor(code: PrivacyErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type LearningErrorCode = 'MODEL_INVALID' | 'MODEL_CONTRACT_MISMATCH' | 'TRAINING_INPUT' | 'MODEL_SIGNATURE';
export class LearningError extends VeilriskError {
  readonly code: LearningErrorCode;
  constructor(code: LearningErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type EncryptionErrorCode =
  | 'FRAME_MALFORMED'
  | 'FRAME_MISMATCH'
  | 'CIPHERTEXT_MALFORMED'
  | 'CIPHERTEXT_PARAMETERS'
  | 'PUBLIC_KEY_MALFORMED'
  | 'PUBLIC_KEY_DEGENERATE'
  | 'ENCRYPTION_PARAMETER'
  | 'ENCRYPTION_INPUT'
  | 'WORKER_TIMEOUT'
  | 'WORKER_FAILED'
  | 'POOL_FULL';
export class EncryptionError extends VeilriskError {
  readonly code: EncryptionErrorCode;
  constructor(code: EncryptionErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

/** Of threads that compute what is no one's request; the encryption pool answers requests and has its own. */
export type WorkerErrorCode = 'WORKER_FAILED';
export class WorkerError extends VeilriskError {
  readonly code: WorkerErrorCode;
  constructor(code: WorkerErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type AuditErrorCode =
  | 'AUDIT_ENTRY_INVALID'
  | 'AUDIT_PROOF_INVALID'
  | 'AUDIT_SIGNATURE_INVALID'
  | 'AUDIT_NOTE_MALFORMED'
  | 'AUDIT_LOG_TAMPERED'
  | 'AUDIT_FILE_MALFORMED';
export class AuditError extends VeilriskError {
  readonly code: AuditErrorCode;
  constructor(code: AuditErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type StoreErrorCode =
  | 'DATABASE_UNAVAILABLE'
  | 'DATABASE_SCHEMA_NEWER'
  | 'DATABASE_IN_USE'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'IDEMPOTENCY_CONFLICT';
export class StoreError extends VeilriskError {
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type FederationErrorCode =
  | 'MESSAGE_MALFORMED'
  | 'MESSAGE_SIGNATURE'
  | 'MESSAGE_REPLAYED'
  | 'SITE_UNKNOWN'
  | 'PLAN_UNKNOWN'
  | 'PLAN_REFUSED'
  | 'PLAN_STATE'
  | 'ROUND_CLOSED'
  | 'ROUND_MISMATCH'
  | 'QUORUM_LOST'
  | 'EPOCH_UNKNOWN'
  | 'ROSTER_INVALID'
  | 'CERTIFICATE_REFUSED'
  | 'LOG_UNKNOWN'
  | 'LOG_STALE'
  | 'LOG_INCONSISTENT'
  | 'AGGREGATOR_UNREACHABLE';
export class FederationError extends VeilriskError {
  readonly code: FederationErrorCode;
  constructor(code: FederationErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type SecaggErrorCode =
  | 'SECAGG_KEYS'
  | 'SECAGG_SHARES'
  | 'SECAGG_CONTEXT'
  | 'SECAGG_AGREEMENT'
  | 'SECAGG_THRESHOLD'
  | 'SECAGG_RANGE';
/** Of secure aggregation: a step that would break its promise, or cannot be done. */
export class SecaggError extends VeilriskError {
  readonly code: SecaggErrorCode;
  constructor(code: SecaggErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type ClientErrorCode =
  | 'SERVICE_UNREACHABLE'
  | 'SERVICE_REFUSED'
  | 'REPLY_MALFORMED'
  | 'KEY_FILE_MALFORMED'
  | 'PASSPHRASE_WRONG'
  | 'OPTION_INVALID'
  | 'CANCELLED';
export class ClientError extends VeilriskError {
  readonly code: ClientErrorCode;
  /** HTTP status of the service's refusal; undefined when no reply came. */
  readonly status: number | undefined;
  /** The service's own code from its problem document, such as `KEY_UNKNOWN`. */
  readonly serviceCode: string | undefined;
  constructor(
    code: ClientErrorCode,
    message: string,
    detail: ErrorDetail & { status?: number; serviceCode?: string } = {},
  ) {
    super(message, detail);
    this.code = code;
    this.status = detail.status;
    this.serviceCode = detail.serviceCode;
  }
}

export type RequestErrorCode =
  | 'REQUEST_MALFORMED'
  | 'REQUEST_TOO_LARGE'
  | 'REQUEST_TOO_SLOW'
  | 'MEDIA_TYPE_UNSUPPORTED'
  | 'TRANSACTION_INVALID'
  | 'UNAUTHENTICATED'
  | 'FORBIDDEN'
  | 'ROUTE_UNKNOWN'
  | 'METHOD_NOT_ALLOWED'
  | 'NO_MODEL'
  | 'KEY_UNKNOWN'
  | 'KEY_REVOKED'
  | 'KEY_EXPIRED'
  | 'KEY_LIMIT'
  | 'VECTOR_LIMIT'
  | 'REQUEST_REPLAYED'
  | 'NOT_READY'
  | 'CONFIGURATION'
  | 'USAGE'
  | 'INTERNAL';
export class RequestError extends VeilriskError {
  readonly code: RequestErrorCode;
  constructor(code: RequestErrorCode, message: string, detail?: ErrorDetail) {
    super(message, detail);
    this.code = code;
  }
}

export type ErrorCode =
  | ContractErrorCode
  | PrivacyErrorCode
  | LearningErrorCode
  | EncryptionErrorCode
  | WorkerErrorCode
  | AuditErrorCode
  | StoreErrorCode
  | FederationErrorCode
  | SecaggErrorCode
  | ClientErrorCode
  | RequestErrorCode;
