/**
 * The OpenAPI 3.1 document of the API, generated from the zod schemas that validate. A refusal's status comes from the
 * table of codes, so that the two cannot disagree; every code that an operation can answer with is named.
 *
 * Source: OpenAPI Specification 3.1.1. Binary bodies are media types without a type, as its section 4.8.14.3 asks.
 */
import { OpenAPIRegistry, OpenApiGeneratorV31, type ResponseConfig } from '@asteasolutions/zod-to-openapi';
import { z } from 'zod';
import type { ErrorCode } from '../errors.ts';
import type { ServiceLimits } from '../operations/context.ts';
import {
  DEFAULT_GRACE_HOURS,
  MOST_GRACE_HOURS,
  MOST_NEW_KEYS_A_DAY,
  MOST_USABLE_KEYS,
} from '../operations/encryptionKeys.ts';
import { PROBLEM_MEDIA_TYPE } from './problem.ts';
import { BINARY_TYPES, ENCRYPTED_LIMIT_BYTES, PUBLIC_KEY_LIMIT_BYTES, PUBLIC_KEY_TYPES } from './routes/limits.ts';
import * as schemas from './schemas.ts';
import { problemKind } from './status.ts';

export type OpenApiDocument = ReturnType<OpenApiGeneratorV31['generateDocument']>;

const REQUEST_ID = z.string().meta({ description: 'The request id, as sent when it was sane, else a new one.' });
const RETRY_AFTER = z.int().min(1).meta({ description: 'Seconds to wait before the same request again.' });
const METER_HEADERS = {
  'RateLimit-Policy': z.string().meta({
    description: 'Distinct vectors the caller may have scored under this model (draft-ietf-httpapi-ratelimit-headers).',
    example: '"vectors";q=1000000',
  }),
  RateLimit: z.string().meta({ description: 'How many of them are left.', example: '"vectors";r=999988' }),
};

function json(description: string, schema: z.ZodType, headers: Record<string, z.ZodType> = {}): ResponseConfig {
  return {
    description,
    headers: z.object({ 'Request-Id': REQUEST_ID, ...headers }),
    content: { 'application/json': { schema } },
  };
}

/** One response a status, which lists its codes with what they mean. */
function problems(...codes: readonly ErrorCode[]): Record<string, ResponseConfig> {
  const byStatus = Map.groupBy(codes, (code) => problemKind(code).status);
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => {
      const waits = codes.every((code) => problemKind(code).retryAfter !== undefined);
      const lines = codes.map((code) => `- \`${code}\`: ${problemKind(code).title}.`);
      // A failure of the node itself has the code of the room that failed: not a list to match on.
      const schema =
        status === 500 ? schemas.problemReply : z.intersection(schemas.problemReply, z.object({ code: z.enum(codes) }));
      return [
        String(status),
        {
          description: lines.join('\n'),
          headers: z.object({ 'Request-Id': REQUEST_ID, ...(waits && { 'Retry-After': RETRY_AFTER }) }),
          content: { [PROBLEM_MEDIA_TYPE]: { schema } },
        },
      ];
    }),
  );
}

/** Bytes: neither a type nor a contentEncoding, because nothing here is JSON or base64. */
function bytes(types: readonly string[], description: string): Record<string, { schema: { description: string } }> {
  return Object.fromEntries(types.map((type) => [type, { schema: { description } }]));
}

const FORMAT = 'src/encryption/FORMAT.md';
const FRAME =
  `The frame of ${FORMAT} section 3: little-endian integers, hashes and ciphertexts as they are, from magic "VRES" to ` +
  'the last residue. No base64, no compression. application/octet-stream is the same bytes under a general name.';
const PUBLIC_KEY =
  `A seeded public key, exactly the bytes of ${FORMAT} section 4. No base64, no compression. ` +
  'application/octet-stream is the same bytes under a general name.';

const ACCESS = ['UNAUTHENTICATED', 'FORBIDDEN'] as const;
const BODY = ['REQUEST_MALFORMED', 'REQUEST_TOO_LARGE', 'MEDIA_TYPE_UNSUPPORTED'] as const;
/** Of bodies that are large enough to be watched. */
const BINARY_BODY = [...BODY, 'REQUEST_TOO_SLOW'] as const;
const FAILED = ['INTERNAL', 'DATABASE_UNAVAILABLE'] as const;
/** Of whatever goes through the pool of worker threads. */
const POOL = ['NOT_READY', 'POOL_FULL', 'WORKER_TIMEOUT', 'WORKER_FAILED'] as const;
const NEW_KEY = ['PUBLIC_KEY_MALFORMED', 'PUBLIC_KEY_DEGENERATE', 'KEY_REVOKED', 'KEY_EXPIRED', 'KEY_LIMIT'] as const;

