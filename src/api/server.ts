/**
 * The REST edge: parse -> operation -> reply. `createApi` is the Express app, `serveApi` listens with it.
 *
 * Limit: plain HTTP. The node belongs behind the bank's own TLS terminator, and listens on loopback unless told
 * otherwise; an API key crosses the wire as it is.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type RequestHandler } from 'express';
import helmet from 'helmet';
import { RequestError } from '../errors.ts';
import { openApiKeyAuthenticator } from '../operations/apiKeys.ts';
import type { Authenticator } from '../operations/authentication.ts';
import type { NodeContext } from '../operations/context.ts';
import { requireScope } from './authenticate.ts';
import { openBodyRoom } from './bodyRoom.ts';
import { openApiDocument } from './openapi.ts';
import { openOrigins } from './origins.ts';
import { onlyMethods, problemHandler, unknownRoute } from './problem.ts';
import { identifyRequests, logRequests, readBody } from './requests.ts';
import { getHealth, getReadiness } from './routes/health.ts';
import { deleteKey, getKeys, postKey, postRotation } from './routes/keys.ts';
import { BODIES_LIMIT_BYTES, SCORE_LIMIT_BYTES } from './routes/limits.ts';
import { getModels } from './routes/models.ts';
import { postEncryptedScores, postScore } from './routes/scores.ts';
import { getUsage } from './routes/usage.ts';

export interface ServeOptions {
  host: string;
  /** 0 for any free port. */
  port: number;
}

export interface RunningApi {
  /** `http://host:port` with the port that was taken. */
  url: string;
  /** Stops accepting, finishes what is in flight (at most 10 s), writes counted refusals. */
  close(): Promise<void>;
}

/** A slow sender holds a socket no longer than this; 64 MB pass in time at 1 MB/s. */
const REQUEST_TIMEOUT_MS = 75_000;
const HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;
const CLOSE_GRACE_MS = 10_000;

/** The Express app on an open node. Counted refusals are written as their windows close. */
export function createApi(context: NodeContext): express.Express {
  return apiWith(context, openApiKeyAuthenticator(context));
}

function apiWith(context: NodeContext, authenticator: Authenticator): express.Express {
  const app = express();
  const origins = openOrigins(context.limits.origins);
  app.set('etag', false);
  app.set('query parser', false);
  app.set('case sensitive routing', true);
  app.set('strict routing', true);
  app.use(identifyRequests(), logRequests(context));
  app.use(helmet({ contentSecurityPolicy: { directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } } }));
  app.use(origins.share);
  app.use((_request, response, next) => {
    response.set('Cache-Control', 'no-store');
    next();
  });
  for (const [path, methods] of Object.entries(routesOf(context, authenticator))) {
    const allow = allowed(methods);
    const route = app.route(path).options(origins.preflight(allow));
    if (methods.get !== undefined) route.get(...methods.get);
    if (methods.post !== undefined) route.post(...methods.post);
    if (methods.delete !== undefined) route.delete(...methods.delete);
    route.all(onlyMethods(allow));
  }
  app.use(unknownRoute);
  app.use(problemHandler(context));
  return app;
}

type Methods = Partial<Record<'get' | 'post' | 'delete', RequestHandler[]>>;

/** Path -> method -> its handlers in order. Whoever calls is known before anything of a body is read. */
function routesOf(context: NodeContext, authenticator: Authenticator): Record<string, Methods> {
  const room = openBodyRoom(BODIES_LIMIT_BYTES);
  const score = requireScope(authenticator, 'score');
  const keys = requireScope(authenticator, 'keys');
  const document = openApiDocument(context.limits);
  const getDocument: RequestHandler = (_request, response) => {
    response.json(document);
  };
  return {
    '/v1/scores': { post: [score, readBody(['application/json'], SCORE_LIMIT_BYTES), postScore(context)] },
    '/v1/scores/encrypted': { post: [score, postEncryptedScores(context, room)] },
    '/v1/usage': { get: [score, getUsage(context)] },
    '/v1/keys': { get: [keys, getKeys(context)], post: [keys, postKey(context, room)] },
    '/v1/keys/:keyId': { delete: [keys, deleteKey(context)] },
    '/v1/keys/:keyId/rotation': { post: [keys, postRotation(context, room)] },
    '/v1/models': { get: [requireScope(authenticator, 'models'), getModels(context)] },
    '/healthz': { get: [getHealth] },
    '/readyz': { get: [getReadiness(context)] },
    '/openapi.json': { get: [getDocument] },
  };
}

/** For `Allow` (RFC 9110 section 10.2.1); GET answers HEAD as well. */
function allowed(methods: Methods): string {
  const names = Object.keys(methods).map((method) => (method === 'get' ? 'GET, HEAD' : method.toUpperCase()));
  return names.join(', ');
}

export async function serveApi(context: NodeContext, options: ServeOptions): Promise<RunningApi> {
  const authenticator = openApiKeyAuthenticator(context);
  const server = createServer(apiWith(context, authenticator));
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  await listen(server, options);
  // Safe: a server that listens at a host and port has such an address.
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return {
    url: `http://${host}:${port}`,
    async close() {
      await stop(server);
      await authenticator.close();
    },
  };
}

function listen(server: Server, { host, port }: ServeOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new RequestError('CONFIGURATION', 'The node cannot listen at its address.', {
          where: `${host}:${port}`,
          fix: 'Choose another --host or --port, or stop what listens there.',
          cause,
        }),
      );
    });
    server.listen(port, host, resolve);
  });
}

async function stop(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // A connection that was busy when close() came turns idle with its reply; close() itself only looks once.
  const sweep = setInterval(() => server.closeIdleConnections(), 20);
  const force = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
  await closed;
  clearInterval(sweep);
  clearTimeout(force);
}
