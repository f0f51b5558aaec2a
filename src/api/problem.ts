/**
 * Any thrown value -> RFC 9457 problem details. The body holds a stable `code`, what was wrong and where, never a stack,
 * a statement, a path or a customer's value.
 *
 * Source: RFC 9457 section 3; `type` is a URN of the code, so that nobody expects a page behind it.
 */
import type { ErrorRequestHandler, RequestHandler, Response } from 'express';
import { type ErrorCode, type FieldIssue, RequestError, VeilriskError } from '../errors.ts';
import type { NodeContext } from '../operations/context.ts';
import { problemKind } from './status.ts';

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  /** The request id, which finds the line in the node's log. */
  instance: string;
  where?: string;
  fix?: string;
  issues?: FieldIssue[];
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

/** More issues than this say nothing new to a reader and let a small request ask for a large reply. */
const MOST_ISSUES = 100;

export function problemOf(error: VeilriskError, requestId: string): Problem {
  const kind = problemKind(error.code);
  const problem: Problem = {
    type: `urn:veilrisk:problem:${error.code.toLowerCase().replaceAll('_', '-')}`,
    title: kind.title,
    status: kind.status,
    detail: kind.disclose ? error.message : `${kind.title}. The request id finds the reason in the node's log.`,
    code: error.code,
    instance: `urn:veilrisk:request:${requestId}`,
  };
  if (kind.disclose) {
    if (error.where !== undefined) problem.where = error.where;
    if (error.fix !== undefined) problem.fix = error.fix;
    if (error.issues.length > 0)
      problem.issues = error.issues.slice(0, MOST_ISSUES).map(({ field, rule }) => ({ field, rule }));
  }
  return problem;
}

/** The status and type that Express and body-parser put on the errors they throw themselves. */
interface HttpError {
  status?: unknown;
  type?: unknown;
}

/** Turns what Express, body-parser and unknown code throw into one of our codes. */
export function asVeilriskError(thrown: unknown): VeilriskError {
  if (thrown instanceof VeilriskError) return thrown;
  // Safe: both members are optional and unknown.
  const { status, type } = (typeof thrown === 'object' && thrown !== null ? thrown : {}) as HttpError;
  if (typeof status === 'number' && status >= 400 && status < 500) {
    if (status === 413)
      return new RequestError('REQUEST_TOO_LARGE', 'The body is larger than this route takes.', { cause: thrown });
    if (status === 415) {
      const fix = 'Send the body without Content-Encoding and as UTF-8.';
      return new RequestError('MEDIA_TYPE_UNSUPPORTED', 'The encoding of the body is not taken here.', {
        fix,
        cause: thrown,
      });
    }
    const what =
      type === 'request.aborted' || type === 'request.size.invalid'
        ? 'The body ended early.'
        : 'The request cannot be read.';
    return new RequestError('REQUEST_MALFORMED', what, { cause: thrown });
  }
  return new RequestError('INTERNAL', 'The node failed.', { cause: thrown });
}

export const unknownRoute: RequestHandler = () => {
  throw new RequestError('ROUTE_UNKNOWN', 'There is nothing at this address.', {
    fix: 'See /openapi.json for the routes.',
  });
};

/** 405 with the Allow header RFC 9110 section 15.5.6 asks for. */
export function onlyMethods(allow: string): RequestHandler {
  return (_request, response) => {
    response.set('Allow', allow);
    throw new RequestError('METHOD_NOT_ALLOWED', `This address takes ${allow} only.`);
  };
}

function sendProblem(response: Response, error: VeilriskError, requestId: string): void {
  const problem = problemOf(error, requestId);
  const { retryAfter } = problemKind(error.code);
  if (retryAfter !== undefined) response.set('Retry-After', String(retryAfter));
  if (problem.status === 401) {
    const presented = response.req.headers.authorization !== undefined;
    response.set(
      'WWW-Authenticate',
      presented ? 'Bearer realm="veilrisk", error="invalid_token"' : 'Bearer realm="veilrisk"',
    );
  }
  // Of what the API key may do (RFC 6750 section 3.1); a revoked encryption key is refused with 403 too.
  if (problem.code === 'FORBIDDEN')
    response.set('WWW-Authenticate', 'Bearer realm="veilrisk", error="insufficient_scope"');
  // A refused body may still be on its way: reading up to 64 MB only to throw it away is work an attacker would like.
  if (!response.req.complete) response.set('Connection', 'close');
  response.status(problem.status).type(PROBLEM_MEDIA_TYPE).send(JSON.stringify(problem));
}

export function problemHandler(context: Pick<NodeContext, 'log'>): ErrorRequestHandler {
  return (thrown: unknown, _request, response, next) => {
    const error = asVeilriskError(thrown);
    const requestId: string = response.locals.requestId;
    response.locals.code = error.code;
    if (problemKind(error.code).status >= 500) {
      context.log.error({ requestId, code: error.code, error: loggable(error) }, 'request failed');
    }
    if (response.headersSent) {
      next(thrown);
      return;
    }
    sendProblem(response, error, requestId);
  };
}

type Thrown = { name?: unknown; code?: unknown; stack?: unknown };

/**
 * What the log may hold of a failure: the names, messages of our own classes, and stack frames. The message of a foreign
 * error is left out, because a driver may quote the values of the statement that failed.
 */
function loggable(error: VeilriskError): Record<string, unknown> {
  const { cause } = error;
  // Safe: every member is optional and unknown.
  const { name, code, stack } = (typeof cause === 'object' && cause !== null ? cause : {}) as Thrown;
  return {
    name: error.name,
    message: error.message,
    ...(cause !== undefined && {
      cause: {
        name,
        // Error codes of Node, PostgreSQL, Prisma and ours; never a sentence.
        ...(typeof code === 'string' && /^[A-Z0-9_]{2,40}$/.test(code) && { code }),
        ...(cause instanceof VeilriskError && { message: cause.message }),
        ...(typeof stack === 'string' && {
          frames: stack
            .split('\n')
            .filter((line) => line.startsWith('    at '))
            .slice(0, 12),
        }),
      },
    }),
  };
}
