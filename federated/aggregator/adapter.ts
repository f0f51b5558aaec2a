/**
 * Connect routes behind Node's HTTP/2 server, as `connectNodeAdapter` does it, with failures in our log instead of as
 * text on standard error, and gRPC alone among the protocols.
 */

import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { Code, ConnectError, type ConnectRouter, createConnectRouter } from '@connectrpc/connect';
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import type { Log } from '../../src/log.ts';
import { MAX_MESSAGE_BYTES } from '../protocol/transport.ts';

export function grpcHandler(
  routes: (router: ConnectRouter) => void,
  log: Log,
): (request: Http2ServerRequest, response: Http2ServerResponse) => void {
  const limits = { readMaxBytes: MAX_MESSAGE_BYTES, writeMaxBytes: MAX_MESSAGE_BYTES };
  const router = createConnectRouter({ grpc: true, grpcWeb: false, connect: false, acceptCompression: [], ...limits });
  routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response) => {
    const handler = handlers.get(request.url.split('?', 1)[0]);
    if (handler === undefined) {
      response.writeHead(404);
      response.end();
      return;
    }
    // An error event without a listener would end the process; the handler sees a lost peer as an aborted signal.
    response.on('error', (error) => log.debug({ err: error }, 'reply not delivered'));
    handler(universalRequestFromNodeRequest(request, response, undefined, undefined))
      .then((answer) => universalResponseToNodeResponse(answer, response))
      .catch((error: unknown) => {
        const { code } = ConnectError.from(error);
        if (code !== Code.Aborted) log.debug({ method: handler.method.name, err: error }, 'reply not delivered');
      });
  };
}
