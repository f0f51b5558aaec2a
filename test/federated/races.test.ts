/** What happens between two looks: commits that are seen before they are known of, sites that restart, members that say nothing. */
import { connect as dial } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import { Boards } from '../../federated/aggregator/boards.ts';
import { commitPhase, commitStep } from '../../federated/aggregator/commit.ts';
import type { Desk } from '../../federated/aggregator/desk.ts';
import { Leases } from '../../federated/aggregator/lease.ts';
import { MaskedSums } from '../../federated/aggregator/maskedSums.ts';
import { type Database, openDatabase } from '../../federated/aggregator/store/database.ts';
import { planStatus, proposePlan } from '../../federated/protocol/client.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, makeConsortium, quiet, runBank, startTestAggregator, until } from './consortium.ts';
import { sumPlan } from './maskedPlan.ts';

const postgres = usePostgres();
const cleanUp: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

/** A database whose answers to COMMIT, and to the statement of a phase, come after `late` is done. */
function answeringLate(database: Database, late: () => Promise<unknown>): Database {
  const isStep = (query: unknown) => query === 'COMMIT' || (query as { name?: string }).name === 'take-phase';
  const slow =
    (queryable: { query: (...all: unknown[]) => Promise<unknown> }) =>
    async (...all: unknown[]) => {
      const answer = await queryable.query(...all);
      if (isStep(all[0])) await late();
      return answer;
    };
  const pool = {
    query: slow(database.pool as never),
    connect: async () => {
      const client = await database.pool.connect();
      return { query: slow(client as never), release: (error?: Error) => client.release(error) };
    },
  };
  return { ...database, pool: pool as never };
}

test('a step that is read back before its commit is known of counts once', async () => {
  const c = makeConsortium(4, 3);
  const plan = sumPlan(c, 1);
  const databaseUrl = await postgres.freshDatabase();
  const aggregator = await startTestAggregator(c, databaseUrl);
  await proposePlan({
    roster: c.roster,
    operatorKey: c.operator,
    plan,
    contract,
    url: aggregator.url,
    acceptanceDeadlineMs: 60_000,
  });
  await aggregator.stop();
  const database = await openDatabase(databaseUrl, c.aggregator.publicKey);
  cleanUp.push(() => database.close());
  const boards = new Boards(database, quiet);
  await boards.refreshAll();
  const leases = new Leases(database, 'one');
  await leases.renew();
  const board = await boards.find(plan.id);
  const desk = {
    ...{ database: answeringLate(database, () => boards.refresh(plan.id)), boards, leases, process: 'one' },
    ...{ sums: new MaskedSums(), journal: null, announce() {} },
  } as unknown as Desk;
  const token = () => leases.tokenOf(plan.id) ?? 0;
  const opened = await commitStep(desk, board, token(), {
    plan: { state: 'training', round: 1 },
    rows: (tx) =>
      tx.query(
        `INSERT INTO rounds (plan_id, number, state, phase, trainer_state, state_hash) VALUES ($1, 1, 'open', 'inputs', '{}', 's')`,
        [plan.id],
      ),
  });
  expect(opened).toBe(true);
  expect([board.plan.revision, board.plan.round]).toEqual([1, 1]);
  const to = { round: 1, phase: 'agreement', survivors: ['bank-1'] };
  expect(await commitPhase(desk, board, token(), to, {})).toBe(true);
  expect(board.current).toMatchObject({ phase: 'agreement', survivors: ['bank-1'] });
  // The next step finds the plan where the database has it.
  expect(await commitStep(desk, board, token(), { plan: { state: 'aborted', ended: true } })).toBe(true);
  const { rows } = await database.pool.query('SELECT revision, state FROM plans');
  expect(rows).toEqual([{ revision: 3, state: 'aborted' }]);
});

test('a stop does not wait for a stranger who connects and says nothing', async () => {
  const c = makeConsortium(4, 3);
  const aggregator = await startTestAggregator(c, await postgres.freshDatabase());
  const stranger = dial(Number(new URL(aggregator.url).port), '127.0.0.1');
  stranger.on('error', () => {});
  cleanUp.push(async () => stranger.destroy());
  await new Promise((connected) => stranger.once('connect', connected));
  const started = performance.now();
  await aggregator.stop();
  expect(performance.now() - started).toBeLessThan(10_000);
}, 150_000);

test('a bank that restarts while inputs are open costs a new set-up of keys, and no round, where all banks are needed', async () => {
  const c = makeConsortium(4, 3);
  const plan = sumPlan(c, 0, { rounds: 6, roundDeadlineMs: 20_000 });
  const aggregator = await startTestAggregator(c, await postgres.freshDatabase());
  cleanUp.push(() => aggregator.stop());
  const { url } = aggregator;
  const running = c.sites.map((_, index) => runBank(c, index, url));
  cleanUp.push(() => Promise.all(running.map(({ stop }) => stop())));
  let held = Promise.withResolvers<void>();
  let asked = Promise.withResolvers<void>();
  const { bank } = running[3];
  const restarted = new Set<number>();
  bank.beforeRelease = async ({ round }) => {
    if (restarted.has(round)) return;
    restarted.add(round);
    asked.resolve();
    await held.promise;
  };
  await proposePlan({ roster: c.roster, operatorKey: c.operator, plan, contract, url, acceptanceDeadlineMs: 10_000 });
  for (let round = 0; round <= plan.rounds; round++) {
    await Promise.race([asked.promise, until(() => bank.ended.length > 0)]);
    if (bank.ended.length > 0) break;
    asked = Promise.withResolvers<void>();
    const stopping = running[3].stop();
    held.resolve();
    held = Promise.withResolvers<void>();
    await stopping;
    running[3] = runBank(c, 3, url, bank);
  }
  await until(() => running.every(({ bank }) => bank.ended.length === 1));
  const { state, reason } = await planStatus({ roster: c.roster, key: c.operator, url, planId: plan.id });
  expect([state, reason]).toEqual(['completed', '']);
});