/** Builds the document; the same for the same limits. */
export function openApiDocument({ keyDays }: Pick<ServiceLimits, 'keyDays'>): OpenApiDocument {
  const registry = new OpenAPIRegistry();
  registry.registerComponent('securitySchemes', 'apiKey', {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'vrk_<prefix>_<secret>',
    description: 'An API key from "veilrisk apikey create".',
  });
  const security = [{ apiKey: [] }];
  const days = z
    .int()
    .min(1)
    .max(keyDays)
    .default(keyDays)
    .optional()
    .meta({ description: 'Days that the key is usable, in decimal digits.' });
  const params = z.object({ keyId: schemas.HASH.meta({ description: 'Key id, 64 lower-case hexadecimal digits.' }) });

  registry.registerPath({
    method: 'post',
    path: '/v1/scores',
    operationId: 'scoreTransaction',
    summary: 'Score one transaction',
    description: 'Scope "score". The reply is sent when the decision and its audit entry are durable.',
    security,
    request: {
      headers: z.object({
        'Idempotency-Key': schemas.CALLER_ID.optional().meta({
          description: 'The same key and the same body give the stored reply; another body gives 422.',
        }),
      }),
      body: { required: true, content: { 'application/json': { schema: schemas.scoreRequest } } },
    },
    responses: {
      200: json('The decision.', schemas.scoreReply, {
        ...METER_HEADERS,
        'Idempotency-Replayed': z.literal('true').optional().meta({ description: 'Present on a stored reply.' }),
      }),
      ...problems(
        ...([...ACCESS, ...BODY, 'TRANSACTION_INVALID', 'RECORD_INVALID', 'IDEMPOTENCY_CONFLICT'] as const),
        ...(['VECTOR_LIMIT', 'NO_MODEL', ...FAILED] as const),
      ),
    },
  });

  registry.registerPath({
    method: 'post',
    path: '/v1/scores/encrypted',
    operationId: 'scoreEncrypted',
    summary: 'Score encrypted transactions',
    description: `Scope "score". A framed request of ${FORMAT}; the reply has the same media type. A body is at most the largest frame for the champion's dimension, and never more than ${ENCRYPTED_LIMIT_BYTES} bytes; one that finds no room is refused unread. The same bytes again count nothing and are answered eight times.`,
    security,
    request: { body: { required: true, content: bytes(BINARY_TYPES, `An encrypted request. ${FRAME}`) } },
    responses: {
      200: {
        description: 'The encrypted scores.',
        headers: z.object({
          'Request-Id': REQUEST_ID,
          ...METER_HEADERS,
          'Veilrisk-Model': schemas.HASH,
          'Veilrisk-Audit-Index': z.string().meta({ description: 'Position of the audit entry, decimal.' }),
          'Veilrisk-Audit-Leaf': schemas.HASH,
        }),
        content: bytes(BINARY_TYPES, `Encrypted scores. ${FRAME}`),
      },
      ...problems(
        ...([...ACCESS, ...BODY, 'FRAME_MALFORMED', 'CIPHERTEXT_MALFORMED', 'CIPHERTEXT_PARAMETERS'] as const),
        ...(['ENCRYPTION_INPUT', 'KEY_UNKNOWN', 'KEY_REVOKED', 'KEY_EXPIRED', 'MODEL_CONTRACT_MISMATCH'] as const),
        ...(['FRAME_MISMATCH', 'REQUEST_REPLAYED', 'VECTOR_LIMIT', 'NO_MODEL', ...POOL, ...FAILED] as const),
      ),
    },
  });

  registry.registerPath({
    method: 'get',
    path: '/v1/usage',
    operationId: 'usage',
    summary: 'What was counted, and what is left',
    description: 'Scope "score".',
    security,
    responses: { 200: json("The caller's meters.", schemas.usageReply), ...problems(...ACCESS, ...FAILED) },
  });

  const publicKey = { required: true, content: bytes(PUBLIC_KEY_TYPES, PUBLIC_KEY) };
  registry.registerPath({
    method: 'post',
    path: '/v1/keys',
    operationId: 'registerKey',
    summary: 'Register a public encryption key',
    description: `Scope "keys". At most ${PUBLIC_KEY_LIMIT_BYTES} bytes, ${MOST_USABLE_KEYS} usable keys a caller and ${MOST_NEW_KEYS_A_DAY} new ones in 24 hours. A caller is the owner of its API keys.`,
    security,
    request: { headers: z.object({ [schemas.KEY_DAYS_HEADER]: days }), body: publicKey },
    responses: {
      200: json('The key was registered before and is usable; nothing changed, its end included.', schemas.keyReply),
      201: json('The key is registered.', schemas.keyReply),
      ...problems(...ACCESS, ...BINARY_BODY, ...NEW_KEY, 'ALREADY_EXISTS', ...POOL, ...FAILED),
    },
  });
  registry.registerPath({
    method: 'get',
    path: '/v1/keys',
    operationId: 'listKeys',
    summary: "List the caller's encryption keys",
    description: 'Scope "keys".',
    security,
    responses: { 200: json('Newest first.', schemas.keysReply), ...problems(...ACCESS, ...FAILED) },
  });
  registry.registerPath({
    method: 'post',
    path: '/v1/keys/{keyId}/rotation',
    operationId: 'rotateKey',
    summary: 'Put a new encryption key in the place of one',
    description:
      'Scope "keys". The new key has not been registered; its preset may be another. The old one ends after the grace ' +
      'time, or before when it would have. The same rotation again changes nothing.',
    security,
    request: {
      params,
      headers: z.object({
        [schemas.KEY_DAYS_HEADER]: days,
        [schemas.GRACE_HEADER]: z
          .int()
          .min(0)
          .max(MOST_GRACE_HOURS)
          .default(DEFAULT_GRACE_HOURS)
          .optional()
          .meta({ description: 'Hours that the old key stays usable, in decimal digits.' }),
      }),
      body: publicKey,
    },
    responses: {
      200: json('The rotation was done before; nothing changed.', schemas.rotationReply),
      201: json('The old key is replaced.', schemas.rotationReply),
      ...problems(...ACCESS, ...BINARY_BODY, ...NEW_KEY, 'KEY_UNKNOWN', 'ALREADY_EXISTS', ...POOL, ...FAILED),
    },
  });
  registry.registerPath({
    method: 'delete',
    path: '/v1/keys/{keyId}',
    operationId: 'revokeKey',
    summary: 'Revoke an encryption key, at once',
    description: 'Scope "keys". Again it changes nothing and gives the first time.',
    security,
    request: { params },
    responses: {
      200: json('The key is revoked.', schemas.keyReply),
      ...problems(...ACCESS, 'REQUEST_MALFORMED', 'KEY_UNKNOWN', ...FAILED),
    },
  });

  registry.registerPath({
    method: 'get',
    path: '/v1/models',
    operationId: 'listModels',
    summary: 'List the models, without weights',
    description: 'Scope "models".',
    security,
    responses: { 200: json('Champion first.', schemas.modelsReply), ...problems(...ACCESS, ...FAILED) },
  });

  registry.registerPath({
    method: 'get',
    path: '/healthz',
    operationId: 'health',
    summary: 'Whether the process is alive',
    responses: { 200: json('Alive.', schemas.healthReply) },
  });
  registry.registerPath({
    method: 'get',
    path: '/readyz',
    operationId: 'readiness',
    summary: 'Whether the node can score',
    responses: {
      200: json('Ready.', schemas.readyReply),
      503: json('Not ready.', schemas.readyReply, { 'Retry-After': RETRY_AFTER }),
    },
  });
  registry.registerPath({
    method: 'get',
    path: '/openapi.json',
    operationId: 'openapi',
    summary: 'This document',
    responses: { 200: json('OpenAPI 3.1.', z.record(z.string(), z.unknown())) },
  });

  return new OpenApiGeneratorV31(registry.definitions).generateDocument({
    openapi: '3.1.0',
    info: {
      title: 'Veilrisk risk scoring',
      version: '1',
      description:
        'Scores transactions in the clear and encrypted. Errors are RFC 9457 problem details with a code. An address that ' +
        'is not here gives 404 ROUTE_UNKNOWN, another method 405 METHOD_NOT_ALLOWED. Pages of the origins that the ' +
        'operator lists may call from a browser (CORS, without credentials).',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
  });
}
