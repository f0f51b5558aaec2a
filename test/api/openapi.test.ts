import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { openApiDocument } from '../../src/api/openapi.ts';
import { createApi } from '../../src/api/server.ts';
import { problemKind } from '../../src/api/status.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { DEFAULT_LIMITS, type NodeContext } from '../../src/operations/context.ts';
import { codesOf } from './documented.ts';

interface Operation {
  operationId: string;
  description?: string;
  security?: unknown;
  parameters?: { name: string; in: string; schema: Record<string, unknown> }[];
  requestBody?: { content: Content };
  responses: Record<string, { description: string; headers?: Record<string, object>; content?: Content }>;
}
type Content = Record<string, { schema: Record<string, unknown> }>;

const document = openApiDocument(DEFAULT_LIMITS);
// Safe: the document is plain JSON; the cast only names the parts that are read.
const paths = document.paths as unknown as Record<string, Record<string, Operation>>;
const operations = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, path, operation })),
);
const operationOf = (name: string): Operation => {
  const found = operations.find((each) => each.name === name);
  if (found === undefined) throw new TypeError(`${name} is not in the document`);
  return found.operation;
};
const codes = (name: string): string[] => Object.values(operationOf(name).responses).flatMap(codesOf);

/** `method path` of every route that the app answers itself, as in the document. */
function servedRoutes(): string[] {
  // Safe: making the app asks nothing of its context but the limits; only requests use the rest.
  const app = createApi({ limits: DEFAULT_LIMITS, store: {} } as unknown as NodeContext);
  return app.router.stack.flatMap(({ route }) =>
    (route?.stack ?? [])
      .filter(({ method }) => method !== undefined && method !== 'options')
      .map(({ method }) => `${method} ${route?.path.replaceAll(/:(\w+)/g, '{$1}')}`),
  );
}

