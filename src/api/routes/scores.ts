/**
 * `POST /v1/scores` and `POST /v1/scores/encrypted`.
 *
 * Source of the RateLimit headers: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4.
 */
import type { Request, RequestHandler } from 'express';
import { RequestError } from '../../errors.ts';
import type { NodeContext } from '../../operations/context.ts';
import type { VectorAllowance } from '../../operations/metering.ts';
import { largestEncryptedRequest, scoreEncrypted } from '../../operations/scoreEncrypted.ts';
import { scoreTransaction } from '../../operations/scoreTransaction.ts';
import { callerOf } from '../authenticate.ts';
import type { BodyRoom } from '../bodyRoom.ts';
import { parseStrictJson } from '../json.ts';
import { answerLarge, bodyOf, requestIdOf } from '../requests.ts';
import { CALLER_ID, scoreRequest } from '../schemas.ts';
import { BINARY_TYPES, ENCRYPTED_LIMIT_BYTES } from './limits.ts';

export function postScore(context: NodeContext): RequestHandler {
  return async (request, response) => {
    const parsed = scoreRequest.safeParse(parseStrictJson(bodyOf(request)));
    if (!parsed.success) {
      throw new RequestError('TRANSACTION_INVALID', 'The body is not in the form of the API.', {
        where: 'body',
        fix: 'Send {"transaction": {...}, "id"?: "..."}; see ScoreRequest in /openapi.json.',
        issues: parsed.error.issues.map(({ path, message }) => ({
          field: path.join('.').slice(0, 100) || 'body',
          rule: message.slice(0, 200),
        })),
      });
    }
    const { reply, replayed, allowance } = await scoreTransaction(context, {
      caller: callerOf(response),
      requestId: requestIdOf(response),
      idempotencyKey: idempotencyKeyOf(request),
      transaction: parsed.data.transaction,
      id: parsed.data.id,
    });
    response.set(rateLimit(allowance));
    if (replayed) response.set('Idempotency-Replayed', 'true');
    response.json(reply);
  };
}

/** The header, with or without the quotes of a structured field (draft-ietf-httpapi-idempotency-key-header section 2.1). */
function idempotencyKeyOf(request: Request): string | undefined {
  const header = request.get('Idempotency-Key');
  if (header === undefined) return undefined;
  const key = /^"(.*)"$/.exec(header)?.[1] ?? header;
  if (CALLER_ID.safeParse(key).success) return key;
  throw new RequestError('REQUEST_MALFORMED', 'The idempotency key must be 1 to 128 visible ASCII characters.', {
    where: 'Idempotency-Key',
  });
}

export function postEncryptedScores(context: NodeContext, room: BodyRoom): RequestHandler {
  return answerLarge({
    types: BINARY_TYPES,
    room,
    limitBytes: async ({ owner }) => Math.min(await largestEncryptedRequest(context, owner), ENCRYPTED_LIMIT_BYTES),
    async answer(request, response, gone) {
      const { reply, modelHash, audit, allowance } = await scoreEncrypted(context, {
        caller: callerOf(response),
        requestId: requestIdOf(response),
        request: bodyOf(request),
        gone,
      });
      response.set({
        ...rateLimit(allowance),
        'Veilrisk-Model': modelHash,
        'Veilrisk-Audit-Index': String(audit.index),
        'Veilrisk-Audit-Leaf': audit.leafHash,
      });
      // Safe: `answerLarge` has let only the two binary media types through.
      response
        .type(request.get('Content-Type')!.split(';', 1)[0])
        .send(Buffer.from(reply.buffer, reply.byteOffset, reply.byteLength));
    },
  });
}

/** How many different transactions the caller may still have scored under the champion; there is no window. */
function rateLimit({ limit, left }: VectorAllowance): Record<string, string> {
  return { 'RateLimit-Policy': `"vectors";q=${limit}`, RateLimit: `"vectors";r=${left}` };
}
