/** `veilrisk privacy ledger`: every attempt has its line, the sums are those of the store, and people can read it. */
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import fc from 'fast-check';
import { registerPrivacy } from '../../src/commands/privacy.ts';
import { contractHash } from '../../src/contract/contract.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { epsilonLeft, type Ledger, readLedger, releaseFacts } from '../../src/operations/ledger.ts';
import { epsilonOf, openBudget } from '../../src/privacy/budget.ts';
import { muFor, sumUp } from '../../src/privacy/gdp.ts';
import { BUDGET_TYPE, reservationEntry } from '../../src/store/ledger.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const BUDGET = openBudget(1.3, 1e-6);
const ROUNDS = 30;
let node: TestNode;
let plan: TrainingPlan;

type Fate = 'reserved' | 'committed' | 'lost';

/** As operations write it. */
function attempt(datasetId: number, of: TrainingPlan, round: number, fate: Fate): Promise<boolean> {
  const statement = privacyStatement(of);
  const { muSquared } = statement.releases[round];
  return node.store.transaction(async (tx) => {
    const facts = { planHash: planHash(of), stateHash: '0'.repeat(64), ...releaseFacts(of, statement, round) };
    const result = await tx.ledger.reserve({ datasetId, planId: of.id, round, muSquared, statement: facts });
    if (!result.reserved) return false;
    await tx.append(reservationEntry(result.release, 'node'));
    if (fate === 'committed') await tx.ledger.commit(result.release.id, new Uint8Array([round]));
    if (fate === 'lost') await tx.ledger.markLost(result.release.id);
    return true;
  });
}

beforeAll(async () => {
  node = await openTestNode(await postgres.freshDatabase());
  const base = defaultPlan({ contract, epsilon: 1, delta: 1e-6, sites: 3, quorum: 2, expectedRows: 600 });
  const evaluation = { holdout: 0.2, share: 0.2, bins: 64 } as const;
  plan = { ...base, id: 'first-plan', rounds: ROUNDS, evaluation };
  const second: TrainingPlan = { ...plan, id: 'second-plan', rounds: 2 };
  const datasetId = await node.store.transaction(async (tx) => {
    const { id } = await tx.datasets.create({ name: 'cards', contractHash: contractHash(contract), contract });
    await tx.ledger.setBudget(id, BUDGET);
    const details = { dataset: 'cards', budget: { epsilon: BUDGET.epsilon, delta: BUDGET.delta } };
    await tx.append({ type: BUDGET_TYPE, actor: 'node', outcome: 'ok', details });
    for (const each of [plan, second]) {
      await tx.plans.insert({ id: each.id, hash: planHash(each), plan: each, datasetId: id, state: 'accepted' });
    }
    const reason = 'POLICY_EPSILON: Epsilon 9 is above the limit 4.';
    await tx.plans.insert({ id: 'too-dear', hash: 'f'.repeat(64), plan, datasetId: id, state: 'refused', reason });
    await tx.plans.end(plan.id, 'completed');
    return id;
  });
  for (let round = 0; round <= ROUNDS + 1; round++) {
    if (round === 7) expect(await attempt(datasetId, plan, round, 'lost')).toBe(true);
    expect(await attempt(datasetId, plan, round, 'committed')).toBe(true);
  }
  expect(await attempt(datasetId, second, 0, 'committed')).toBe(true);
  expect(await attempt(datasetId, second, 1, 'reserved')).toBe(true);
  expect(await attempt(datasetId, second, 2, 'committed')).toBe(false);
  expect(await attempt(datasetId, second, 2, 'committed')).toBe(false);
});

afterEach(() => {
  jest.restoreAllMocks();
});
afterAll(() => node.close());

async function run(...args: string[]): Promise<string> {
  let out = '';
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text;
    return true;
  });
  const program = new Command('veilrisk').exitOverride();
  registerPrivacy(program, async () => ({ ...node, close: async () => {} }));
  await program.parseAsync(['privacy', 'ledger', ...args], { from: 'user' });
  return out;
}

