import { afterEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { connect } from '../../src/database/connection.ts';
import { openBudget } from '../../src/privacy/budget.ts';
import { BUDGET_TYPE, reservationEntry } from '../../src/store/ledger.ts';
import { usePostgres } from '../support/postgres.ts';
import { type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
const opened: OpenedStore[] = [];
afterEach(async () => {
  for (const { store } of opened.splice(0)) await store.close();
});

async function open(url?: string, signer?: OpenedStore['signer']): Promise<OpenedStore> {
  const one = await openStore(url ?? (await postgres.freshDatabase()), signer);
  opened.push(one);
  return one;
}

/** As operations do it: the data set, its budget and the entry of both in one transaction. */
async function loggedDataset({ store }: OpenedStore, epsilon = 1, name = 'cards'): Promise<number> {
  return store.transaction(async (tx) => {
    const { id } = await tx.datasets.create({ name, contractHash: 'c'.repeat(64), contract: {} });
    const budget = openBudget(epsilon, 1e-6);
    await tx.ledger.setBudget(id, budget);
    const details = { dataset: name, budget: { epsilon: budget.epsilon, delta: budget.delta } };
    await tx.append({ type: BUDGET_TYPE, actor: 'node', outcome: 'ok', details });
    return id;
  });
}

/** As operations do it: the reservation and its entry in one transaction. */
function reserve({ store }: OpenedStore, datasetId: number, round: number, muSquared: number) {
  return store.transaction(async (tx) => {
    const result = await tx.ledger.reserve({
      datasetId,
      planId: 'plan',
      round,
      muSquared,
      statement: { unit: 'customer' },
    });
    if (result.reserved) await tx.append(reservationEntry(result.release, 'node'));
    return result;
  });
}

const LIMIT = openBudget(1, 1e-6).muSquared;

describe('ledger', () => {
  test('reserved, committed and lost all count; refused does not', async () => {
    const node = await open();
    const { store } = node;
    const id = await loggedDataset(node);
    const quarter = LIMIT / 4;
    const first = await reserve(node, id, 0, quarter);
    await store.transaction((tx) => tx.ledger.commit(first.release.id, new Uint8Array([1, 2, 3])));
    const second = await reserve(node, id, 1, quarter);
    await store.transaction((tx) => tx.ledger.markLost(second.release.id));
    const retry = await reserve(node, id, 1, quarter);
    expect(retry).toMatchObject({ reserved: true, release: { attempt: 2, state: 'reserved' } });
    const refused = await reserve(node, id, 2, quarter * (1 + 1e-12));
    expect(refused).toMatchObject({ reserved: false, release: { state: 'refused' }, totals: { spent: 3 * quarter } });
    expect(await store.ledger.totals(id)).toEqual({
      budget: { epsilon: 1, delta: 1e-6, muSquared: LIMIT },
      reserved: quarter,
      committed: quarter,
      lost: quarter,
      spent: 3 * quarter,
      refusals: 1,
    });
    // All that is left, but for the rounding of decimals, still fits.
    expect(await reserve(node, id, 2, quarter * (1 - 1e-12))).toMatchObject({
      reserved: true,
      release: { attempt: 2 },
    });
    expect(await store.ledger.latest(id, 'plan', 0)).toMatchObject({
      state: 'committed',
      // sha256 of 010203, by coreutils
      payloadSha256: '039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81',
      payload: new Uint8Array([1, 2, 3]),
    });
  });

  test('a release is made once: reserved or committed, it cannot be reserved, settled or lost again', async () => {
    const node = await open();
    const { store } = node;
    const id = await loggedDataset(node);
    const { release } = await reserve(node, id, 0, LIMIT / 10);
    const replayed = { code: 'RELEASE_REPLAYED' };
    await expect(reserve(node, id, 0, LIMIT / 10)).rejects.toMatchObject(replayed);
    await store.transaction((tx) => tx.ledger.commit(release.id, new Uint8Array(1)));
    await expect(reserve(node, id, 0, LIMIT / 10)).rejects.toMatchObject(replayed);
    await expect(store.transaction((tx) => tx.ledger.commit(release.id, new Uint8Array(2)))).rejects.toMatchObject(
      replayed,
    );
    await expect(store.transaction((tx) => tx.ledger.markLost(release.id))).rejects.toMatchObject(replayed);
    expect((await store.ledger.releases(id)).map(({ state }) => state)).toEqual(['committed']);
  });

  test('a loss that is not positive and finite is refused', async () => {
    const node = await open();
    const id = await loggedDataset(node);
    for (const muSquared of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(reserve(node, id, 0, muSquared)).rejects.toMatchObject({ code: 'PRIVACY_PARAMETER' });
    }
  });

  test('without a budget nothing is reserved', async () => {
    const node = await open();
    const id = await node.store.transaction(async (tx) => {
      return (await tx.datasets.create({ name: 'n', contractHash: 'c', contract: {} })).id;
    });
    await expect(reserve(node, id, 0, LIMIT / 10)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('two processes at once cannot overspend', async () => {
    const a = await open();
    const b = await open(a.url, a.signer);
    const id = await loggedDataset(a);
    // 15 per cent go into the budget six times, whoever comes first.
    const all = await Promise.all(
      Array.from({ length: 12 }, (_, i) => reserve(i % 2 === 0 ? a : b, id, i, 0.15 * LIMIT)),
    );
    expect(all.filter(({ reserved }) => reserved)).toHaveLength(6);
    expect((await a.store.ledger.totals(id))?.spent).toBeCloseTo(0.9 * LIMIT, 12);
    await a.store.audit.fsck();
  });

  test('whatever is asked, the sum never exceeds the budget', async () => {
    const node = await open();
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.double({ min: 0.01, max: 4, noNaN: true }),
        fc.array(fc.double({ min: 1e-12, max: 1, noNaN: true }), { maxLength: 6 }),
        async (epsilon, losses) => {
          const id = await loggedDataset(node, epsilon, `run ${run++}`);
          for (const [round, loss] of losses.entries()) await reserve(node, id, round, loss);
          const { spent, budget } = (await node.store.ledger.totals(id))!;
          expect(spent).toBeLessThanOrEqual(budget.muSquared);
          expect(budget.muSquared).toBe(openBudget(epsilon, 1e-6).muSquared);
        },
      ),
      { numRuns: 15 },
    );
  });
});

describe('cross-check with the audit log', () => {
  async function change(url: string, sql: string): Promise<void> {
    const client = await connect(url);
    const tables = ['releases', 'budgets', 'audit_entries'];
    for (const table of tables) await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    await client.query(sql);
    for (const table of tables) await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
    await client.end();
  }

  test.each([
    ['removed', 'DELETE FROM releases WHERE round = 1'],
    ['made cheaper', 'UPDATE releases SET mu_squared = 0.0001 WHERE round = 1'],
    ['called refused', "UPDATE releases SET state = 'refused' WHERE round = 1"],
    [
      'added',
      `INSERT INTO releases (dataset_id, plan_id, round, attempt, mu_squared, state, statement)
               SELECT dataset_id, plan_id, 9, 1, mu_squared, 'lost', '{}' FROM releases WHERE round = 1`,
    ],
    ['left while its budget was raised', 'UPDATE budgets SET mu_squared = mu_squared * 100'],
    ['left while its budget was renamed', 'UPDATE budgets SET epsilon = 8'],
    ['left while its budget was removed', 'DELETE FROM budgets'],
    [
      'left while another data set got a budget',
      `INSERT INTO datasets (name, contract_hash, contract_json) VALUES ('new', 'c', '{}');
               INSERT INTO budgets (dataset_id, epsilon, delta, mu_squared) SELECT max(id), 8, 0.1, 8 FROM datasets`,
    ],
  ])('a release that was %s is found and the store does not open', async (_, sql) => {
    const node = await open();
    const id = await loggedDataset(node, 2);
    for (const round of [0, 1, 2]) await reserve(node, id, round, 0.01);
    await node.store.audit.ledgerAgreesWithLog();
    await change(node.url, sql);
    await expect(node.store.audit.ledgerAgreesWithLog()).rejects.toMatchObject({ code: 'LEDGER_MISMATCH' });
    await expect(openStore(node.url, node.signer)).rejects.toMatchObject({ code: 'LEDGER_MISMATCH' });
  });

  test('releases of every state agree with the log of two stores', async () => {
    const a = await open();
    const b = await open(a.url, a.signer);
    const id = await loggedDataset(a, 1);
    const losses = await Promise.all(Array.from({ length: 8 }, (_, i) => reserve(i % 2 === 0 ? a : b, id, i, 0.01)));
    expect(losses.filter(({ reserved }) => !reserved)).not.toHaveLength(0);
    const [first, second] = losses.filter(({ reserved }) => reserved);
    await a.store.transaction((tx) => tx.ledger.commit(first.release.id, new Uint8Array(1)));
    await b.store.transaction((tx) => tx.ledger.markLost(second.release.id));
    await b.store.audit.ledgerAgreesWithLog();
    await open(a.url, a.signer);
  });

  test('the budget that counts is the last one that was logged', async () => {
    const node = await open();
    const id = await loggedDataset(node, 1);
    await node.store.transaction(async (tx) => {
      await tx.ledger.setBudget(id, openBudget(2, 1e-6));
      const details = { dataset: 'cards', budget: { epsilon: 2, delta: 1e-6 } };
      await tx.append({ type: BUDGET_TYPE, actor: 'node', outcome: 'ok', details });
    });
    await node.store.audit.ledgerAgreesWithLog();
    await change(node.url, 'UPDATE budgets SET epsilon = 1');
    await expect(node.store.audit.ledgerAgreesWithLog()).rejects.toMatchObject({
      code: 'LEDGER_MISMATCH',
      where: 'budget of data set cards',
    });
  });

  test.each([
    ['no JSON', '"type":"dataset.create" hello'],
    ['no object', '["type","dataset.create",{"a":1,"type":"dataset.create"}'],
  ])('an entry that is %s is an error of the log', async (_, text) => {
    const node = await open();
    await loggedDataset(node);
    await change(node.url, `UPDATE audit_entries SET bytes = convert_to('${text}', 'UTF8')`);
    await expect(node.store.audit.ledgerAgreesWithLog()).rejects.toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
      where: 'index 0',
    });
  });

  test('the database refuses to change or remove releases and to remove budgets', async () => {
    const node = await open();
    const id = await loggedDataset(node);
    await reserve(node, id, 0, LIMIT / 10);
    const lost = await reserve(node, id, 1, LIMIT / 10);
    await node.store.transaction((tx) => tx.ledger.markLost(lost.release.id));
    const client = await connect(node.url);
    for (const sql of [
      'DELETE FROM releases',
      'TRUNCATE releases',
      "UPDATE releases SET mu_squared = 0.01 WHERE state = 'reserved'",
      "UPDATE releases SET state = 'refused' WHERE state = 'reserved'",
      "UPDATE releases SET state = 'reserved' WHERE state = 'lost'",
      'DELETE FROM budgets',
    ]) {
      await expect(client.query(sql)).rejects.toMatchObject({ code: '42501' });
    }
    await client.end();
  });
});
