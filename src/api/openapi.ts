/**
 * The OpenAPI 3.1 document of the API, generated from the zod schemas that validate.
 *
 * Source: OpenAPI Specification 3.1.1. Binary bodies are media types without a type, as its section 4.8.14.3 asks.
 */
import { OpenAPIRegistry, OpenApiGeneratorV31, type ResponseConfig } from '@asteasolutions/zod-to-openapi';
import { z } from 'zod';
import { PROBLEM_MEDIA_TYPE } from './problem.ts';
import { BINARY_TYPES, ENCRYPTED_LIMIT_BYTES, PUBLIC_KEY_LIMIT_BYTES } from './routes/limits.ts';
import * as schemas from './schemas.ts';

export type OpenApiDocument = ReturnType<OpenApiGeneratorV31['generateDocument']>;

const REQUEST_ID = z.string().meta({ description: 'The request id, as sent when it was sane, else a new one.' });

function json(description: string, schema: z.ZodType, headers: Record<string, z.ZodType> = {}): ResponseConfig {
  return {
    description,
    headers: z.object({ 'Request-Id': REQUEST_ID, ...headers }),
    content: { 'application/json': { schema } },
  };
}

function problems(...statuses: [number, string][]): Record<string, ResponseConfig> {
  return Object.fromEntries(
    statuses.map(([status, description]) => [
      String(status),
      {
        description,
        headers: z.object({ 'Request-Id': REQUEST_ID }),
        content: { [PROBLEM_MEDIA_TYPE]: { schema: schemas.problemReply } },
      },
    ]),
  );
}

function binary(description: string): Record<string, { schema: { description: string } }> {
  return Object.fromEntries(BINARY_TYPES.map((type) => [type, { schema: { description } }]));
}

const ACCESS: [number, string][] = [
  [401, 'No valid API key (UNAUTHENTICATED).'],
  [403, 'The key lacks the scope (FORBIDDEN).'],
];
const BODY: [number, string][] = [
  [400, 'The body cannot be read, or is refused (REQUEST_MALFORMED and the codes of encrypted bodies).'],
  [413, 'The body is too large (REQUEST_TOO_LARGE).'],
  [415, 'The media type is not taken (MEDIA_TYPE_UNSUPPORTED).'],
];
const BUSY: [number, string] = [
  503,
  'Not now; see Retry-After (NO_MODEL, POOL_FULL, NOT_READY, DATABASE_UNAVAILABLE).',
];
const FAILED: [number, string] = [500, 'The node failed (INTERNAL).'];

/** Builds the document; the same on every call. */
export function openApiDocument(): OpenApiDocument {
  const registry = new OpenAPIRegistry();
  registry.registerComponent('securitySchemes', 'apiKey', {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'vrk_<prefix>_<secret>',
    description: 'An API key from "veilrisk apikey create".',
  });
  const security = [{ apiKey: [] }];

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
        'Idempotency-Replayed': z.literal('true').optional().meta({ description: 'Present on a stored reply.' }),
      }),
      ...problems(
        ...ACCESS,
        ...BODY,
        [422, 'The transaction does not fit (TRANSACTION_INVALID, RECORD_INVALID, IDEMPOTENCY_CONFLICT).'],
        FAILED,
        BUSY,
      ),
    },
  });

  registry.registerPath({
    method: 'post',
    path: '/v1/scores/encrypted',
    operationId: 'scoreEncrypted',
    summary: 'Score encrypted transactions',
    description: `Scope "score". A framed request of src/encryption/FORMAT.md; the reply has the same media type. A body is at most the largest frame for the champion's dimension, and never more than ${ENCRYPTED_LIMIT_BYTES} bytes; one that finds no room is refused unread.`,
    security,
    request: { body: { required: true, content: binary('A framed encrypted request.') } },
    responses: {
      200: {
        description: 'The encrypted scores.',
        headers: z.object({
          'Request-Id': REQUEST_ID,
          'Veilrisk-Model': schemas.HASH,
          'Veilrisk-Audit-Index': z.string().meta({ description: 'Position of the audit entry, decimal.' }),
          'Veilrisk-Audit-Leaf': schemas.HASH,
        }),
        content: binary('A framed encrypted reply.'),
      },
      ...problems(
        ...ACCESS,
        ...BODY,
        [404, 'The encryption key is not registered for this caller (KEY_UNKNOWN).'],
        [409, 'Made for another model or contract (MODEL_CONTRACT_MISMATCH).'],
        FAILED,
        BUSY,
      ),
    },
  });

  registry.registerPath({
    method: 'post',
    path: '/v1/keys',
    operationId: 'registerKey',
    summary: 'Register a public encryption key',
    description: `Scope "keys". A public key of src/encryption/FORMAT.md, at most ${PUBLIC_KEY_LIMIT_BYTES} bytes.`,
    security,
    request: { body: { required: true, content: binary('A public key.') } },
    responses: {
      200: json('The key was registered before; the same answer as then.', schemas.keyReply),
      201: json('The key is registered.', schemas.keyReply),
      ...problems(...ACCESS, ...BODY, [409, 'The key belongs to another caller (ALREADY_EXISTS).'], FAILED, BUSY),
    },
  });

  registry.registerPath({
    method: 'get',
    path: '/v1/models',
    operationId: 'listModels',
    summary: 'List the models, without weights',
    description: 'Scope "models".',
    security,
    responses: { 200: json('Champion first.', schemas.modelsReply), ...problems(...ACCESS, FAILED, BUSY) },
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
    responses: { 200: json('Ready.', schemas.readyReply), 503: json('Not ready.', schemas.readyReply) },
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
      description: 'Scores transactions in the clear and encrypted. Errors are RFC 9457 problem details with a code.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
  });
}
