/**
 * Faults between SDK and node: whatever fails in whatever order, results are right and in order, and every frame that
 * is sent again has the same bytes, so the meter counts each transaction once.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  type ClientOptions,
  createClient,
  createKeys,
  type Progress,
  type SecretKey,
} from '../../src/client/client.ts';
import { scoreOf } from '../../src/learning/score.ts';
import { contractOf, exactLogit, type Fault, openSmallNode, type SmallNode, scaling, testModel } from './smallNode.ts';

const model = testModel(contractOf(1, ['web', 'shop']), 'aa');
const transactions = Array.from({ length: 25 }, (_, i) => ({ amount: i * 40, channel: 'web', abroad: i % 2 === 0 }));
const PATH = '/v1/scores/encrypted';

let node: SmallNode;
let secretKey: SecretKey;

beforeAll(async () => {
  node = await openSmallNode(model);
  secretKey = await createKeys();
  await open().registerKey();
});
afterAll(() => node.close());
beforeEach(() => node.reset(model));

function open(options: Partial<ClientOptions> = {}) {
  return createClient({ url: node.url, apiKey: 'vrk_test', secretKey, backoffMs: 1, ...options });
}

const frames = () => node.seen.filter(({ path }) => path === PATH);

test('no sequence of up to four faults changes results, their order or what is metered', async () => {
  const fault = fc.constantFrom<Fault>('lost', 'unanswered', 'cut', 'twice', 'slow', 502, 503, 504);
  const client = open();
  await fc.assert(
    fc.asyncProperty(fc.array(fault, { maxLength: 4 }), fc.integer({ min: 1, max: 3 }), async (faults, inFlight) => {
      node.reset(model);
      node.faults = [...faults];
      let progress: Progress | undefined;
      const onProgress = (now: Progress) => {
        progress = now;
      };
      const scored: { position: number; score: number }[] = [];
      for await (const result of client.scoreEncryptedStream(transactions, { batch: 7, inFlight, onProgress })) {
        if ('score' in result) scored.push(result);
      }
      expect(scored.map(({ position }) => position)).toEqual(transactions.map((_, i) => i));
      for (const { position, score } of scored) {
        expect(Math.abs(score - scoreOf(scaling, exactLogit(model, transactions[position])))).toBeLessThanOrEqual(1);
      }
      // Four batches: four different frames, however often each was sent; `lost` ones were not read.
      expect(new Set(frames().map(({ tag }) => tag)).size).toBe(4);
      expect([...node.metered.values()].sort()).toEqual([4, 7, 7, 7]);
      const failing = faults.filter((one) => one !== 'twice' && one !== 'slow').length;
      expect(progress).toMatchObject({ scored: 25, invalid: 0, requests: 4, retries: failing });
      expect(progress!.bytesUp).toBe((4 + failing) * frames()[0].bytes);
      expect(progress!.bytesDown).toBeGreaterThan(0);
    }),
    { numRuns: 30, seed: 5 },
  );
});

describe('what is repeated', () => {
  test('a bounded number of times; then the error of the last attempt', async () => {
    node.faults = ['cut', 'unanswered', 'cut', 'cut', 'cut', 'cut'];
    const refused = open({ retries: 3 }).scoreEncrypted(transactions);
    await expect(refused).rejects.toMatchObject({ code: 'SERVICE_UNREACHABLE', where: PATH });
    expect(frames()).toHaveLength(4);
    expect(new Set(frames().map(({ tag }) => tag)).size).toBe(1);
    expect(node.metered.size).toBe(1);
  });

  test.each([400, 401, 403, 404, 409, 413, 422, 429, 500, 501])('never a %i', async (status) => {
    node.answer = (request, response) => {
      if (request.url !== PATH) return false;
      response.writeHead(status, { 'retry-after': '0' }).end('{"code":"VECTOR_LIMIT","title":"limit"}');
      return true;
    };
    const refused = open().scoreEncrypted(transactions);
    await expect(refused).rejects.toMatchObject({ code: 'SERVICE_REFUSED', status, serviceCode: 'VECTOR_LIMIT' });
    expect(frames()).toHaveLength(1);
  });

  test('Retry-After in seconds is waited for', async () => {
    node.faults = [503];
    node.retryAfter = '1';
    const before = performance.now();
    await open().scoreEncrypted(transactions);
    expect(performance.now() - before).toBeGreaterThan(990);
  });

  test('Retry-After as a date is waited for', async () => {
    node.faults = [503];
    node.retryAfter = new Date(Date.now() + 2000).toUTCString();
    const before = performance.now();
    await open().scoreEncrypted(transactions);
    expect(performance.now() - before).toBeGreaterThan(990);
  });

  test('a pause beyond the deadline is not begun', async () => {
    node.faults = [503, 503];
    node.retryAfter = '3600';
    const before = performance.now();
    await expect(open({ deadlineMs: 2000 }).scoreEncrypted(transactions)).rejects.toMatchObject({ status: 503 });
    expect(performance.now() - before).toBeLessThan(1900);
    expect(frames()).toHaveLength(1);
  });

  test('an attempt without an answer ends with its time limit, and all of them with the deadline', async () => {
    node.faults = ['stalled'];
    await open({ timeoutMs: 500 }).scoreEncrypted(transactions);
    expect(frames().length).toBeGreaterThanOrEqual(2);
    node.reset(model);
    node.faults = ['stalled', 'stalled', 'stalled', 'stalled', 'stalled'];
    const before = performance.now();
    const refused = open({ timeoutMs: 150, deadlineMs: 250 }).scoreEncrypted(transactions);
    await expect(refused).rejects.toMatchObject({ code: 'SERVICE_UNREACHABLE' });
    expect(performance.now() - before).toBeLessThan(2000);
    expect(frames().length).toBeLessThanOrEqual(2);
  });

  test('a clear score, with the same idempotency key and body', async () => {
    let attempts = 0;
    const reply = {
      ...{ score: 500, probability: 0.1, decision: 'review', reasons: [], model: { hash: model.linear.hash } },
      ...{ policy: { version: 1, hash: '00'.repeat(32) }, audit: { index: 1, leafHash: '00'.repeat(32) } },
    };
    node.answer = (request, response) => {
      if (++attempts < 3) request.socket.destroy();
      else response.writeHead(200).end(JSON.stringify(reply));
      return true;
    };
    expect(await open().score(transactions[0])).toEqual(reply);
    expect(node.seen.map(({ path }) => path)).toEqual(['/v1/scores', '/v1/scores', '/v1/scores']);
    expect(new Set(node.seen.map(({ tag, headers }) => `${tag} ${headers['idempotency-key']}`)).size).toBe(1);
  });
});

test('an answer without end is refused', async () => {
  node.answer = (_request, response) => {
    response.writeHead(200);
    const chunk = Buffer.alloc(1024 * 1024, 0x20);
    const more = () => {
      while (!response.destroyed && response.write(chunk));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
    return true;
  };
  await expect(open().models()).rejects.toMatchObject({ code: 'REPLY_MALFORMED' });
});
