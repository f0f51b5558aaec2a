import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { createApiKey, revokeApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { auditEntries } from '../operations/audit.ts';
import { contract, openTestNode, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const model = trainedModel();
let node: TestNode;
let api: RunningApi;

beforeAll(async () => {
  node = await openTestNode(await postgres.freshDatabase());
  await adoptModel(node, { contract, model, actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
});

afterAll(async () => {
  await api?.close();
  await node?.close();
});

const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
  fetch(`${api.url}${path}`, { method, headers });
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const refusals = async () => (await auditEntries(node, 0, 10_000)).filter(({ body }) => body.type === 'access.refuse');

describe('API keys over HTTP', () => {
  test.each([
    ['no header', undefined],
    ['another scheme', 'Basic dXNlcjpwYXNz'],
    ['an empty token', 'Bearer '],
    ['no key of ours', 'Bearer abc'],
    ['an unknown prefix', `Bearer vrk_aaaaaaaa_${'A'.repeat(43)}`],
    ['a token of 50 kB', `Bearer ${'x'.repeat(10_000)}`],
    ['SQL in the prefix', "Bearer vrk_';DROP--_AAAA"],
  ])('%s is 401 with a challenge', async (_name, authorization) => {
    const response = await get('/v1/models', authorization === undefined ? {} : { authorization });
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toMatch(/^Bearer realm="veilrisk"/);
    expect(await response.json()).toMatchObject({ code: 'UNAUTHENTICATED', status: 401 });
  });

  test('every byte of the secret counts', async () => {
    const { key } = await createApiKey(node, { name: 'bytes', scopes: ['models'], actor: 'test' });
    expect((await get('/v1/models', bearer(key))).status).toBe(200);
    for (const at of [13, 30, key.length - 1]) {
      const wrong = key.slice(0, at) + (key[at] === 'A' ? 'B' : 'A') + key.slice(at + 1);
      expect((await get('/v1/models', bearer(wrong))).status).toBe(401);
    }
    expect((await get('/v1/models', bearer(`${key}A`))).status).toBe(401);
  });

  test('a key of another scope is 403', async () => {
    const { key } = await createApiKey(node, { name: 'scoped', scopes: ['score', 'keys'], actor: 'test' });
    const response = await get('/v1/models', bearer(key));
    expect([response.status, (await response.json()).code]).toEqual([403, 'FORBIDDEN']);
    expect(response.headers.get('www-authenticate')).toContain('insufficient_scope');
  });

  test('a revoked key is refused at once in this process, an expired one on time', async () => {
    const revoked = await createApiKey(node, { name: 'gone', scopes: ['models'], actor: 'test' });
    expect((await get('/v1/models', bearer(revoked.key))).status).toBe(200);
    await revokeApiKey(node, { prefix: revoked.prefix, actor: 'test' });
    expect((await get('/v1/models', bearer(revoked.key))).status).toBe(401);
    const expiring = await createApiKey(node, { name: 'short', scopes: ['models'], days: 1, actor: 'test' });
    expect((await get('/v1/models', bearer(expiring.key))).status).toBe(200);
    node.advance(86_400_001);
    expect((await get('/v1/models', bearer(expiring.key))).status).toBe(401);
    node.advance(-86_400_001);
  });

  test('a thousand refusals are two entries, and none is lost', async () => {
    const { key, prefix } = await createApiKey(node, { name: 'flooded', scopes: ['models'], actor: 'test' });
    const wrong = `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`;
    const mine = async () => (await refusals()).filter(({ body }) => body.actor === `api-key:${prefix}`);
    for (let batch = 0; batch < 10; batch++) {
      const burst = Array.from({ length: 100 }, () => get('/v1/models', bearer(wrong)).then((r) => r.arrayBuffer()));
      await Promise.all(burst);
    }
    expect(await mine()).toHaveLength(1);
    await api.close();
    const entries = await mine();
    expect(entries.map(({ body }) => body.details.count)).toEqual([1, 999]);
    expect(entries[0].body).toMatchObject({ outcome: 'refused', reasonCodes: ['UNAUTHENTICATED'] });
    expect(JSON.stringify(entries)).not.toContain(wrong.slice(13));
    api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  });

  test('prefixes that nobody has share one kind, however many are tried', async () => {
    const before = (await refusals()).length;
    for (let i = 0; i < 40; i++) {
      const prefix = `bb${i
        .toString(36)
        .padStart(6, 'c')
        .replaceAll(/[0189]/g, 'd')}`;
      await get('/v1/models', bearer(`vrk_${prefix}_${'A'.repeat(43)}`)).then((r) => r.arrayBuffer());
    }
    expect((await refusals()).length - before).toBeLessThanOrEqual(1);
  });
});

describe('the HTTP surface', () => {
  test('what is not there is 404, what is not allowed 405 with Allow, both as problems', async () => {
    for (const path of ['/', '/v1', '/v1/scores/', '/v1/Scores', '/v1/scores/encrypted/x', '/%00', '/../etc/passwd']) {
      const response = await get(path);
      expect([path, response.status, (await response.json()).code]).toEqual([path, 404, 'ROUTE_UNKNOWN']);
    }
    for (const [path, allow] of [
      ['/v1/scores', 'POST'],
      ['/v1/keys', 'GET, HEAD, POST'],
      ['/v1/usage', 'GET, HEAD'],
      ['/v1/scores/encrypted', 'POST'],
      ['/v1/models', 'GET, HEAD'],
      ['/healthz', 'GET, HEAD'],
      ['/openapi.json', 'GET, HEAD'],
    ]) {
      const response = await get(path, {}, 'DELETE');
      expect([path, response.status, response.headers.get('allow')]).toEqual([path, 405, allow]);
      expect((await response.json()).code).toBe('METHOD_NOT_ALLOWED');
    }
    expect((await get('/%E0%A4%A')).status).toBe(404);
  });

  test('security headers are set and the server does not name itself', async () => {
    const { headers } = await get('/healthz');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('strict-transport-security')).toBeTruthy();
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('x-powered-by')).toBeNull();
  });

  test('a sane request id comes back, another is replaced', async () => {
    expect((await get('/healthz', { 'request-id': 'abc-1.2_3' })).headers.get('request-id')).toBe('abc-1.2_3');
    expect((await get('/healthz', { 'x-request-id': 'abc' })).headers.get('request-id')).toBe('abc');
    for (const sent of ['x'.repeat(65), 'a b', '{"a":1}']) {
      expect((await get('/healthz', { 'request-id': sent })).headers.get('request-id')).toMatch(/^[0-9a-f-]{36}$/);
    }
  });

  test('health, readiness and the document need no key', async () => {
    expect(await (await get('/healthz')).json()).toEqual({ status: 'alive' });
    const ready = await get('/readyz');
    expect([ready.status, await ready.json()]).toEqual([503, { status: 'not ready', missing: ['encryption pool'] }]);
    expect((await (await get('/openapi.json')).json()).openapi).toBe('3.1.0');
  });

  test('/v1/models shows the champion without its weights', async () => {
    const { key } = await createApiKey(node, { name: 'reader', scopes: ['models'], actor: 'test' });
    const text = await (await get('/v1/models', bearer(key))).text();
    const { models } = JSON.parse(text);
    expect(models).toHaveLength(1);
    expect(models[0]).toMatchObject({
      status: 'champion',
      family: 'scorecard',
      contractHash: model.contractHash,
      contract,
      training: { mode: 'site', sites: 1, epsilon: 4, delta: 1e-6 },
      scaling: model.scaling,
      decisionThresholds: { reviewFrom: 600, declineFrom: 700 },
      encryption: { presets: ['standard', 'conservative'], dimension: model.weights.flat().length },
    });
    expect(text).not.toMatch(/weights|intercept/);
    for (const weight of model.weights.flat()) expect(text.includes(String(weight))).toBe(weight === 0);
  });

  test('one log line a request, with the route template and nothing of the request', async () => {
    const { key, prefix } = await createApiKey(node, { name: 'logged', scopes: ['models'], actor: 'test' });
    const from = node.logged.length;
    await (await get('/v1/models?pan=4111111111111111', { ...bearer(key), 'request-id': 'log-1' })).text();
    await (await get('/4111111111111111', { 'request-id': 'log-2' })).text();
    const lines = node.logged.slice(from).filter(({ msg }) => msg === 'request');
    expect(lines).toEqual([
      expect.objectContaining({ method: 'GET', route: '/v1/models', status: 200, requestId: 'log-1', key: prefix }),
      expect.objectContaining({ method: 'GET', route: 'unknown', status: 404, code: 'ROUTE_UNKNOWN' }),
    ]);
    expect(/4111111111111111|vrk_/.test(JSON.stringify(node.logged))).toBe(false);
  });

  test('close lets a request in flight end and refuses new ones', async () => {
    const { key } = await createApiKey(node, { name: 'closing', scopes: ['models'], actor: 'test' });
    const other = await serveApi(node, { host: '127.0.0.1', port: 0 });
    const inFlight = fetch(`${other.url}/v1/models`, { headers: bearer(key) });
    await fetch(`${other.url}/healthz`).then((r) => r.text());
    const start = performance.now();
    const closed = other.close();
    expect((await inFlight).status).toBe(200);
    await closed;
    expect(performance.now() - start).toBeLessThan(3_000);
    await expect(fetch(`${other.url}/healthz`)).rejects.toThrow();
  });

  test('a taken port is a configuration error that names it', async () => {
    const { port } = new URL(api.url);
    await expect(serveApi(node, { host: '127.0.0.1', port: Number(port) })).rejects.toMatchObject({
      code: 'CONFIGURATION',
      where: `127.0.0.1:${port}`,
    });
  });
});
