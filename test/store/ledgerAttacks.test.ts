/** Ways to spend a budget twice: other defaults of the server, rounding, and rows that change while a node runs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { connect } from '../../src/database/connection.ts';
import { openBudget } from '../../src/privacy/budget.ts';
import { BUDGET_TYPE, decimalAbove, decimalBelow, reservationEntry } from '../../src/store/ledger.ts';
import { usePostgres } from '../support/postgres.ts';
import { replayLog } from './ledgerReplay.ts';
import { type OpenedStore, openStore } from './node.ts';

const postgres = usePostgres();
const opened: OpenedStore[] = [];
const LIMIT = openBudget(1, 1e-6).muSquared;

afterEach(async () => {
  for (const { store } of opened.splice(0)) await store.close();
});

async function open(url?: string, signer?: OpenedStore['signer']): Promise<OpenedStore> {
  const one = await openStore(url ?? (await postgres.freshDatabase()), signer);
  opened.push(one);
  return one;
}

/** As operations do it; a budget can be set again. */
function setBudget({ store }: OpenedStore, epsilon: number): Promise<number> {
  return store.transaction(async (tx) => {
    const found = await tx.datasets.find('cards');
    const { id } = found ?? (await tx.datasets.create({ name: 'cards', contractHash: 'c'.repeat(64), contract: {} }));
    const budget = openBudget(epsilon, 1e-6);
    await tx.ledger.setBudget(id, budget);
    const details = { dataset: 'cards', budget: { epsilon, delta: 1e-6 } };
    await tx.append({ type: BUDGET_TYPE, actor: 'node', outcome: 'ok', details });
    return id;
  });
}

function reserve({ store }: OpenedStore, datasetId: number, round: number, muSquared: number) {
  return store.transaction(async (tx) => {
    const result = await tx.ledger.reserve({ datasetId, planId: 'plan', round, muSquared, statement: {} });
    if (result.reserved) await tx.append(reservationEntry(result.release, 'node'));
    return result;
  });
}

async function administer(url: string, ...statements: string[]): Promise<void> {
  const client = await connect(url);
  const tables = ['releases', 'budgets', 'audit_entries', 'audit_head'];
  for (const table of tables) await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
  for (const sql of statements) await client.query(sql);
  for (const table of tables) await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
  await client.end();
}

describe('a server with other defaults', () => {
  test('under REPEATABLE READ a reservation still sees what was reserved while it waited for the budget', async () => {
    const url = await postgres.freshDatabase();
    await administer(
      (await open(url)).url,
      `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET default_transaction_isolation = 'repeatable read'`,
    );
    const { signer } = opened[0];
    const [a, b] = [await open(url, signer), await open(url, signer)];
    const id = await setBudget(a, 1);
    let first: Promise<unknown> = Promise.resolve();
    // b's transaction begins, and looks around, before a's is committed.
    const late = b.store.transaction(async (tx) => {
      await tx.ledger.totals(id);
      first = reserve(a, id, 0, 0.6 * LIMIT);
      await first;
      return tx.ledger.reserve({ datasetId: id, planId: 'plan', round: 1, muSquared: 0.6 * LIMIT, statement: {} });
    });
    expect(await late).toMatchObject({ reserved: false });
  });
});

/** A double as an exact fraction: numerator and a power of two. */
function exactly(value: number): { num: bigint; den: bigint } {
  let den = 1n;
  let scaled = value;
  while (!Number.isInteger(scaled)) {
    scaled *= 2;
    den *= 2n;
  }
  return { num: BigInt(scaled), den };
}
const scaledText = (decimal: string) => BigInt(decimal.replace('.', ''));
const SCALE = 10n ** 30n;
/** A denominator of every double. */
const EVERY = 2n ** 1074n;

