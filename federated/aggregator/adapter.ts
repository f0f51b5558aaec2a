/**
 * Connect routes behind Node's HTTP/2 server, as `connectNodeAdapter` does it, with failures in our log instead of as
 * text on standard error, gRPC alone among the protocols, and nobody let in whom the admission refuses.
 */

import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { Code, ConnectError, type ConnectRouter, createConnectRouter, createContextValues } from '@connectrpc/connect';
import { setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import type { Log } from '../../src/log.ts';
import { toConnectError } from '../protocol/failure.ts';
import { MAX_MESSAGE_BYTES } from '../protocol/transport.ts';
import { type Admission, PEER, type Peer } from './tls.ts';

export function grpcHandler(
  routes: (router: ConnectRouter) => void,
  admission: Admission,
  log: Log,
): (request: Http2ServerRequest, response: Http2ServerResponse) => void {
  const limits = { readMaxBytes: MAX_MESSAGE_BYTES, writeMaxBytes: MAX_MESSAGE_BYTES };
  const router = createConnectRouter({
    ...{ grpc: true, grpcWeb: false, connect: false, acceptCompression: [], ...limits },
    interceptors: [admission.interceptor],
  });
  routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response) => {
    // An error event without a listener would end the process; the handler sees a lost peer as an aborted signal.
    response.on('error', (error) => log.debug({ err: error }, 'reply not delivered'));
    let peer: Peer;
    try {
      peer = admission.peerOf(request.stream.session);
    } catch (error) {
      refuse(response, error, log);
      return;
    }
    const handler = handlers.get(request.url.split('?', 1)[0]);
    if (handler === undefined) {
      response.writeHead(404);
      response.end();
      return;
    }
    const values = createContextValues().set(PEER, peer);
    handler(universalRequestFromNodeRequest(request, response, undefined, values))
      .then((answer) => universalResponseToNodeResponse(answer, response))
      .catch((error: unknown) => {
        const { code } = ConnectError.from(error);
        if (code !== Code.Aborted) log.debug({ method: handler.method.name, err: error }, 'reply not delivered');
      });
  };
}

/** A reply of nothing but the reason (gRPC over HTTP/2, "Trailers-Only"); the request's body is not read. */
function refuse(response: Http2ServerResponse, error: unknown, log: Log): void {
  const failure = toConnectError(error);
  log.warn({ code: failure.metadata.get('veilrisk-code') }, failure.rawMessage);
  const headers = new Headers({ 'content-type': 'application/grpc+proto' });
  setTrailerStatus(headers, failure);
  response.writeHead(200, Object.fromEntries(headers));
  response.end();
}
