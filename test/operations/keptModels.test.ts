/** Models of dense families: kept with evidence and an audit entry, listed, and never scored with. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { binRecord, contractHash, layoutOf } from '../../src/contract/contract.ts';
import { connect } from '../../src/database/connection.ts';
import { selectRows } from '../../src/learning/binned.ts';
import { planHash } from '../../src/learning/plan.ts';
import { type DenseModel, denseHash } from '../../src/learning/sgd/model.ts';
import { defaultDensePlan } from '../../src/learning/sgd/plan.ts';
import { listKept } from '../../src/operations/keptModels.ts';
import { adoptModel, champion, listModels } from '../../src/operations/models.ts';
import { trainTogether } from '../learning/federatedTraining.ts';
import { usePostgres } from '../support/postgres.ts';
import { seededRandom } from '../support/publicData.ts';
import { auditEntries } from './audit.ts';
import { contract, openTestNode, simulated, type TestNode, trainedModel } from './node.ts';

const postgres = usePostgres();
const facts = { contract, epsilon: 4, delta: 1e-6, sites: 1, quorum: 1, expectedRows: 200, rounds: 2 };
const plan = defaultDensePlan({ ...facts, family: 'mlp' });
let url: string;
let node: TestNode;

function trained(seed: number): DenseModel {
  const { records, labels } = simulated(200, 3);
  const bins = Uint16Array.from(records.flatMap((record) => [...binRecord(contract, record).bins]));
  const data = { rows: 200, sizes: layoutOf(contract).sizes, bins, labels };
  const site = { training: data, holdout: selectRows(data, new Uint32Array(0)) };
  // Safe: a plan of a dense family ends in a dense model.
  return trainTogether([site], plan, contract, [seededRandom(seed)]).document as DenseModel;
}
const model = trained(1);
const adoption = {
  ...{ contract, model, expectedHash: denseHash(model), planId: plan.id, actor: 'aggregator' },
  expectedTraining: { planHash: planHash(plan), mode: 'site' as const, sites: 1, rounds: 2, epsilon: 4, delta: 1e-6 },
  evidence: new TextEncoder().encode('{"evaluation":null}'),
};

beforeAll(async () => {
  url = await postgres.freshDatabase();
  node = await openTestNode(url);
});

afterAll(async () => {
  await node?.close();
});

describe('a dense model of a plan', () => {
  test('is kept with an entry in the same transaction, and only once', async () => {
    const { hash, adopted, audit } = await adoptModel(node, adoption);
    expect([hash, adopted]).toEqual([denseHash(model), true]);
    const [entry] = await auditEntries(node, audit!.index, 1);
    expect(entry.body).toMatchObject({
      ...{ type: 'model.adopt', actor: 'aggregator', modelHash: hash, outcome: 'kept' },
      details: { family: 'mlp', contractHash: contractHash(contract), planId: plan.id, planHash: planHash(plan) },
    });
    expect(await adoptModel(node, adoption)).toEqual({ hash, adopted: false, audit: null });
    expect(await listKept(node)).toEqual([
      {
        ...{ hash, status: 'kept', family: 'mlp', contractHash: contractHash(contract), planHash: planHash(plan) },
        keptAt: expect.any(String),
        training: { mode: 'site', sites: 1, rounds: 2, epsilon: 4, delta: 1e-6 },
        evaluation: null,
        parameters: plan.dimension,
      },
    ]);
    const [row] = await node.store.models.list();
    expect([row.status, [...(row.evidence ?? [])]]).toEqual(['kept', [...adoption.evidence]]);
  });

  test('is no champion, before one and after, and is not among the models that score', async () => {
    await expect(champion(node)).rejects.toMatchObject({ code: 'NO_MODEL' });
    const { hash } = await adoptModel(node, { contract, model: trainedModel(7), actor: 'operator' });
    await adoptModel(node, { ...adoption, model: trained(5), expectedHash: undefined, planId: 'another' });
    expect((await champion(node)).hash).toBe(hash);
    expect((await listModels(node)).map((each) => [each.hash, each.status])).toEqual([[hash, 'champion']]);
    expect(await listKept(node)).toHaveLength(2);
  });

  test('is refused when it is another than was announced, trained or signed, and nothing is written', async () => {
    const before = (await node.store.audit.head()).size;
    const refused = (change: object, code: string) =>
      expect(adoptModel(node, { ...adoption, ...change })).rejects.toMatchObject({ code });
    await refused({ expectedHash: '0'.repeat(64) }, 'MODEL_INVALID');
    await refused({ expectedTraining: { ...adoption.expectedTraining, epsilon: 1 } }, 'MODEL_INVALID');
    await refused({ model: { ...model, features: [] } }, 'MODEL_INVALID');
    await refused({ model: trained(9), expectedHash: undefined }, 'MODEL_SIGNATURE');
    expect((await node.store.audit.head()).size).toBe(before);
    expect(await listKept(node)).toHaveLength(2);
  });

  test('is refused when its row was changed', async () => {
    const db = await connect(url);
    try {
      await db.query(`UPDATE models SET model_json = $1 WHERE status = 'kept'`, [
        Buffer.from(JSON.stringify(trained(11))),
      ]);
    } finally {
      await db.end();
    }
    await expect(listKept(node)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
  });
});
