/**
 * Streams of encrypted scoring: bounded memory, order, back-pressure, cancellation, refused transactions and champions
 * that change in the middle.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type Client,
  createClient,
  createKeys,
  type Progress,
  type SecretKey,
  type StreamedScore,
  type StreamOptions,
  type Transaction,
} from '../../src/client/client.ts';
import { chooseLayout } from '../../src/client/layout.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { maxTransactions } from '../../src/encryption/encryption.ts';
import { scoreOf } from '../../src/learning/score.ts';
import { contractOf, exactLogit, openSmallNode, type SmallNode, scaling, testModel } from './smallNode.ts';

const model = testModel(contractOf(1, ['web', 'shop']), 'aa');
const next = testModel(contractOf(1, ['web', 'shop']), 'bb');
/** A contract with more categories: `phone` is "other" in the first and has a weight of its own here. */
const wider = testModel(contractOf(2, ['web', 'shop', 'phone', 'post']), 'cc');
const PATH = '/v1/scores/encrypted';

let node: SmallNode;
let secretKey: SecretKey;
let client: Client;

beforeAll(async () => {
  node = await openSmallNode(model);
  secretKey = await createKeys();
  client = createClient({ url: node.url, apiKey: 'vrk_test', secretKey, backoffMs: 1 });
  await client.registerKey();
});
afterAll(() => node.close());
beforeEach(() => {
  node.reset(model);
  client = createClient({ url: node.url, apiKey: 'vrk_test', secretKey, backoffMs: 1 });
});

const transaction = (i: number): Transaction => ({ amount: (i * 37) % 1000, channel: 'web', abroad: i % 3 === 0 });
const requests = () => node.seen.filter(({ path }) => path === PATH).length;
const settle = (milliseconds = 50) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A source that counts what was read, and knows whether it was let go of. */
function source(count: number, make: (i: number) => Transaction = transaction) {
  const state = { read: 0, released: false };
  async function* items() {
    try {
      for (let i = 0; i < count; i++) {
        state.read++;
        yield make(i);
      }
    } finally {
      state.released = true;
    }
  }
  return { state, items: items() };
}

/** A source that gives some transactions and then none, without end. */
function stuck(count: number) {
  const state = { released: false };
  let given = 0;
  const items: AsyncIterable<Transaction> = {
    [Symbol.asyncIterator]: () => ({
      next: () =>
        given < count ? Promise.resolve({ done: false, value: transaction(given++) }) : new Promise(() => {}),
      return: async () => {
        state.released = true;
        return { done: true, value: undefined };
      },
    }),
  };
  return { state, items };
}

async function collect(items: Parameters<Client['scoreEncryptedStream']>[0], options?: StreamOptions) {
  const results: StreamedScore[] = [];
  let error: unknown;
  try {
    for await (const result of client.scoreEncryptedStream(items, options)) results.push(result);
  } catch (caught) {
    error = caught;
  }
  return { results, error };
}

function right(result: StreamedScore, by = model, record = transaction(result.position)): boolean {
  return 'score' in result && Math.abs(result.score - scoreOf(scaling, exactLogit(by, record))) <= 1;
}

