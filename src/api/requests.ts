/**
 * What every request gets: an id that goes in and out, one log line, and the caller's body only after the caller is
 * known. The log line has method, route template, status, time, request id and the API key's prefix; never a body, a
 * query or a path as sent, because a client may put anything into those.
 */
import { randomUUID } from 'node:crypto';
import express, { type Request, type RequestHandler, type Response } from 'express';
import { RequestError } from '../errors.ts';
import type { Caller } from '../operations/authentication.ts';
import type { NodeContext } from '../operations/context.ts';
import { callerOf } from './authenticate.ts';
import type { BodyRoom } from './bodyRoom.ts';

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
  const read = rawReader(limitBytes);
  return (request, response, next) => {
    refuseOtherTypes(request, types);
    read(request, response, next);
  };
}

/**
 * As `readBody`, for bodies that are large, behind `requireScope`: the limit is asked for each request, which may refuse
 * it before a byte of its body is read, and the body counts in `room` for its caller from then until `answer` has
 * settled, even when its sender is gone. `answer` gets a signal that tells when the sender is. What it wrote and the caller
 * has not taken counts in its place; a caller that has not taken all of it in time loses its connection.
 */
export function answerLarge(options: {
  types: readonly string[];
  room: BodyRoom;
  limitBytes: (caller: Caller) => Promise<number>;
  answer: (request: Request, response: Response, gone: AbortSignal) => Promise<void>;
  /** Milliseconds for taking a reply. */
  replyTimeMs?: number;
}): RequestHandler {
  const { types, room, limitBytes, answer, replyTimeMs = REPLY_TIME_MS } = options;
  return async (request, response) => {
    refuseOtherTypes(request, types);
    const caller = callerOf(response);
    const limit = await limitBytes(caller);
    const bytes = announcedBytes(request, limit);
    const leave = room.enter(caller.owner, bytes);
    const gone = new AbortController();
    response.once('close', () => gone.abort(left()));
    try {
      await readInTime(request, response, limit, bytes);
      gone.signal.throwIfAborted();
      await answer(request, response, gone.signal);
    } finally {
      request.body = undefined;
      leave();
      holdReply(room, caller.owner, response, replyTimeMs);
    }
  };
}

/** For a reply of 256 kB, 4 kB a second. */
const REPLY_TIME_MS = 60_000;

/** Counts what the caller has not taken yet, until it has or is gone. */
function holdReply(room: BodyRoom, owner: string, response: Response, replyTimeMs: number): void {
  const waiting = response.writableLength;
  if (waiting === 0 || response.closed) return;
  const release = room.hold(owner, waiting);
  const end = setTimeout(() => response.destroy(), replyTimeMs);
  response.once('close', () => {
    clearTimeout(end);
    release();
  });
}

const left = () => new RequestError('REQUEST_MALFORMED', 'The caller left before its request was worked on.');

/** Least pace of a large body, in bytes a second, after a grace for slow starts and small bodies. */
const LEAST_PACE = 64 * 1024;
const PACE_GRACE_MS = 5_000;
/** A body must also come at the pace that would bring all of it in this time. */
const BODY_TIME_MS = 60_000;
const PACE_LOOK_MS = 500;

/**
 * Reads the body, as long as it comes at its pace on average: room is held by who uses it.
 * @param bytes that the body holds in the room
 * @throws RequestError REQUEST_TOO_SLOW
 */
async function readInTime(request: Request, response: Response, limit: number, bytes: number): Promise<void> {
  const bytesBefore = request.socket.bytesRead;
  const start = performance.now();
  const pace = Math.max(LEAST_PACE / 1000, bytes / BODY_TIME_MS);
  let looks: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((done, fail) => {
      rawReader(limit)(request, response, (error) => (error ? fail(error) : done()));
      looks = setInterval(() => {
        const due = (performance.now() - start - PACE_GRACE_MS) * pace;
        if (request.socket.bytesRead - bytesBefore < due) fail(tooSlow(pace));
      }, PACE_LOOK_MS);
    });
  } finally {
    clearInterval(looks);
  }
}

function tooSlow(pace: number): RequestError {
  return new RequestError('REQUEST_TOO_SLOW', 'The body comes too slowly for the room that it takes.', {
    where: 'body',
    fix: `Send at least ${Math.ceil(pace)} KB a second, or fewer transactions in a request.`,
  });
}

const rawReader = (limit: number) => express.raw({ type: () => true, limit, inflate: false });

/** What the body will hold in memory: its announced length, and for one without the most it may have. */
function announcedBytes(request: Request, limit: number): number {
  const announced = request.get('Content-Length');
  if (announced === undefined) return limit;
  if (Number(announced) <= limit) return Number(announced);
  throw new RequestError('REQUEST_TOO_LARGE', 'The body is larger than any that the champion can answer.', {
    where: 'Content-Length',
    fix: `Send at most ${limit} bytes, made for the champion of GET /v1/models.`,
  });
}

function refuseOtherTypes(request: Request, types: readonly string[]): void {
  if (types.includes(mediaTypeOf(request))) return;
  throw new RequestError('MEDIA_TYPE_UNSUPPORTED', 'The media type of the body is not taken here.', {
    where: 'Content-Type',
    fix: `Send ${types.join(' or ')}.`,
  });
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
