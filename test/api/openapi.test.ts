import { describe, expect, test } from '@jest/globals';
import { openApiDocument } from '../../src/api/openapi.ts';

const document = openApiDocument();
// Safe: the document is plain JSON; the casts only name the parts that are read.
const paths = document.paths as Record<string, Record<string, Record<string, never>>>;

describe('/openapi.json', () => {
  test('is OpenAPI 3.1 with every route and one operation id each', () => {
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(paths).sort()).toEqual([
      '/healthz',
      '/openapi.json',
      '/readyz',
      '/v1/keys',
      '/v1/models',
      '/v1/scores',
      '/v1/scores/encrypted',
    ]);
    const ids = Object.values(paths).flatMap((path) => Object.values(path).map(({ operationId }) => operationId));
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('every reference resolves', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)].map((match) => match[1]);
    expect(references.length).toBeGreaterThan(10);
    for (const reference of references) {
      let node: unknown = document;
      for (const part of reference.split('/')) node = (node as Record<string, unknown>)[part];
      expect(node).toBeDefined();
    }
  });

  test('declares binary bodies by media type and problems as problem+json', () => {
    for (const path of ['/v1/keys', '/v1/scores/encrypted']) {
      const body = paths[path].post.requestBody as { content: object };
      expect(Object.keys(body.content)).toEqual([
        'application/octet-stream',
        'application/vnd.veilrisk.encrypted-scores',
      ]);
    }
    const responses = paths['/v1/scores'].post.responses as Record<string, { content: object }>;
    for (const [status, { content }] of Object.entries(responses)) {
      expect(Object.keys(content)).toEqual([status === '200' ? 'application/json' : 'application/problem+json']);
    }
  });

  test('says that unknown members are refused and that every /v1 route needs a key', () => {
    const schemas = document.components?.schemas as Record<string, { additionalProperties?: unknown }>;
    expect(schemas.ScoreRequest.additionalProperties).toBe(false);
    for (const [path, methods] of Object.entries(paths)) {
      for (const { security } of Object.values(methods)) {
        expect(security).toEqual(path.startsWith('/v1/') ? [{ apiKey: [] }] : undefined);
      }
    }
  });
});
