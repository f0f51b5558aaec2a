/** Which pages of a browser may call: those of listed origins, and the others get what a caller that is no browser gets. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createApi, type RunningApi, serveApi } from '../../src/api/server.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { openTestNode, type TestNode } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const LISTED = 'https://pay.example';
const SECOND = 'http://localhost:5173';
let node: TestNode;
let api: RunningApi;
let apiKey: string;

beforeAll(async () => {
  node = await openTestNode(await postgres.freshDatabase());
  node.limits = { ...node.limits, origins: [LISTED, SECOND] };
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  ({ key: apiKey } = await createApiKey(node, { name: 'page', scopes: ['keys', 'score'], actor: 'test' }));
});

afterAll(async () => {
  await api?.close();
  await node?.close();
});

const corsHeaders = ({ headers }: Response) =>
  Object.fromEntries([...headers].filter(([name]) => name.startsWith('access-control-')));
const list = (text: string | null) => (text ?? '').toLowerCase().split(/,\s*/).filter(Boolean).sort();

function preflight(path: string, method: string, origin: string | null = LISTED): Promise<Response> {
  return fetch(api.url + path, {
    method: 'OPTIONS',
    headers: {
      ...(origin !== null && { origin }),
      'access-control-request-method': method,
      'access-control-request-headers': 'authorization,content-type',
    },
  });
}

describe('a preflight', () => {
  test('of a listed origin is answered on every route, without an API key', async () => {
    const routes = createApi(node).router.stack.flatMap(({ route }) =>
      (route?.stack ?? []).map(({ method }) => ({ path: route?.path ?? '', method })),
    );
    const served = routes.filter(({ method }) => method !== undefined && method !== 'options');
    expect(served.length).toBeGreaterThan(10);
    const { size } = await node.store.audit.head();
    for (const { path, method } of served) {
      const response = await preflight(path.replace(':keyId', 'a'.repeat(64)), method.toUpperCase());
      expect([path, response.status, await response.text()]).toEqual([path, 204, '']);
      expect(response.headers.get('access-control-allow-origin')).toBe(LISTED);
      expect(list(response.headers.get('access-control-allow-methods'))).toContain(method);
    }
    expect((await node.store.audit.head()).size).toBe(size);
  });

  test('names what may be sent, for ten minutes, and no credentials', async () => {
    const response = await preflight('/v1/keys', 'POST', SECOND);
    expect(corsHeaders(response)).toEqual({
      'access-control-allow-origin': SECOND,
      'access-control-allow-methods': 'GET, HEAD, POST',
      'access-control-allow-headers': expect.any(String),
      'access-control-max-age': '600',
    });
    expect(list(response.headers.get('access-control-allow-headers'))).toEqual(
      list('authorization,content-type,idempotency-key,request-id,veilrisk-grace-hours,veilrisk-key-days'),
    );
    expect(list(response.headers.get('vary'))).toContain('origin');
  });

  test.each([
    'https://evil.example',
    'https://pay.example.evil.example',
    'https://pay.example:8443',
    'http://pay.example',
    'https://PAY.example',
    'null',
    '*',
    '',
    null,
  ])('of %j is refused as any other OPTIONS', async (origin) => {
    const response = await preflight('/v1/scores', 'POST', origin);
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST']);
    expect(corsHeaders(response)).toEqual({});
    expect(list(response.headers.get('vary'))).toContain('origin');
    expect(response.headers.get('cross-origin-resource-policy')).toBe('same-origin');
  });

  test('of an address that is not there is 404; OPTIONS that is no preflight is 405', async () => {
    for (const path of ['/v1/nothing', '/v1/keys/', '/']) expect((await preflight(path, 'GET')).status).toBe(404);
    const plain = await fetch(`${api.url}/v1/keys`, { method: 'OPTIONS', headers: { origin: LISTED } });
    expect([plain.status, corsHeaders(plain)]).toEqual([405, {}]);
  });
});

describe('a reply', () => {
  const get = (path: string, headers: Record<string, string>) => fetch(api.url + path, { headers });
  const EXPOSED =
    'request-id,retry-after,ratelimit,ratelimit-policy,idempotency-replayed,veilrisk-model,veilrisk-audit-index,' +
    'veilrisk-audit-leaf';

  test('may be read by a listed origin, whether it answers or refuses', async () => {
    const authorization = `Bearer ${apiKey}`;
    for (const [path, headers, status] of [
      ['/v1/keys', { authorization }, 200],
      ['/v1/keys', {}, 401],
      ['/v1/models', { authorization }, 403],
      ['/v1/scores', { authorization }, 405],
      ['/nothing', {}, 404],
      ['/readyz', {}, 503],
    ] as const) {
      const response = await get(path, { ...headers, origin: LISTED });
      expect([path, response.status]).toEqual([path, status]);
      expect(response.headers.get('access-control-allow-origin')).toBe(LISTED);
      expect(response.headers.get('access-control-allow-credentials')).toBeNull();
      expect(list(response.headers.get('access-control-expose-headers'))).toEqual(list(EXPOSED));
      expect(response.headers.get('cross-origin-resource-policy')).toBe('cross-origin');
      expect(list(response.headers.get('vary'))).toContain('origin');
    }
  });

  test('to any other origin, or none, has no CORS header and stays same-origin', async () => {
    for (const headers of [{ origin: 'https://evil.example' }, { origin: 'null' }, {}]) {
      const response = await get('/v1/keys', { authorization: `Bearer ${apiKey}`, ...headers });
      expect([response.status, corsHeaders(response)]).toEqual([200, {}]);
      expect(response.headers.get('cross-origin-resource-policy')).toBe('same-origin');
      expect(list(response.headers.get('vary'))).toContain('origin');
    }
  });

  test('is for no page at all where no origin is listed', async () => {
    const closed = await serveApi({ ...node, limits: { ...node.limits, origins: [] } }, { host: '127.0.0.1', port: 0 });
    try {
      const headers = { origin: LISTED, 'access-control-request-method': 'GET' };
      const refused = await fetch(`${closed.url}/v1/keys`, { method: 'OPTIONS', headers });
      const read = await fetch(`${closed.url}/healthz`, { headers: { origin: '' } });
      expect([refused.status, corsHeaders(refused), corsHeaders(read)]).toEqual([405, {}, {}]);
    } finally {
      await closed.close();
    }
  });
});
