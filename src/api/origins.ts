/**
 * Which pages may call the API from a browser (CORS).
 *
 * Source: Fetch Standard, section 3.2 (CORS protocol). The replies to a listed origin say so, and may be read by it;
 * every other origin gets the reply of a caller that is no browser: no CORS header at all, its preflight refused with
 * 405. Credentials are never allowed: a page sends its API key itself, and a cookie or a client certificate of the
 * browser means nothing here.
 *
 * Limit: an origin is what the browser says. It keeps a page of someone else from using a user's browser; it keeps no
 * program from calling, which is what API keys are for.
 */
import cors from 'cors';
import type { Request, RequestHandler } from 'express';

/** What a page may send; `Authorization` carries the API key. */
const ALLOWED_HEADERS = [
  'Authorization',
  'Content-Type',
  'Idempotency-Key',
  'Request-Id',
  'Veilrisk-Key-Days',
  'Veilrisk-Grace-Hours',
];
/** What a page may read beside the body. */
const EXPOSED_HEADERS = [
  'Request-Id',
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'Idempotency-Replayed',
  'Veilrisk-Model',
  'Veilrisk-Audit-Index',
  'Veilrisk-Audit-Leaf',
];
const PREFLIGHT_SECONDS = 600;

export interface Origins {
  /** For every request, before anything that may refuse it: a page can read why it was refused. */
  share: RequestHandler;
  /** For `OPTIONS` of a route with these methods: 204 to a listed origin's preflight, and to the next handler otherwise. */
  preflight(methods: string): RequestHandler;
}

/** @param listed origins as a browser sends them, such as `https://pay.example` */
export function openOrigins(listed: readonly string[]): Origins {
  const isListed = (request: Request): boolean => listed.includes(request.get('Origin') ?? '');
  // `origin: true` echoes the request's; asked only for a request whose origin is listed.
  const share = cors<Request>({ origin: true, exposedHeaders: EXPOSED_HEADERS });
  return {
    share(request, response, next) {
      response.vary('Origin');
      if (!isListed(request)) return next();
      // helmet says same-origin; this reply is meant for another origin's page, also where that embeds it (COEP).
      response.set('Cross-Origin-Resource-Policy', 'cross-origin');
      // A preflight is answered per route, by the methods that are there.
      if (request.method === 'OPTIONS') return next();
      share(request, response, next);
    },
    preflight(methods) {
      const answer = cors<Request>({
        origin: true,
        methods,
        allowedHeaders: ALLOWED_HEADERS,
        maxAge: PREFLIGHT_SECONDS,
      });
      return (request, response, next) => {
        const asked = request.get('Access-Control-Request-Method') !== undefined;
        if (asked && isListed(request)) answer(request, response, next);
        else next();
      };
    },
  };
}
