import { request as httpRequest } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type RunningApi, serveApi } from '../../src/api/server.ts';
import { commit } from '../../src/audit/entry.ts';
import { binRecord } from '../../src/contract/contract.ts';
import { logitOf, probabilityOf, riskScore } from '../../src/learning/scorecard.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel } from '../../src/operations/models.ts';
import { decide, policyHash } from '../../src/operations/policy.ts';
import { auditEntries, personalRows } from '../operations/audit.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from '../operations/node.ts';
import { usePostgres } from '../support/postgres.ts';

const postgres = usePostgres();
const { records } = simulated(200, 11);
const model = trainedModel();
let node: TestNode;
let api: RunningApi;
let key: string;
let prefix: string;

beforeAll(async () => {
  node = await openTestNode(await postgres.freshDatabase());
  api = await serveApi(node, { host: '127.0.0.1', port: 0 });
  ({ key, prefix } = await createApiKey(node, { name: 'branch', scopes: ['score'], actor: 'test' }));
});

afterAll(async () => {
  await api?.close();
  await node?.close();
});

function post(body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${api.url}/v1/scores`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' || body instanceof Uint8Array ? (body as BodyInit) : JSON.stringify(body),
  });
}

async function refusal(response: Response): Promise<{ status: number; code: string; text: string; issues: unknown }> {
  expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  const text = await response.text();
  const problem = JSON.parse(text);
  expect(problem.status).toBe(response.status);
  expect(problem.instance).toBe(`urn:veilrisk:request:${response.headers.get('request-id')}`);
  expect(text).not.toMatch(/\bat .*\.ts|node_modules|SELECT|INSERT|stack/);
  return { status: response.status, code: problem.code, text, issues: problem.issues };
}

describe('POST /v1/scores', () => {
  test('asks to come back later while no model is adopted', async () => {
    const response = await post({ transaction: records[0] });
    expect(response.headers.get('retry-after')).toMatch(/^\d+$/);
    expect(await refusal(response)).toMatchObject({ status: 503, code: 'NO_MODEL' });
    await adoptModel(node, { contract, model, actor: 'test' });
  });

  test('scores as the scorecard says, and the log holds the decision before the reply', async () => {
    for (const [i, transaction] of records.slice(0, 20).entries()) {
      const response = await post({ transaction, id: `tx-${i}` }, { 'request-id': `request-${i}` });
      expect([response.status, response.headers.get('request-id')]).toEqual([200, `request-${i}`]);
      const reply = await response.json();
      const logit = logitOf(model, binRecord(contract, transaction).bins);
      expect(reply).toMatchObject({
        id: `tx-${i}`,
        score: riskScore(model, logit),
        probability: probabilityOf(logit, model.scaling.residualBound),
        decision: decide(node.policy, riskScore(model, logit)),
        policy: { version: 1, hash: policyHash(node.policy) },
      });
      expect(reply.reasons).toHaveLength(4);
      const [entry] = await auditEntries(node, reply.audit.index, 1);
      expect(entry.leafHash).toBe(reply.audit.leafHash);
      expect(entry.body).toMatchObject({
        type: 'decision',
        actor: `api-key:${prefix}`,
        requestId: `request-${i}`,
        modelHash: reply.model.hash,
        policyHash: reply.policy.hash,
        outcome: reply.decision,
      });
    }
  });

  test('the entry commits to transaction and result and holds neither', async () => {
    const transaction = { ...records[30], amount: 1234.56 };
    const reply = await (await post({ transaction })).json();
    const [entry] = await auditEntries(node, reply.audit.index, 1);
    expect(JSON.stringify(entry.body)).not.toMatch(/1234\.56|merchantCategory|probability/);
    const personal = await personalRows(node, reply.audit.index);
    expect(personal.map(({ name }) => name).sort()).toEqual(['result', 'transaction']);
    for (const { name, salt, value } of personal) {
      expect(entry.body.commitments?.[name]).toBe(commit(salt, value));
    }
    const opened = Object.fromEntries(
      personal.map(({ name, value }) => [name, JSON.parse(Buffer.from(value).toString())]),
    );
    expect(opened.transaction).toEqual(transaction);
    expect(opened.result).toEqual({ score: reply.score, probability: reply.probability, reasons: reply.reasons });
  });

  test('a missing or null field is scored as missing', async () => {
    const { amount: _, ...without } = records[31];
    const [absent, nulled] = await Promise.all(
      [without, { ...records[31], amount: null }].map(async (transaction) => (await post({ transaction })).json()),
    );
    expect(absent.score).toBe(nulled.score);
    expect(absent.audit.index).not.toBe(nulled.audit.index);
  });

  test('a repeated request gets the stored reply, another body under its key is refused', async () => {
    const body = { transaction: records[40], id: 'again' };
    const first = await post(body);
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    const shuffled = { id: 'again', transaction: Object.fromEntries(Object.entries(records[40]).reverse()) };
    const second = await post(shuffled);
    expect([second.status, second.headers.get('idempotency-replayed')]).toEqual([200, 'true']);
    expect(await second.json()).toEqual(await first.json());
    const other = await post({ transaction: { ...records[40], amount: 1 }, id: 'again' });
    expect(await refusal(other)).toMatchObject({ status: 422, code: 'IDEMPOTENCY_CONFLICT' });
    const byHeader = await post(body, { 'idempotency-key': '"k-1"' });
    expect(byHeader.headers.get('idempotency-replayed')).toBeNull();
    expect((await post(body, { 'idempotency-key': 'k-1' })).headers.get('idempotency-replayed')).toBe('true');
    expect(await refusal(await post(body, { 'idempotency-key': 'x'.repeat(129) }))).toMatchObject({ status: 400 });
  });

  test('fifty concurrent repeats make one decision and fifty equal replies', async () => {
    const body = { transaction: records[41], id: 'race' };
    const responses = await Promise.all(Array.from({ length: 50 }, () => post(body)));
    const replies = await Promise.all(responses.map((response) => response.text()));
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
    expect(new Set(replies).size).toBe(1);
    expect(responses.filter(({ headers }) => headers.get('idempotency-replayed') === null)).toHaveLength(1);
  });

  test('keys of another caller are another name space', async () => {
    const other = await createApiKey(node, { name: 'partner', scopes: ['score'], actor: 'test' });
    const response = await post({ transaction: records[42], id: 'again' }, { authorization: `Bearer ${other.key}` });
    expect([response.status, response.headers.get('idempotency-replayed')]).toEqual([200, null]);
  });

  test('concurrent decisions get distinct places in the log', async () => {
    const replies = await Promise.all(
      records.slice(50, 150).map(async (transaction) => (await post({ transaction })).json()),
    );
    expect(new Set(replies.map(({ audit }) => audit.index)).size).toBe(100);
    expect(new Set(replies.map(({ id }) => id)).size).toBe(100);
  });
});

describe('bad input to POST /v1/scores', () => {
  const good = () => ({ ...records[0] }) as Record<string, unknown>;

  test.each<[string, string, number, string]>([
    ['half a JSON text', '{"transaction":', 400, 'REQUEST_MALFORMED'],
    ['nothing', '', 400, 'REQUEST_MALFORMED'],
    ['NaN', '{"transaction":{"amount":NaN}}', 400, 'REQUEST_MALFORMED'],
    ['a number over the range of a double', '{"transaction":{"amount":1e999}}', 400, 'REQUEST_MALFORMED'],
    ['a duplicate field', '{"transaction":{"amount":1,"amount":2}}', 400, 'REQUEST_MALFORMED'],
    ['a duplicate member', '{"transaction":{},"transaction":{}}', 400, 'REQUEST_MALFORMED'],
    ['a __proto__ member', '{"transaction":{"__proto__":{"amount":1}}}', 400, 'REQUEST_MALFORMED'],
    ['deep nesting', `{"transaction":${'['.repeat(30_000)}${']'.repeat(30_000)}}`, 400, 'REQUEST_MALFORMED'],
    ['an array', '[]', 422, 'TRANSACTION_INVALID'],
    ['no transaction', '{}', 422, 'TRANSACTION_INVALID'],
    ['an unknown member', '{"transaction":{},"weights":1}', 422, 'TRANSACTION_INVALID'],
    ['a nested value', '{"transaction":{"amount":{"$gt":0}}}', 422, 'TRANSACTION_INVALID'],
    ['a long text', `{"transaction":{"channel":"${'x'.repeat(5_000)}"}}`, 422, 'TRANSACTION_INVALID'],
    [
      '600 fields',
      JSON.stringify({ transaction: Object.fromEntries([...Array(600).keys()].map((i) => [`f${i}`, 1])) }),
      422,
      'TRANSACTION_INVALID',
    ],
    ['an id with a line break', '{"transaction":{},"id":"a\\nb"}', 422, 'TRANSACTION_INVALID'],
    ['a field called constructor', '{"transaction":{"constructor":1}}', 422, 'RECORD_INVALID'],
    ['a field called toString', '{"transaction":{"toString":null}}', 422, 'RECORD_INVALID'],
    ['text in a numeric field', '{"transaction":{"amount":"12"}}', 422, 'RECORD_INVALID'],
    ['10 MB of text', `{"transaction":{"channel":"${'x'.repeat(10_000_000)}"}}`, 413, 'REQUEST_TOO_LARGE'],
  ])('%s is refused', async (_name, body, status, code) => {
    const before = (await auditEntries(node, 0, 100_000)).length;
    expect(await refusal(await post(body))).toMatchObject({ status, code });
    expect((await auditEntries(node, 0, 100_000)).length).toBe(before);
  });

  test('issues name field and rule, never the value', async () => {
    const transaction = { ...good(), amount: 'pan 4111111111111111', newMerchant: 'yes', surname: 'Miller' };
    const problem = await refusal(await post({ transaction }));
    expect(problem).toMatchObject({ status: 422, code: 'RECORD_INVALID' });
    expect((problem.issues as { field: string }[]).map(({ field }) => field).sort()).toEqual([
      'amount',
      'newMerchant',
      'surname',
    ]);
    expect(problem.text).not.toMatch(/4111|Miller|yes/);
  });

  test('huge finite numbers are clamped, not refused', async () => {
    expect((await post({ transaction: { ...good(), amount: 1e308 } })).status).toBe(200);
  });

  test.each([
    ['text/plain'],
    ['application/x-www-form-urlencoded'],
    ['application/json; charset=utf-16'],
    ['application/jsonp'],
  ])('media type %s is refused', async (type) => {
    const response = await post({ transaction: good() }, { 'content-type': type });
    expect(await refusal(response)).toMatchObject({ status: 415, code: 'MEDIA_TYPE_UNSUPPORTED' });
  });

  test('a compressed body is refused', async () => {
    const response = await post(Uint8Array.of(0x1f, 0x8b, 8, 0), { 'content-encoding': 'gzip' });
    expect(await refusal(response)).toMatchObject({ status: 415 });
  });

  test('a body that ends early leaves nothing behind', async () => {
    const before = (await auditEntries(node, 0, 100_000)).length;
    await new Promise<void>((done) => {
      const sent = httpRequest(`${api.url}/v1/scores`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'content-length': 1000 },
      });
      sent.on('error', () => done());
      sent.write('{"transaction":{');
      setTimeout(() => sent.destroy(), 50);
    });
    expect((await post({ transaction: good() })).status).toBe(200);
    expect((await auditEntries(node, 0, 100_000)).length).toBe(before + 1);
  });
});
