/**
 * The REST edge: parse -> operation -> reply. `createApi` is the Express app, `serveApi` listens with it.
 *
 * Limit: plain HTTP. The node belongs behind the bank's own TLS terminator, and listens on loopback unless told
 * otherwise; an API key crosses the wire as it is.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import helmet from 'helmet';
import { RequestError } from '../errors.ts';
import { openApiKeyAuthenticator } from '../operations/apiKeys.ts';
import type { Authenticator } from '../operations/authentication.ts';
import type { NodeContext } from '../operations/context.ts';
import { requireScope } from './authenticate.ts';
import { openBodyRoom } from './bodyRoom.ts';
import { openApiDocument } from './openapi.ts';
import { onlyMethods, problemHandler, unknownRoute } from './problem.ts';
import { identifyRequests, logRequests, readBody } from './requests.ts';
import { getHealth, getReadiness } from './routes/health.ts';
import { postKey } from './routes/keys.ts';
import { BODIES_LIMIT_BYTES, SCORE_LIMIT_BYTES } from './routes/limits.ts';
import { getModels } from './routes/models.ts';
import { postEncryptedScores, postScore } from './routes/scores.ts';

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
  const room = openBodyRoom(BODIES_LIMIT_BYTES);
  app.set('etag', false);
  app.set('query parser', false);
  app.set('case sensitive routing', true);
  app.set('strict routing', true);
  app.use(identifyRequests(), logRequests(context));
  app.use(helmet({ contentSecurityPolicy: { directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } } }));
  app.use((_request, response, next) => {
    response.set('Cache-Control', 'no-store');
    next();
  });

  app
    .route('/v1/scores')
    .post(requireScope(authenticator, 'score'), readBody(['application/json'], SCORE_LIMIT_BYTES), postScore(context))
    .all(onlyMethods('POST'));
  app
    .route('/v1/scores/encrypted')
    .post(requireScope(authenticator, 'score'), postEncryptedScores(context, room))
    .all(onlyMethods('POST'));
  app.route('/v1/keys').post(requireScope(authenticator, 'keys'), postKey(context, room)).all(onlyMethods('POST'));
  app.route('/v1/models').get(requireScope(authenticator, 'models'), getModels(context)).all(onlyMethods('GET, HEAD'));
  app.route('/healthz').get(getHealth).all(onlyMethods('GET, HEAD'));
  app.route('/readyz').get(getReadiness(context)).all(onlyMethods('GET, HEAD'));
  const document = openApiDocument();
  app
    .route('/openapi.json')
    .get((_request, response) => {
      response.json(document);
    })
    .all(onlyMethods('GET, HEAD'));

  app.use(unknownRoute);
  app.use(problemHandler(context));
  return app;
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
