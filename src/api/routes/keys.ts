/**
 * `/v1/keys`: a caller registers, lists, replaces and revokes the public keys that its encrypted requests are made
 * under. All of them are its owner's; a key id of anyone else is as unknown as one that does not exist.
 */
import type { Request, RequestHandler } from 'express';
import { RequestError } from '../../errors.ts';
import type { NodeContext } from '../../operations/context.ts';
import {
  type ListedEncryptionKey,
  listEncryptionKeys,
  MOST_GRACE_HOURS,
  registerEncryptionKey,
  revokeEncryptionKey,
  rotateEncryptionKey,
} from '../../operations/encryptionKeys.ts';
import { roomyPool } from '../../operations/encryptionRoom.ts';
import { callerOf } from '../authenticate.ts';
import type { BodyRoom } from '../bodyRoom.ts';
import { answerLarge, bodyOf, requestIdOf } from '../requests.ts';
import { GRACE_HEADER, HASH, KEY_DAYS_HEADER } from '../schemas.ts';
import { PUBLIC_KEY_LIMIT_BYTES, PUBLIC_KEY_TYPES } from './limits.ts';

export function postKey(context: NodeContext, room: BodyRoom): RequestHandler {
  return (request, response, next) => {
    // Before the body is read: a wrong header costs the caller no upload.
    const days = keyDaysOf(request, context);
    return readPublicKey(context, room, async (publicKey, signal) => {
      const { created, ...key } = await registerEncryptionKey(context, {
        caller: callerOf(response),
        requestId: requestIdOf(response),
        ...{ publicKey, days, signal },
      });
      response.status(created ? 201 : 200).json(shown(key));
    })(request, response, next);
  };
}

export function postRotation(context: NodeContext, room: BodyRoom): RequestHandler {
  return (request, response, next) => {
    const keyId = keyIdOf(request);
    const days = keyDaysOf(request, context);
    const graceHours = wholeNumber(request, GRACE_HEADER, 0, MOST_GRACE_HOURS);
    return readPublicKey(context, room, async (publicKey, signal) => {
      const { created, key, replaced } = await rotateEncryptionKey(context, {
        caller: callerOf(response),
        requestId: requestIdOf(response),
        ...{ keyId, publicKey, days, graceHours, signal },
      });
      response.status(created ? 201 : 200).json({ key: shown(key), replaced: shown(replaced) });
    })(request, response, next);
  };
}

export function getKeys(context: NodeContext): RequestHandler {
  return async (_request, response) => {
    const keys = await listEncryptionKeys(context, callerOf(response).owner);
    response.json({ keys: keys.map(shown) });
  };
}

export function deleteKey(context: NodeContext): RequestHandler {
  return async (request, response) => {
    const { owner, keyPrefix } = callerOf(response);
    const wish = { keyId: keyIdOf(request), owner, actor: `api-key:${keyPrefix}`, requestId: requestIdOf(response) };
    response.json(shown(await revokeEncryptionKey(context, wish)));
  };
}

function readPublicKey(
  context: NodeContext,
  room: BodyRoom,
  answer: (publicKey: Uint8Array, signal: AbortSignal) => Promise<void>,
): RequestHandler {
  return answerLarge({
    types: PUBLIC_KEY_TYPES,
    room,
    async limitBytes({ owner }) {
      roomyPool(context, owner);
      return PUBLIC_KEY_LIMIT_BYTES;
    },
    answer: (request, _response, gone) => answer(bodyOf(request), gone),
  });
}

/** Without the owner, which a caller knows. */
function shown<Key extends ListedEncryptionKey>({ owner: _owner, ...key }: Key): Omit<Key, 'owner'> {
  return key;
}

function keyIdOf(request: Request): string {
  const { keyId } = request.params;
  if (typeof keyId === 'string' && HASH.safeParse(keyId).success) return keyId;
  throw new RequestError('REQUEST_MALFORMED', 'The key id is not 64 lower-case hexadecimal digits.', {
    where: 'keyId',
    fix: 'Take it from the reply of POST /v1/keys or from GET /v1/keys.',
  });
}

const keyDaysOf = (request: Request, { limits }: NodeContext) =>
  wholeNumber(request, KEY_DAYS_HEADER, 1, limits.keyDays);

/** A header in plain decimal digits; undefined when it is absent. */
function wholeNumber(request: Request, header: string, least: number, most: number): number | undefined {
  const text = request.get(header);
  if (text === undefined) return undefined;
  const value = /^(?:0|[1-9]\d{0,5})$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new RequestError('REQUEST_MALFORMED', `${header} must be a whole number from ${least} to ${most}.`, {
    where: header,
    fix: `Send ${least} to ${most} in decimal digits, or leave the header out.`,
  });
}