describe('a long source', () => {
  test('20,000 transactions: in order, right, few of them in memory at once', async () => {
    const { state, items } = source(20_000);
    let [position, furthest] = [0, 0];
    let last: Progress | undefined;
    // The node of this test works in the same thread: without these no two requests would be at it.
    node.faults = Array(10).fill('slow');
    const options = { batch: 500, inFlight: 2, onProgress: (now: Progress) => (last = now) };
    for await (const result of client.scoreEncryptedStream(items, options)) {
      if (result.position !== position || !right(result)) throw new TypeError(`result ${position} is wrong`);
      furthest = Math.max(furthest, state.read - position);
      position++;
    }
    expect(position).toBe(20_000);
    // Gathered, under way twice, handed out: four batches, and the one transaction that is asked for.
    expect(furthest).toBeLessThanOrEqual(4 * 500 + 1);
    expect(node.mostActive).toBe(2);
    expect(last).toMatchObject({ scored: 20_000, invalid: 0, requests: 40, retries: 0 });
    expect(state.released).toBe(true);
  });

  test('without a batch size requests are full', async () => {
    const { total } = layoutOf(model.contract);
    const full = maxTransactions('standard', chooseLayout('standard', total, 4096), total);
    const { results } = await collect(source(full + 100).items);
    expect(results.every((result) => right(result))).toBe(true);
    expect(results).toHaveLength(full + 100);
    expect(requests()).toBe(2);
    expect(new Set(node.metered.values())).toEqual(new Set([full, 100]));
  });

  test('a reader that takes nothing stops the source', async () => {
    const { state, items } = source(10_000);
    const stream = client.scoreEncryptedStream(items, { batch: 50, inFlight: 2 });
    await stream.next();
    await settle(200);
    const [read, sent] = [state.read, requests()];
    expect(read).toBeLessThanOrEqual(4 * 50 + 1);
    expect(sent).toBeLessThanOrEqual(3);
    await settle(100);
    expect([state.read, requests()]).toEqual([read, sent]);
    await stream.return(undefined);
    expect(state.released).toBe(true);
  });

  test('the event loop turns between ciphertexts', async () => {
    let turns = 0;
    let going = true;
    const turn = () => {
      turns++;
      if (going) setImmediate(turn);
    };
    node.answer = (request) => {
      if (request.url === PATH) going = false;
      return false;
    };
    setImmediate(turn);
    // One request of several ciphertexts, counted until the node has it.
    await client.scoreEncrypted(
      Array.from({ length: 2000 }, (_, i) => transaction(i)),
      { layout: 'row' },
    );
    expect(turns).toBeGreaterThan(8);
  });

  test('a slow source does not hold back results that are ready; lingerMs sends what has come', async () => {
    const { items, state } = stuck(7);
    const stream = client.scoreEncryptedStream(items, { batch: 3, lingerMs: 20 });
    for (let i = 0; i < 7; i++) expect((await stream.next()).value?.position).toBe(i);
    expect([...node.metered.values()]).toEqual([3, 3, 1]);
    const controller = new AbortController();
    const waiting = client.scoreEncryptedStream(stuck(3).items, { batch: 3, signal: controller.signal });
    for (let i = 0; i < 3; i++) expect((await waiting.next()).value?.position).toBe(i);
    controller.abort();
    await expect(waiting.next()).rejects.toMatchObject({ code: 'CANCELLED' });
    await stream.return(undefined);
    expect(state.released).toBe(true);
  });
});