describe('/openapi.json', () => {
  test('is OpenAPI 3.1 with one operation id each', () => {
    expect(document.openapi).toBe('3.1.0');
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('has every route that is served, and no other', () => {
    expect([...new Set(servedRoutes())].sort()).toEqual(operations.map(({ name }) => name).sort());
    expect(operations).toHaveLength(11);
  });

  test('every reference resolves and every path parameter is declared', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map((match) => match[1]);
    expect(references.length).toBeGreaterThan(10);
    for (const reference of references) {
      let node: unknown = document;
      for (const part of reference.split('/')) node = (node as Record<string, unknown>)[part];
      expect(node).toBeDefined();
    }
    for (const { path, operation } of operations) {
      const declared = (operation.parameters ?? []).filter((each) => each.in === 'path').map(({ name }) => name);
      expect(declared).toEqual([...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]));
    }
  });

  test('declares binary bodies by a media type of their own and never as text or base64', () => {
    const frame = 'application/vnd.veilrisk.encrypted-scores';
    const key = 'application/vnd.veilrisk.public-key';
    const bodies: [Content | undefined, string][] = [
      [operationOf('post /v1/scores/encrypted').requestBody?.content, frame],
      [operationOf('post /v1/scores/encrypted').responses[200].content, frame],
      [operationOf('post /v1/keys').requestBody?.content, key],
      [operationOf('post /v1/keys/{keyId}/rotation').requestBody?.content, key],
    ];
    for (const [content, type] of bodies) {
      expect(Object.keys(content ?? {})).toEqual(['application/octet-stream', type]);
      for (const { schema } of Object.values(content ?? {})) {
        expect(Object.keys(schema)).toEqual(['description']);
        expect(schema.description).toContain('FORMAT.md section');
      }
    }
    expect(JSON.stringify(document)).not.toMatch(/contentEncoding|"format":"(byte|binary|base64)/);
  });

  test('no file of the encrypted API knows base64', () => {
    const root = join(import.meta.dirname, '../../src');
    const folders = ['api', 'api/routes', 'client', 'encryption'].flatMap((folder) =>
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.ts'))
        .map((name) => join(root, folder, name)),
    );
    const files = [...folders, join(root, 'operations/scoreEncrypted.ts'), join(root, 'operations/encryptionKeys.ts')];
    expect(files.length).toBeGreaterThan(25);
    // A word in a sentence may say that there is none; a call, an option or a name may not.
    const uses = /\b(atob|btoa)\(|['"`]base64(url)?['"`]|\b(to|from)Base64\b|contentEncoding\s*:/;
    expect(files.filter((file) => uses.test(readFileSync(file, 'utf8')))).toEqual([]);
    expect(uses.test("Buffer.from(text, 'base64')")).toBe(true);
  });

  test('refusals are problem documents, listed by code under the status of the code', () => {
    for (const { name, operation } of operations) {
      for (const [status, response] of Object.entries(operation.responses)) {
        if (Number(status) < 400 || name === 'get /readyz') continue;
        expect([name, status, Object.keys(response.content ?? {})]).toEqual([
          name,
          status,
          ['application/problem+json'],
        ]);
        // Safe: `problemKind` answers any string; a code it does not know is 500.
        const statuses = codesOf(response).map((code) => problemKind(code as ErrorCode).status);
        expect([name, status, new Set(statuses)]).toEqual([name, status, new Set([Number(status)])]);
        if (status === '503') expect(response.headers).toHaveProperty('Retry-After');
      }
    }
  });

  test('every code that blames the request or passes with time is named, where it can occur', () => {
    const table = readFileSync(join(import.meta.dirname, '../../src/api/status.ts'), 'utf8');
    const all = [...table.matchAll(/case '([A-Z_]+)':/g)].map(([, code]) => code);
    const callers = all.filter((code) => problemKind(code as ErrorCode).status !== 500);
    expect(callers.length).toBeGreaterThan(25);
    const named = new Set(operations.flatMap(({ operation }) => Object.values(operation.responses).flatMap(codesOf)));
    const elsewhere = [
      // Of an address or method that is no operation.
      ...['ROUTE_UNKNOWN', 'METHOD_NOT_ALLOWED'],
      // Of data sets and of frames' senders, which no route has.
      ...['CONTRACT_HASH_MISMATCH', 'NOT_FOUND'],
    ];
    expect(callers.filter((code) => !named.has(code)).sort()).toEqual(elsewhere.sort());
    for (const { name, operation } of operations) {
      const wants = ['UNAUTHENTICATED', 'FORBIDDEN', 'INTERNAL', 'DATABASE_UNAVAILABLE'];
      if (operation.security !== undefined) expect(codes(name)).toEqual(expect.arrayContaining(wants));
      const body = ['REQUEST_TOO_LARGE', 'MEDIA_TYPE_UNSUPPORTED', 'REQUEST_MALFORMED'];
      if (operation.requestBody !== undefined) expect(codes(name)).toEqual(expect.arrayContaining(body));
    }
    const keys = ['KEY_UNKNOWN', 'KEY_REVOKED', 'KEY_EXPIRED'];
    expect(codes('post /v1/scores/encrypted')).toEqual(
      expect.arrayContaining([...keys, 'VECTOR_LIMIT', 'REQUEST_REPLAYED', 'POOL_FULL', 'MODEL_CONTRACT_MISMATCH']),
    );
    expect(codes('post /v1/keys/{keyId}/rotation')).toEqual(expect.arrayContaining([...keys, 'KEY_LIMIT']));
  });

  test('says that unknown members are refused and that every /v1 route needs a key', () => {
    const schemas = document.components?.schemas as Record<string, { additionalProperties?: unknown }>;
    expect(schemas.ScoreRequest.additionalProperties).toBe(false);
    for (const { path, operation } of operations) {
      expect(operation.security).toEqual(path.startsWith('/v1/') ? [{ apiKey: [] }] : undefined);
    }
  });

  test('gives the headers of keys with the ranges of this node, and the meter on both score routes', () => {
    const rotation = openApiDocument({ keyDays: 90 }).paths?.['/v1/keys/{keyId}/rotation']?.post;
    const { parameters } = rotation as unknown as Operation;
    const byName = Object.fromEntries((parameters ?? []).map(({ name, schema }) => [name, schema]));
    expect(byName['Veilrisk-Key-Days']).toMatchObject({ type: 'integer', minimum: 1, maximum: 90, default: 90 });
    expect(byName['Veilrisk-Grace-Hours']).toMatchObject({ type: 'integer', minimum: 0, maximum: 720, default: 24 });
    for (const name of ['post /v1/scores', 'post /v1/scores/encrypted']) {
      expect(Object.keys(operationOf(name).responses[200].headers ?? {})).toEqual(
        expect.arrayContaining(['RateLimit', 'RateLimit-Policy', 'Request-Id']),
      );
    }
  });
});
