/** Memory that callers can claim with request bodies: refused unread, bounded over all of them, given back. */
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import express from 'express';
import { openBodyRoom } from '../../src/api/bodyRoom.ts';
import { answerLarge } from '../../src/api/requests.ts';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { largestRequestBytes } from '../../src/encryption/encryption.ts';
import { openLog } from '../../src/log.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { type EncryptionPool, openEncryptionPool } from '../../src/workers/encryptionPool.ts';
import { contract, openTestNode, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const largest = largestRequestBytes(layoutOf(contract).total);
const ROOM = 256 * 1024 * 1024;
/** Largest bodies that one caller alone may have under way. */
const SHARE = Math.floor(ROOM / 2 / largest);
let pool: EncryptionPool;
let node: TestNode;
let api: RunningApi;
let apiKey: string;
let otherKeys: string[];

beforeAll(async () => {
  pool = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
  node = await openTestNode(await postgres.freshDatabase(), pool);
  await adoptModel(node, { contract, model: trainedModel(), actor: 'test' });
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  ({ key: apiKey } = await createApiKey(node, { name: 'caller', scopes: ['score', 'keys'], actor: 'test' }));
  otherKeys = [];
  for (const name of ['b', 'c', 'd', 'e', 'f', 'g', 'h']) {
    otherKeys.push((await createApiKey(node, { name, scopes: ['score'], actor: 'test' })).key);
  }
  await pool.warmed;
});

afterAll(async () => {
  await api?.close();
  await node?.close();
  await pool?.close();
});

interface Reply {
  status: number | undefined;
  headers: IncomingHttpHeaders;
  body: { code?: string; detail?: string };
}

/** Sends the head of a request and, until told, nothing of its body. */
function announce(url: string, headers: Record<string, string>, key = apiKey) {
  const sent = httpRequest(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/octet-stream', ...headers },
  });
  const reply = new Promise<Reply>((done, fail) => {
    sent.on('error', fail);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => {
        const { statusCode: status, headers } = response;
        done({ status, headers, body: JSON.parse(Buffer.concat(chunks).toString()) });
      });
    });
  });
  reply.catch(() => {});
  sent.flushHeaders();
  return {
    reply,
    write: (body: string) => sent.write(body),
    end: (body: string) => sent.end(body),
    leave: () => sent.destroy(),
  };
}

describe('a body is refused unread', () => {
  test.each(['/v1/scores/encrypted', '/v1/keys'])('by %s when the pool takes no job', async (path) => {
    const closed = openEncryptionPool({ threads: 1, timeoutMs: 30_000, queueLimit: 8, log: openLog('test', 'silent') });
    await closed.warmed;
    await closed.close();
    const full = await serveApi({ ...node, encryption: closed }, { host: '127.0.0.1', port: 0 });
    try {
      const { status, headers, body } = await announce(full.url + path, { 'content-length': '1000000' }).reply;
      expect([status, body.code, headers['retry-after']]).toEqual([503, 'POOL_FULL', '1']);
    } finally {
      await full.close();
    }
  });

  test('when it is larger than any frame for the champion', async () => {
    const headers = { 'content-length': String(largest + 1) };
    const { status, body } = await announce(`${api.url}/v1/scores/encrypted`, headers).reply;
    expect([status, body.code]).toEqual([413, 'REQUEST_TOO_LARGE']);
  });

  test.each<[string, Record<string, string>]>([
    ['announced', { 'content-length': String(largest) }],
    ['chunked, which count as the largest', { 'transfer-encoding': 'chunked' }],
  ])('when its caller holds its share of the room, and others still find theirs: %s', async (_name, headers) => {
    const url = `${api.url}/v1/scores/encrypted`;
    // One more than its share: nothing of any body is sent, so the only answer is the refusal of that one.
    const requests = Array.from({ length: SHARE + 1 }, () => announce(url, headers));
    const { status, headers: replied, body } = await Promise.race(requests.map(({ reply }) => reply));
    expect([status, body.code, replied['retry-after']]).toEqual([503, 'POOL_FULL', '1']);
    expect(body.detail).toMatch(/^Your requests hold the share/);
    const other = announce(url, { 'transfer-encoding': 'chunked' }, otherKeys[0]);
    other.end('x');
    expect((await other.reply).body.code).toBe('FRAME_MALFORMED');
    for (const { leave } of requests) leave();
    await expect(roomComesBack(url)).resolves.toBe('FRAME_MALFORMED');
  });

  test('when the bodies of all callers fill the room', async () => {
    const url = `${api.url}/v1/scores/encrypted`;
    const headers = { 'content-length': String(largest) };
    const held = [apiKey, ...otherKeys].flatMap((key) =>
      Array.from({ length: Math.ceil(ROOM / largest / 4) }, () => announce(url, headers, key)),
    );
    const replies: Reply[] = [];
    for (const { reply } of held) reply.then((seen) => replies.push(seen)).catch(() => {});
    while (!replies.some(({ body }) => body.detail?.startsWith('The requests of all callers'))) {
      await new Promise((later) => setTimeout(later, 5));
    }
    expect(new Set(replies.map(({ status, body }) => `${status} ${body.code}`))).toEqual(new Set(['503 POOL_FULL']));
    for (const { leave } of held) leave();
    await expect(roomComesBack(url)).resolves.toBe('FRAME_MALFORMED');
  });
});