test('totals, plans and releases agree with each other and with the statement of the plan', async () => {
  const [ledger] = await readLedger(node);
  const { releases } = ledger;
  const of = (state: string) => sumUp(releases.filter((line) => line.state === state).map((line) => line.muSquared));
  expect(ledger.committedMuSquared).toBeCloseTo(of('committed'), 12);
  expect(ledger.reservedMuSquared).toBeCloseTo(of('reserved'), 12);
  expect(ledger.lostMuSquared).toBeCloseTo(of('lost'), 12);
  const spent = ledger.committedMuSquared + ledger.reservedMuSquared + ledger.lostMuSquared;
  expect(ledger.spentMuSquared).toBeCloseTo(spent, 12);
  expect(ledger.spentEpsilon).toBe(epsilonOf(ledger.spentMuSquared, 1e-6));
  expect(ledger.leftMuSquared).toBeCloseTo(BUDGET.muSquared - spent, 12);
  expect(ledger).toMatchObject({ dataset: 'cards', refusals: 2, budget: BUDGET });

  const [first, second] = ledger.plans;
  expect(first).toMatchObject({
    ...{
      planId: 'first-plan',
      state: 'completed',
      mode: 'site',
      committed: ROUNDS + 2,
      lost: 1,
      reserved: 0,
      refused: 0,
    },
  });
  expect(second).toMatchObject({
    ...{ planId: 'second-plan', state: 'accepted', committed: 1, reserved: 1, lost: 0, refused: 2 },
    refusedReleases: { 'round-2': 2 },
  });
  // One round was paid for twice.
  const statement = privacyStatement(plan);
  const twice = sumUp([...statement.releases, statement.releases[7]].map(({ muSquared }) => muSquared));
  expect(first.muSquared).toBeCloseTo(twice, 12);
  const readers = [...statement.releases, statement.releases[7]].map(({ readersMuSquared }) => readersMuSquared);
  expect(first.readersMuSquared).toBeCloseTo(sumUp(readers), 12);
  expect(Object.keys(first.sigma)).toEqual(['counts', 'rounds', 'evaluation']);
  expect(releases.slice(0, 2).concat(releases[ROUNDS + 2])).toEqual([
    expect.objectContaining({ release: 'counts', sensitivitySquared: 64 * contract.fields.length, attempt: 1 }),
    expect.objectContaining({ release: 'round-1', sensitivitySquared: 64 * contract.fields.length * 4 ** 13 }),
    expect.objectContaining({ release: 'evaluation', sensitivitySquared: 1, maxRecordsPerSubject: 1 }),
  ]);
  expect(ledger.refusedPlans).toEqual([
    { planId: 'too-dear', code: 'POLICY_EPSILON', reason: 'Epsilon 9 is above the limit 4.', at: expect.any(String) },
  ]);
});

test('the JSON is what the operation reads, with the members that were promised', async () => {
  const printed = JSON.parse(await run('--json')) as Ledger[];
  expect(printed).toEqual(await readLedger(node));
  expect(Object.keys(printed[0]).sort()).toEqual(
    [
      ...['budget', 'committedMuSquared', 'contractHash', 'dataset', 'leftEpsilon', 'leftMuSquared', 'lostMuSquared'],
      ...['plans', 'refusals', 'refusedPlans', 'releases', 'reservedMuSquared', 'spentEpsilon', 'spentMuSquared'],
    ].sort(),
  );
});

test('thirty rounds of a plan are one line, or all of them when asked', async () => {
  const short = await run();
  expect(short.split('\n').length).toBeLessThan(25);
  expect(short).toContain('budget   epsilon 1.3 at delta 1e-6');
  expect(short).toContain('2 releases for want of budget, 1 plan');
  expect(short).toContain('plan too-dear: POLICY_EPSILON: Epsilon 9 is above the limit 4.');
  expect(short).toMatch(/│ plan first-plan, completed, mode site +│\n│ 32 committed/);
  expect(Math.max(...short.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
  expect(short).toMatch(/│ 2 refused/);
  expect(short).toContain('round-2 x2');
  const long = await run('--releases');
  for (let round = 1; round <= ROUNDS; round++) expect(long).toMatch(new RegExp(`│ round-${round} +│`));
  expect(long).toMatch(/│ round-7 +│ 2 +│ committed/);
  expect(long).toMatch(/│ evaluation +│/);
});

test('what is left is an epsilon that still fits, and the next step does not', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 1e-6, max: 20, noNaN: true }),
      fc.constantFrom(1e-9, 1e-6, 1e-3),
      (muSquared, delta) => {
        const left = epsilonLeft(muSquared, delta);
        // A loss so small is covered by delta alone.
        if (left > 0) expect(muFor(left, delta) ** 2).toBeLessThanOrEqual(muSquared);
        expect(muFor(left + 2e-6, delta) ** 2).toBeGreaterThan(muSquared * (1 - 1e-8));
      },
    ),
    { numRuns: 40 },
  );
  expect(epsilonLeft(0, 1e-6)).toBe(0);
});