describe('decimals', () => {
  const loss = fc.oneof(
    fc.double({ min: Number.MIN_VALUE, max: 100, noNaN: true }),
    fc.double({ min: 1e-40, max: 1e-25, noNaN: true }),
    fc.constantFrom(Number.MIN_VALUE, 1e-31, 1e-30, 0.1, 0.25, 1 / 3, 0.05602896382522848),
  );

  test('a loss is never less than its double, a limit never more, and both within one unit', () => {
    fc.assert(
      fc.property(loss, (value) => {
        const { num, den } = exactly(value);
        const up = scaledText(decimalAbove(value));
        const down = scaledText(decimalBelow(value));
        expect(up * den).toBeGreaterThanOrEqual(num * SCALE);
        expect((up - 1n) * den).toBeLessThan(num * SCALE);
        expect(down * den).toBeLessThanOrEqual(num * SCALE);
        expect((down + 1n) * den).toBeGreaterThan(num * SCALE);
      }),
    );
  });

  test('what is no amount is no decimal', () => {
    for (const value of [Number.NaN, -1, Number.POSITIVE_INFINITY, 1e21]) {
      expect(() => decimalAbove(value)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
      expect(() => decimalBelow(value)).toThrow(expect.objectContaining({ code: 'PRIVACY_PARAMETER' }));
    }
  });

  test('decimals that fit a budget are doubles that fit it, added exactly', () => {
    fc.assert(
      fc.property(
        fc.array(loss, { minLength: 1, maxLength: 40 }),
        fc.double({ min: 0.5, max: 2, noNaN: true }),
        (losses, stretch) => {
          const limit = losses.reduce((sum, each) => sum + each, 0) * stretch;
          const fits =
            losses.reduce((sum, each) => sum + scaledText(decimalAbove(each)), 0n) <= scaledText(decimalBelow(limit));
          const over = (value: number) => exactly(value).num * (EVERY / exactly(value).den);
          const sum = losses.reduce((total, each) => total + over(each), 0n);
          if (fits) expect(sum).toBeLessThanOrEqual(over(limit));
        },
      ),
    );
  });
});

describe('rows that change while a node runs', () => {
  const mismatch = { code: 'LEDGER_MISMATCH' };

  test.each([
    ['a raised budget', ['UPDATE budgets SET epsilon = 8, mu_squared = mu_squared * 30']],
    ['a raised limit', ['UPDATE budgets SET mu_squared = mu_squared * 30']],
    ['a removed release', ['DELETE FROM releases WHERE round = 1']],
    ['a release called refused', ["UPDATE releases SET state = 'refused' WHERE round = 1"]],
    ['a cheaper release', ['UPDATE releases SET mu_squared = mu_squared / 2 WHERE round = 1']],
    [
      'an entry that nobody signed',
      [
        'UPDATE budgets SET epsilon = 2, mu_squared = 0.201004039445163740',
        `INSERT INTO audit_entries SELECT index + 100, node, convert_to(replace(convert_from(bytes, 'UTF8'),
           '"epsilon":1', '"epsilon":2'), 'UTF8') FROM audit_entries WHERE index = 0`,
      ],
    ],
  ])('%s buys nothing, and is named', async (_, statements) => {
    const node = await open();
    const id = await setBudget(node, 1);
    for (const round of [0, 1]) await reserve(node, id, round, LIMIT / 2.1);
    await administer(node.url, ...statements);
    await expect(reserve(node, id, 2, LIMIT / 2.1)).rejects.toMatchObject(mismatch);
    expect((await node.store.ledger.releases(id)).filter(({ round }) => round === 2)).toEqual([]);
  });

  test('other data sets go on, and an honest ledger too', async () => {
    const node = await open();
    const id = await setBudget(node, 1);
    await administer(
      node.url,
      `INSERT INTO datasets (name, contract_hash, contract_json) VALUES ('stray', 'c', '{}');
       INSERT INTO budgets (dataset_id, epsilon, delta, mu_squared) SELECT max(id), 8, 1e-6, 8 FROM datasets`,
    );
    const stray = (await node.store.datasets.find('stray'))!;
    await expect(reserve(node, stray.id, 0, 0.01)).rejects.toMatchObject(mismatch);
    expect(await reserve(node, id, 0, LIMIT / 2)).toMatchObject({ reserved: true });
  });

  test('the ledger tables of an older dump are refused, running and at start', async () => {
    const node = await open();
    const id = await setBudget(node, 1);
    await reserve(node, id, 0, LIMIT / 2.1);
    await administer(
      node.url,
      'CREATE TABLE dumped_releases AS TABLE releases; CREATE TABLE dumped_budgets AS TABLE budgets',
    );
    await reserve(node, id, 1, LIMIT / 2.1);
    await administer(
      node.url,
      'DELETE FROM releases; DELETE FROM budgets',
      'INSERT INTO releases SELECT * FROM dumped_releases; INSERT INTO budgets SELECT * FROM dumped_budgets',
    );
    await expect(reserve(node, id, 2, LIMIT / 2.1)).rejects.toMatchObject(mismatch);
    await expect(openStore(node.url, node.signer)).rejects.toMatchObject({
      ...mismatch,
      where: `data set ${id}, plan plan, round 1, attempt 1`,
      fix: expect.stringContaining('restore a backup in which both agree'),
    });
  });

  test('a release that was removed and made again under its own name is found', async () => {
    const node = await open();
    const id = await setBudget(node, 1);
    const { release } = await reserve(node, id, 0, LIMIT / 4);
    // As if the row had been gone for the moment between comparison and insertion.
    await node.store.transaction((tx) => tx.append(reservationEntry(release, 'node')));
    await expect(node.store.audit.ledgerAgreesWithLog()).rejects.toMatchObject({
      ...mismatch,
      message: expect.stringContaining('twice in the audit log'),
    });
    await expect(reserve(node, id, 1, LIMIT / 4)).rejects.toMatchObject(mismatch);
  });

  test('what was spent under a budget that was put back is found at the next start', async () => {
    const node = await open();
    const id = await setBudget(node, 1);
    const rewrite = (from: string, to: string) =>
      `UPDATE audit_entries SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), '"epsilon":${from}',
         '"epsilon":${to}'), 'UTF8') WHERE index = 0`;
    const { muSquared } = openBudget(2, 1e-6);
    await administer(
      node.url,
      `UPDATE budgets SET epsilon = 2, mu_squared = ${decimalBelow(muSquared)}`,
      rewrite('1', '2'),
    );
    expect(await reserve(node, id, 0, 2 * LIMIT)).toMatchObject({ reserved: true });
    await administer(
      node.url,
      `UPDATE budgets SET epsilon = 1, mu_squared = ${decimalBelow(LIMIT)}`,
      rewrite('2', '1'),
    );
    await expect(openStore(node.url, node.signer)).rejects.toMatchObject({
      ...mismatch,
      message: expect.stringContaining('More was reserved than it ever allowed'),
    });
  });

  test('a release removed together with the text of its entry is found by recomputing the log', async () => {
    const node = await open();
    const id = await setBudget(node, 1);
    for (const round of [0, 1, 2]) await reserve(node, id, round, LIMIT / 4);
    await administer(
      node.url,
      'DELETE FROM releases WHERE round = 1',
      `UPDATE audit_entries SET bytes = convert_to('{"type":"none"}', 'UTF8') WHERE index = 2`,
    );
    await expect(node.store.audit.fsck()).rejects.toMatchObject({ code: 'AUDIT_LOG_TAMPERED', where: 'index 2' });
  });
});

describe('a budget that changes while two processes reserve', () => {
  test('no reservation goes beyond the budget that is in force when it is logged', async () => {
    const a = await open();
    const b = await open(a.url, a.signer);
    const id = await setBudget(a, 1);
    const steps = [1.2, 0.7, 0.9, 1.1];
    const changing = (async () => {
      for (const epsilon of steps) {
        await sleep(60);
        await setBudget(b, epsilon);
      }
    })();
    const asked = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        await sleep((i % 20) * 12);
        return reserve(i % 2 === 0 ? a : b, id, i, LIMIT / 25);
      }),
    );
    await changing;
    const { overspent, reservations } = await replayLog(a.store, new Map([[id, 'cards']]));
    expect(overspent).toEqual([]);
    expect(reservations).toBe(asked.filter(({ reserved }) => reserved).length);
    expect(reservations).toBeLessThan(40);
    expect(reservations).toBeGreaterThan(5);
    await a.store.audit.ledgerAgreesWithLog();
  });
});