describe('leaving early', () => {
  test('return() aborts what is under way and releases the source', async () => {
    const { state, items } = source(1000);
    for await (const { position } of client.scoreEncryptedStream(items, { batch: 10, inFlight: 3 })) {
      if (position === 0) node.faults = Array(20).fill('stalled');
      if (position === 60) throw new TypeError('not reached: later requests stall');
      if (position === 9) {
        await settle();
        break;
      }
    }
    expect(state.released).toBe(true);
    // What was on its way arrives, and nothing after it.
    await settle(150);
    const sent = requests();
    await settle();
    expect(requests()).toBe(sent);
    expect(node.active).toBe(0);
    expect(node.abandoned).toBeGreaterThan(0);
  });

  test.each(['before', 'while the node works', 'in a pause', 'while the source waits'])(
    'the signal, %s: CANCELLED at once, with its reason',
    async (when) => {
      const controller = new AbortController();
      const reason = new TypeError('enough');
      const { items, state } = stuck(when === 'while the source waits' ? 5 : 25);
      if (when === 'before') controller.abort(reason);
      if (when === 'while the node works') node.faults = ['stalled', 'stalled', 'stalled'];
      if (when === 'in a pause') {
        node.retryAfter = '30';
        node.faults = [503, 503, 503];
      }
      const collected = collect(items, { batch: 10, signal: controller.signal });
      await settle(120);
      const before = performance.now();
      controller.abort(reason);
      const { results, error } = await collected;
      // Without it: 30 seconds of pause or time limit, or for ever.
      expect(performance.now() - before).toBeLessThan(2000);
      expect(error).toMatchObject({ code: 'CANCELLED', cause: reason });
      expect(results).toEqual([]);
      expect(state.released).toBe(when !== 'before');
      await settle();
      const sent = requests();
      await settle();
      expect(requests()).toBe(sent);
    },
  );

  test('the signal between two results', async () => {
    const controller = new AbortController();
    const stream = client.scoreEncryptedStream([transaction(0), transaction(1)], { signal: controller.signal });
    await stream.next();
    controller.abort();
    await expect(stream.next()).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  test('one cancelled call does not cancel the question for the model that another waits for', async () => {
    let asked = 0;
    node.answer = (request, response) => {
      if (request.url !== '/v1/models' || asked++ > 0) return false;
      setTimeout(() => response.destroy(), 60);
      return true;
    };
    const controller = new AbortController();
    const first = client.scoreEncrypted([transaction(0)], { signal: controller.signal });
    const second = client.scoreEncrypted([transaction(1)]);
    setTimeout(() => controller.abort(), 20);
    await expect(first).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await second).toHaveLength(1);
  });
});

describe('errors come after the results before them', () => {
  const bad = (at: number) => (i: number) => (i === at ? { ...transaction(i), abroad: 'yes' } : transaction(i));

  test('a transaction that does not fit, with its position', async () => {
    const { state, items } = source(100, bad(23));
    const { results, error } = await collect(items, { batch: 10 });
    expect(results.map(({ position }) => position)).toEqual(Array.from({ length: 23 }, (_, i) => i));
    expect(error).toMatchObject({ code: 'RECORD_INVALID', where: 'transaction 23' });
    expect(error).toMatchObject({ issues: [{ field: 'abroad' }] });
    expect(state).toEqual({ read: 24, released: true });
    expect([...node.metered.values()].sort()).toEqual([10, 10, 3].sort());
  });

  test('or, on request, among them', async () => {
    const progress: Progress[] = [];
    const options = { batch: 10, onInvalid: 'report', onProgress: (now: Progress) => progress.push(now) } as const;
    const { results, error } = await collect(source(50, bad(23)).items, options);
    expect(error).toBeUndefined();
    expect(results.map(({ position }) => position)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(results.filter((result) => !right(result))).toEqual([
      { position: 23, issues: [{ field: 'abroad', rule: expect.any(String) }] },
    ]);
    expect(progress.at(-1)).toMatchObject({ scored: 49, invalid: 1 });
    expect([...node.metered.values()].sort()).toEqual([10, 10, 10, 10, 9].sort());
  });

  test('a source of nothing else is not gathered without end', async () => {
    const { state, items } = source(10_000, () => ({ amount: 'much' }));
    const stream = client.scoreEncryptedStream(items, { batch: 10, onInvalid: 'report' });
    expect((await stream.next()).value).toMatchObject({ position: 0, issues: [{ field: 'amount' }] });
    await settle();
    expect(state.read).toBeLessThanOrEqual(4 * 10 + 1);
    await stream.return(undefined);
    expect(requests()).toBe(0);
  });

  test('a source that fails, a request that is refused, a progress that throws', async () => {
    const broken = source(25, (i) => {
      if (i === 15) throw new TypeError('the file is gone');
      return transaction(i);
    });
    const failed = await collect(broken.items, { batch: 10 });
    expect([failed.results.length, failed.error]).toEqual([15, new TypeError('the file is gone')]);

    node.onRequest = (count) => {
      if (count === 5) node.answer = (_, response) => Boolean(response.writeHead(403).end('{"code":"KEY_REVOKED"}'));
    };
    const refused = await collect(source(100).items, { batch: 10, inFlight: 1 });
    expect(refused.results.length % 10).toBe(0);
    expect(refused.error).toMatchObject({ code: 'SERVICE_REFUSED', serviceCode: 'KEY_REVOKED' });

    node.reset(model);
    const thrown = new TypeError('no terminal');
    const onProgress = () => {
      throw thrown;
    };
    expect(await collect([transaction(0)], { onProgress })).toEqual({ results: [], error: thrown });
  });

  test.each<StreamOptions>([
    { batch: 0 },
    { batch: 1.5 },
    { inFlight: 0 },
    { inFlight: 17 },
    { lingerMs: -1 },
    { lingerMs: Number.NaN },
  ])('%j is refused', async (options) => {
    expect((await collect([], options)).error).toMatchObject({ code: 'OPTION_INVALID' });
  });
});

describe('a champion that changes in the middle', () => {
  test('the rest is scored by the new one, and every result says by which', async () => {
    node.onRequest = (count) => {
      if (count === 3) node.served = next;
    };
    const { results, error } = await collect(source(60).items, { batch: 10, inFlight: 3 });
    expect(error).toBeUndefined();
    expect(results.map(({ position }) => position)).toEqual(Array.from({ length: 60 }, (_, i) => i));
    const by = results.map((result) => ('model' in result ? result.model.hash : ''));
    expect(new Set(by)).toEqual(new Set([model.linear.hash, next.linear.hash]));
    expect(by).toEqual([...by].sort());
    expect(results.every((result, i) => right(result, by[i] === model.linear.hash ? model : next))).toBe(true);
    // Asked for at the start and once for all requests that found out.
    expect(node.seen.filter(({ path }) => path === '/v1/models')).toHaveLength(2);
    expect([...node.metered.values()].reduce((sum, count) => sum + count)).toBe(60);
  });

  test('a new contract is what the rest is checked against', async () => {
    node.onRequest = (count) => {
      if (count === 2) node.served = wider;
    };
    const phone = (i: number) => ({ ...transaction(i), channel: 'phone' });
    const { results, error } = await collect(source(40, phone).items, { batch: 10, inFlight: 1 });
    expect(error).toBeUndefined();
    expect(results.slice(0, 10).every((result) => right(result, model, phone(result.position)))).toBe(true);
    expect(results.slice(10).every((result) => right(result, wider, phone(result.position)))).toBe(true);
    expect(results).toHaveLength(40);
  });

  test('what only the new contract refuses ends the stream there, or is reported there', async () => {
    const contract = contractOf(3, ['web']);
    // The new contract has no field `abroad`.
    const without = testModel({ ...contract, fields: contract.fields.slice(0, 2) }, 'ee');
    const records = (i: number): Transaction => {
      const { abroad, ...rest } = transaction(i);
      return i === 25 || i === 31 ? { ...rest, abroad } : rest;
    };
    const change = () => {
      node.reset(model);
      client = createClient({ url: node.url, apiKey: 'vrk_test', secretKey });
      node.onRequest = (count) => {
        if (count === 3) node.served = without;
      };
    };
    change();
    const stopped = await collect(source(40, records).items, { batch: 10, inFlight: 1 });
    expect(stopped.results).toHaveLength(25);
    expect(stopped.error).toMatchObject({ code: 'RECORD_INVALID', where: 'transaction 25' });
    change();
    const reported = await collect(source(40, records).items, { batch: 10, inFlight: 1, onInvalid: 'report' });
    expect(reported.error).toBeUndefined();
    expect(reported.results.map(({ position }) => position)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    const refused = reported.results.filter((result) => 'issues' in result);
    expect(refused.map(({ position }) => position)).toEqual([25, 31]);
  });

  test('a node that refuses what it lists is not asked for ever', async () => {
    node.answer = (request, response) => {
      if (request.url !== PATH) return false;
      response.writeHead(409).end('{"code":"MODEL_CONTRACT_MISMATCH"}');
      return true;
    };
    const { error } = await collect([transaction(0)]);
    expect(error).toMatchObject({ serviceCode: 'MODEL_CONTRACT_MISMATCH' });
    expect(requests()).toBe(1);
  });
});