test('a body that comes too slowly loses its room', async () => {
  const url = `${api.url}/v1/scores/encrypted`;
  const headers = { 'content-length': String(largest) };
  const slow = Array.from({ length: SHARE }, () => announce(url, headers));
  const drip = setInterval(() => {
    for (const { write } of slow) write('x'.repeat(1000));
  }, 100);
  try {
    const start = performance.now();
    const { status, body } = await slow[0].reply;
    expect([status, body.code]).toEqual([408, 'REQUEST_TOO_SLOW']);
    expect(performance.now() - start).toBeGreaterThan(4_500);
    expect(performance.now() - start).toBeLessThan(20_000);
    for (const { reply } of slow) expect((await reply).status).toBe(408);
    await expect(roomComesBack(url)).resolves.toBe('FRAME_MALFORMED');
  } finally {
    clearInterval(drip);
    for (const { leave } of slow) leave();
  }
});

/** The answer to as much as one caller may hold, once the node has seen that the others left. */
async function roomComesBack(url: string): Promise<string | undefined> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const held = Array.from({ length: SHARE - 1 }, () => announce(url, { 'content-length': String(largest) }));
    const last = announce(url, { 'transfer-encoding': 'chunked' });
    last.end('x');
    const { body } = await last.reply;
    for (const { leave } of held) leave();
    if (body.code !== 'POOL_FULL') return body.code;
    await new Promise((later) => setTimeout(later, 50));
  }
  return 'POOL_FULL';
}

test('a body counts until its work is done, even when its sender is gone', async () => {
  const working: (() => void)[] = [];
  let seenLeaving = () => {};
  const left = new Promise<void>((done) => {
    seenLeaving = done;
  });
  const answer = answerLarge({
    types: ['application/octet-stream'],
    room: openBodyRoom(20),
    limitBytes: async () => 10,
    async answer(_request, response, gone) {
      gone.addEventListener('abort', seenLeaving);
      await new Promise<void>((done) => working.push(done));
      response.json({});
    },
  });
  const asCaller: express.RequestHandler = (_request, response, next) => {
    response.locals.caller = { owner: 'caller', keyPrefix: 'aaaaaaaa' };
    next();
  };
  const refuse: express.ErrorRequestHandler = (error, _request, response, _next) => {
    response.status(503).json({ code: error.code });
  };
  const server = express().post('/', asCaller, answer).use(refuse).listen(0, '127.0.0.1');
  try {
    await new Promise((listening) => server.once('listening', listening));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const gone = announce(url, { 'content-length': '6' });
    gone.end('123456');
    while (working.length === 0) await new Promise((later) => setTimeout(later, 5));
    gone.leave();
    await left;
    const second = announce(url, { 'content-length': '6' });
    second.end('123456');
    expect((await second.reply).body.code).toBe('POOL_FULL');
    working[0]();
    const third = announce(url, { 'content-length': '6' });
    third.end('123456');
    while (working.length === 1) await new Promise((later) => setTimeout(later, 5));
    working[1]();
    expect((await third.reply).status).toBe(200);
  } finally {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
});

test('a reply counts until it is taken, and who does not take it loses its connection', async () => {
  const replyBytes = 24 * 1024 * 1024;
  let closed = () => {};
  const lost = new Promise<void>((done) => {
    closed = done;
  });
  const answer = answerLarge({
    ...{ types: ['application/octet-stream'], room: openBodyRoom(replyBytes), replyTimeMs: 2_000 },
    limitBytes: async () => 10,
    async answer(_request, response) {
      response.once('close', closed);
      response.send(Buffer.alloc(replyBytes));
    },
  });
  const asCaller: express.RequestHandler = (_request, response, next) => {
    response.locals.caller = { owner: 'caller', keyPrefix: 'aaaaaaaa' };
    next();
  };
  const refuse: express.ErrorRequestHandler = (error, _request, response, _next) => {
    response.status(503).json({ code: error.code });
  };
  const server = express().post('/', asCaller, answer).use(refuse).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address() as AddressInfo;
  const deaf = connect(port, '127.0.0.1').on('error', () => {});
  try {
    deaf.pause();
    const head = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 6\r\n\r\n';
    deaf.write(`${head}123456`);
    const url = `http://127.0.0.1:${port}/`;
    const next = () =>
      fetch(url, { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: '123456' });
    let refused: Response;
    do refused = await next();
    while (refused.status === 200 && (await refused.arrayBuffer()));
    expect((await refused.json()).code).toBe('POOL_FULL');
    await lost;
    const taken = await next();
    expect([taken.status, (await taken.arrayBuffer()).byteLength]).toEqual([200, replyBytes]);
  } finally {
    deaf.destroy();
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});
