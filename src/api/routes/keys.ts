/** `POST /v1/keys`: a caller registers the public key that its encrypted requests are made under. */
import type { RequestHandler } from 'express';
import type { NodeContext } from '../../operations/context.ts';
import { registerEncryptionKey } from '../../operations/encryptionKeys.ts';
import { roomyPool } from '../../operations/encryptionRoom.ts';
import { callerOf } from '../authenticate.ts';
import type { BodyRoom } from '../bodyRoom.ts';
import { answerLarge, bodyOf, requestIdOf } from '../requests.ts';
import { BINARY_TYPES, PUBLIC_KEY_LIMIT_BYTES } from './limits.ts';

export function postKey(context: NodeContext, room: BodyRoom): RequestHandler {
  return answerLarge({
    types: BINARY_TYPES,
    room,
    async limitBytes() {
      roomyPool(context);
      return PUBLIC_KEY_LIMIT_BYTES;
    },
    async answer(request, response) {
      const { created, ...key } = await registerEncryptionKey(context, {
        caller: callerOf(response),
        requestId: requestIdOf(response),
        publicKey: bodyOf(request),
      });
      response.status(created ? 201 : 200).json(key);
    },
  });
}
