import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { auditEntries } from '../operations/audit.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const { records } = simulated(20, 31);
let wire: Wire;
let node: TestNode;
let api: RunningApi;
let key: string;

beforeAll(async () => {
  wire = await openWire(await postgres.freshDatabase());
  node = await openTestNode(wire.url);
  await adoptModel(node, { contract, model: trainedModel(), actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  ({ key } = await createApiKey(node, { name: 'branch', scopes: ['score', 'models'], actor: 'test' }));
});

afterAll(async () => {
  await wire?.mend();
  await api?.close();
  await node?.close();
  await wire?.close();
});

const post = (body: unknown) =>
  fetch(`${api.url}/v1/scores`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

describe('when the database is gone', () => {
  test('nothing is answered that is not durable, and everything works again afterwards', async () => {
    const before = await post({ transaction: records[0], id: 'before' });
    expect(before.status).toBe(200);
    const answered = await before.json();

    await wire.cut();
    for (const body of [
      { transaction: records[1], id: 'during' },
      { transaction: records[0], id: 'before' },
    ]) {
      const response = await post(body);
      const text = await response.text();
      expect([response.status, JSON.parse(text).code]).toEqual([503, 'DATABASE_UNAVAILABLE']);
      expect(response.headers.get('retry-after')).toBe('5');
      expect(text).not.toMatch(/127\.0\.0\.1|ECONN|postgres|SELECT|INSERT/i);
    }
    node.advance(10_000);
    const models = await fetch(`${api.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
    expect([models.status, (await models.json()).code]).toEqual([503, 'DATABASE_UNAVAILABLE']);
    const ready = await fetch(`${api.url}/readyz`);
    expect([ready.status, (await ready.json()).missing]).toEqual([503, ['database', 'encryption pool']]);
    expect((await fetch(`${api.url}/healthz`)).status).toBe(200);

    await wire.mend();
    const after = await post({ transaction: records[1], id: 'during' });
    expect(after.status).toBe(200);
    const replayed = await post({ transaction: records[0], id: 'before' });
    expect(replayed.headers.get('idempotency-replayed')).toBe('true');
    expect(await replayed.json()).toEqual(answered);
    const decisions = (await auditEntries(node, 0, 1_000)).filter(({ body }) => body.type === 'decision');
    expect(decisions).toHaveLength(2);
  });
});

interface Wire {
  url: string;
  cut(): Promise<void>;
  mend(): Promise<void>;
  close(): Promise<void>;
}

/** A TCP relay in front of PostgreSQL that can be cut and mended on the same port. */
async function openWire(databaseUrl: string): Promise<Wire> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  const server: Server = createServer((inbound) => {
    const outbound = createConnection({ host: target.hostname, port: Number(target.port || 5432) });
    for (const socket of [inbound, outbound]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        inbound.destroy();
        outbound.destroy();
      });
    }
    inbound.pipe(outbound).pipe(inbound);
  });
  const listen = (port: number) => new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  await listen(0);
  const { port } = server.address() as { port: number };
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  async function cut(): Promise<void> {
    if (!server.listening) return;
    const closed = new Promise((done) => server.close(done));
    for (const socket of sockets) socket.destroy();
    await closed;
  }
  return {
    url: url.toString(),
    cut,
    async mend() {
      if (!server.listening) await listen(port);
    },
    close: cut,
  };
}
