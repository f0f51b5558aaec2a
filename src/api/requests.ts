/**
 * What every request gets: an id that goes in and out, one log line, and the caller's body only after the caller is
 * known. The log line has method, route template, status, time, request id and the API key's prefix; never a body, a
 * query or a path as sent, because a client may put anything into those.
 */
import { randomUUID } from 'node:crypto';
import express, { type Request, type RequestHandler, type Response } from 'express';
import { RequestError } from '../errors.ts';
import type { NodeContext } from '../operations/context.ts';

/** An incoming id is kept only in this form, so that it cannot break a log line or grow an audit entry. */
const SANE_ID = /^[A-Za-z0-9._-]{1,64}$/;

export function requestIdOf(response: Response): string {
  return response.locals.requestId;
}

export function identifyRequests(): RequestHandler {
  return (request, response, next) => {
    const sent = request.get('Request-Id') ?? request.get('X-Request-Id');
    const requestId = sent !== undefined && SANE_ID.test(sent) ? sent : randomUUID();
    response.locals.requestId = requestId;
    response.set('Request-Id', requestId);
    next();
  };
}

export function logRequests(context: Pick<NodeContext, 'log'>): RequestHandler {
  return (request, response, next) => {
    const start = performance.now();
    response.once('close', () => {
      const line = {
        method: request.method,
        route: routeOf(request),
        status: response.writableFinished ? response.statusCode : 499,
        ms: Math.round((performance.now() - start) * 100) / 100,
        requestId: requestIdOf(response),
        ...(response.locals.keyPrefix !== undefined && { key: response.locals.keyPrefix }),
        ...(response.locals.code !== undefined && { code: response.locals.code }),
      };
      context.log.info(line, 'request');
    });
    next();
  };
}

function routeOf(request: Request): string {
  const path: unknown = request.route?.path;
  return typeof path === 'string' ? path : 'unknown';
}

/** Reads a body of one of `types` up to `limitBytes`. A compressed body is refused: its size says nothing. */
export function readBody(types: readonly string[], limitBytes: number): RequestHandler {
  const read = express.raw({ type: () => true, limit: limitBytes, inflate: false });
  return (request, response, next) => {
    if (!types.includes(mediaTypeOf(request))) {
      throw new RequestError('MEDIA_TYPE_UNSUPPORTED', 'The media type of the body is not taken here.', {
        where: 'Content-Type',
        fix: `Send ${types.join(' or ')}.`,
      });
    }
    read(request, response, next);
  };
}

/** The lower-case media type without parameters; '' when absent, and for JSON in a charset other than UTF-8. */
function mediaTypeOf(request: Request): string {
  const [type, ...parameters] = (request.get('Content-Type') ?? '').toLowerCase().split(';');
  for (const parameter of parameters) {
    const [name, value] = parameter.split('=', 2).map((part) => part?.trim().replaceAll('"', ''));
    if (name === 'charset' && value !== 'utf-8' && value !== 'utf8') return '';
  }
  return type.trim();
}

/** The bytes `readBody` read; an absent body is empty. */
export function bodyOf(request: Request): Uint8Array {
  return Buffer.isBuffer(request.body) ? request.body : new Uint8Array(0);
}
