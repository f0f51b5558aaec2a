/** `POST /v1/keys`: a caller registers the public key that its encrypted requests are made under. */
import type { RequestHandler } from 'express';
import type { NodeContext } from '../../operations/context.ts';
import { registerEncryptionKey } from '../../operations/encryptionKeys.ts';
import { callerOf } from '../authenticate.ts';
import { bodyOf, requestIdOf } from '../requests.ts';

export function postKey(context: NodeContext): RequestHandler {
  return async (request, response) => {
    const { created, ...key } = await registerEncryptionKey(context, {
      caller: callerOf(response),
      requestId: requestIdOf(response),
      publicKey: bodyOf(request),
    });
    response.status(created ? 201 : 200).json(key);
  };
}
