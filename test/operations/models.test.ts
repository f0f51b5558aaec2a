import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { contractHash, parseContract } from '../../src/contract/contract.ts';
import { connect } from '../../src/database/connection.ts';
import { modelHash, type Scorecard } from '../../src/learning/scorecard.ts';
import { createApiKey } from '../../src/operations/apiKeys.ts';
import { adoptModel, champion, listModels } from '../../src/operations/models.ts';
import { scoreTransaction } from '../../src/operations/scoreTransaction.ts';
import { usePostgres } from '../support/postgres.ts';
import { auditEntries } from './audit.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from './node.ts';

const postgres = usePostgres();
const first = trainedModel(7);
const second = trainedModel(8);
const { records } = simulated(5, 41);
let node: TestNode;
let url: string;

beforeAll(async () => {
  url = await postgres.freshDatabase();
  node = await openTestNode(url);
});

afterAll(async () => {
  await node?.close();
});

const size = async () => (await node.store.audit.head()).size;

describe('adopting a model', () => {
  test('before the first there is no champion', async () => {
    await expect(champion(node)).rejects.toMatchObject({ code: 'NO_MODEL' });
    expect(await listModels(node)).toEqual([]);
  });

  test('makes it champion with an entry in the same transaction, and only once', async () => {
    const { hash, adopted, audit } = await adoptModel(node, {
      contract,
      model: first,
      expectedHash: modelHash(first),
      planId: 'plan-1',
      actor: 'aggregator',
    });
    expect([hash, adopted]).toEqual([modelHash(first), true]);
    const [entry] = await auditEntries(node, audit!.index, 1);
    expect(entry).toMatchObject({
      leafHash: audit!.leafHash,
      body: {
        type: 'model.adopt',
        actor: 'aggregator',
        modelHash: hash,
        outcome: 'champion',
        details: { contractHash: contractHash(contract), planId: 'plan-1', previous: null, epsilon: 4, delta: 1e-6 },
      },
    });
    expect((await champion(node)).hash).toBe(hash);
    const before = await size();
    expect(await adoptModel(node, { contract, model: first, actor: 'aggregator' })).toEqual({
      hash,
      adopted: false,
      audit: null,
    });
    expect(await size()).toBe(before);
  });

  test('retires the one before, and going back is an adoption too', async () => {
    await adoptModel(node, { contract, model: second, actor: 'aggregator' });
    expect((await listModels(node)).map(({ hash, status }) => [hash, status])).toEqual([
      [modelHash(second), 'champion'],
      [modelHash(first), 'retired'],
    ]);
    const { audit } = await adoptModel(node, { contract, model: first, actor: 'operator' });
    const [entry] = await auditEntries(node, audit!.index, 1);
    expect(entry.body.details.previous).toBe(modelHash(second));
    expect((await champion(node)).hash).toBe(modelHash(first));
  });

  test.each<[string, () => { contract: unknown; model: unknown; expectedHash?: string }, string]>([
    ['another hash than announced', () => ({ contract, model: second, expectedHash: '0'.repeat(64) }), 'MODEL_INVALID'],
    [
      'a model of another contract',
      () => ({ contract: { ...contract, version: contract.version + 1 }, model: second }),
      'MODEL_CONTRACT_MISMATCH',
    ],
    ['a weight of NaN', () => ({ contract, model: changed(second, Number.NaN) }), 'MODEL_INVALID'],
    ['a weight of infinity', () => ({ contract, model: changed(second, Infinity) }), 'MODEL_INVALID'],
    ['a field too few', () => ({ contract, model: { ...second, weights: second.weights.slice(1) } }), 'MODEL_INVALID'],
    ['a member too many', () => ({ contract, model: { ...second, extra: 1 } }), 'MODEL_INVALID'],
    ['no model', () => ({ contract, model: null }), 'MODEL_INVALID'],
    ['no contract', () => ({ contract: {}, model: second }), 'CONTRACT_INVALID'],
  ])('%s is refused and nothing is written', async (_name, adoption, code) => {
    const before = await size();
    await expect(adoptModel(node, { ...adoption(), actor: 'aggregator' })).rejects.toMatchObject({ code });
    expect(await size()).toBe(before);
    expect((await champion(node)).hash).toBe(modelHash(first));
  });

  test('a second model of one plan is refused and nothing is written, the first can be adopted again', async () => {
    const before = await size();
    const again = { contract, model: second, planId: 'plan-1', actor: 'aggregator' };
    await expect(adoptModel(node, again)).rejects.toMatchObject({
      code: 'MODEL_SIGNATURE',
      where: expect.stringContaining('plan-1'),
    });
    const third = { ...again, model: changed(second, 1) };
    await expect(adoptModel(node, third)).rejects.toMatchObject({ code: 'MODEL_SIGNATURE' });
    expect(await size()).toBe(before);
    expect((await champion(node)).hash).toBe(modelHash(first));
    expect(await listModels(node)).toHaveLength(2);
    expect(await adoptModel(node, { ...again, model: first })).toMatchObject({ adopted: false });
  });

  test('a model that states another training than expected is refused, naming each member', async () => {
    const { training } = second;
    const before = await size();
    const adoption = { contract, model: second, actor: 'aggregator' };
    const expectedTraining = { ...training, epsilon: training.epsilon / 2, planHash: 'f'.repeat(64) };
    await expect(adoptModel(node, { ...adoption, expectedTraining })).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      issues: [{ field: 'training.planHash' }, { field: 'training.epsilon' }],
    });
    expect(await size()).toBe(before);
    await adoptModel(node, { ...adoption, expectedTraining: { epsilon: training.epsilon, mode: training.mode } });
    expect((await champion(node)).hash).toBe(modelHash(second));
    await adoptModel(node, { contract, model: first, actor: 'operator' });
  });

  test('two at once leave one champion', async () => {
    await Promise.all([second, first, second].map((model) => adoptModel(node, { contract, model, actor: 'operator' })));
    expect((await listModels(node)).map(({ status }) => status)).toEqual(['champion', 'retired']);
    await adoptModel(node, { contract, model: first, actor: 'operator' });
  });

  test('two models of one plan at once leave one', async () => {
    const models = [3, 4].map((weight) => changed(second, weight));
    const adoptions = models.map((model) => adoptModel(node, { contract, model, planId: 'race', actor: 'aggregator' }));
    const outcomes = await Promise.allSettled(adoptions);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect((await node.store.models.list()).filter(({ planId }) => planId === 'race')).toHaveLength(1);
    await adoptModel(node, { contract, model: first, actor: 'operator' });
  });

  test('a model beyond the limits of encrypted scoring is listed without presets', async () => {
    await adoptModel(node, { contract, model: changed(second, 9), actor: 'operator' });
    expect((await listModels(node))[0].encryption.presets).toEqual([]);
    expect((await champion(node)).presets).toEqual([]);
    await adoptModel(node, { contract, model: first, actor: 'operator' });
  });

  test('an adoption by another process shows after a second', async () => {
    const other = await openTestNode(url).catch(() => null);
    // The other process holds another log key, which the store refuses; so the row is changed as that process would.
    expect(other).toBeNull();
    expect((await champion(node)).hash).toBe(modelHash(first));
    const client = await connect(url);
    await client.query(`UPDATE models SET status = 'retired' WHERE hash = $1`, [modelHash(first)]);
    await client.query(`UPDATE models SET status = 'champion' WHERE hash = $1`, [modelHash(second)]);
    await client.end();
    expect((await champion(node)).hash).toBe(modelHash(first));
    node.advance(1_001);
    expect((await champion(node)).hash).toBe(modelHash(second));
  });

  test('a repeated request gets its first reply after the contract changed', async () => {
    const { prefix } = await createApiKey(node, { name: 'branch', scopes: ['score'], actor: 'test' });
    const request = {
      caller: { keyPrefix: prefix, owner: 'branch' },
      requestId: 'r',
      id: 'kept',
      transaction: records[0],
    };
    const { reply } = await scoreTransaction(node, request);
    const other = parseContract({
      ...contract,
      version: contract.version + 1,
      fields: contract.fields.filter(({ name }) => name !== 'amount'),
    });
    const at = contract.fields.findIndex(({ name }) => name === 'amount');
    const model = {
      ...{ ...first, contractHash: contractHash(other) },
      weights: first.weights.filter((_, k) => k !== at),
      standardErrors: first.standardErrors!.filter((_, k) => k !== at),
    };
    await adoptModel(node, { contract: other, model, actor: 'operator' });
    expect(await scoreTransaction(node, request)).toMatchObject({ reply, replayed: true });
    await expect(scoreTransaction(node, { ...request, id: 'new' })).rejects.toMatchObject({ code: 'RECORD_INVALID' });
    await adoptModel(node, { contract, model: first, actor: 'operator' });
  });

  test('a model that was changed in the database is not scored with', async () => {
    const client = await connect(url);
    const text = JSON.stringify(changed(first, 3));
    await client.query('UPDATE models SET model_json = $2 WHERE hash = $1', [modelHash(first), Buffer.from(text)]);
    await client.end();
    const fresh = { ...node, store: { ...node.store } };
    await expect(champion(fresh)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await expect(listModels(node)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });
});

/** The model with its first weight replaced. */
function changed(model: Scorecard, weight: number): Scorecard {
  const [[, ...rest], ...fields] = model.weights;
  return { ...model, weights: [[weight, ...rest], ...fields] };
}
