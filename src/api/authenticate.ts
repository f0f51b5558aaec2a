/** Puts the caller of a request into `response.locals` before anything of its body is read. */
import type { RequestHandler, Response } from 'express';
import type { Authenticator, Caller, Scope } from '../operations/authentication.ts';
import { requestIdOf } from './requests.ts';

export function requireScope(authenticator: Authenticator, scope: Scope): RequestHandler {
  return async (request, response, next) => {
    const caller = await authenticator.authenticate(request.get('Authorization'), scope, requestIdOf(response));
    response.locals.caller = caller;
    response.locals.keyPrefix = caller.keyPrefix;
    next();
  };
}

/** The caller; only behind `requireScope`. */
export function callerOf(response: Response): Caller {
  return response.locals.caller;
}
