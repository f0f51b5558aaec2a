/**
 * The bound on a customer's records, from the imported file to the ledger: what is read, kept, summed, charged and
 * declared, on a real database. Customers have up to ten records, in two files.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Contract, contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { offsetsOf } from '../../src/learning/binned.ts';
import { defaultPlan, planHash, residualGrid, type TrainingPlan } from '../../src/learning/plan.ts';
import { siteCounts, siteGradient } from '../../src/learning/site.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import { openTrainingData } from '../../src/operations/trainingData.ts';
import { exampleDocument } from '../contract/example.ts';
import { usePostgres } from '../support/postgres.ts';
import { auditEntries } from './audit.ts';
import { openTestNode, type TestNode } from './node.ts';

const postgres = usePostgres();
const HEADER = 'customer,when,income,debt,purpose,employed,default';
const CUSTOMERS = 40;
/** Whose records are all alike: removing that customer moves every sum by as much as the bound allows. */
const ALIKE = 9;
let folder: string;
let node: TestNode;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-contributions-'));
  node = await openTestNode(await postgres.freshDatabase());
});

afterAll(async () => {
  await node.close();
  await rm(folder, { recursive: true, force: true });
});

/** Customer c has 1 + c mod 10 records; record n of it goes into file n mod 2. */
const records = Array.from({ length: CUSTOMERS }, (_, customer) =>
  Array.from({ length: 1 + (customer % 10) }, (_, n) => ({ customer, n })),
).flat();
const recordsOf = (customer: number) => 1 + (customer % 10);

function line({ customer, n }: { customer: number; n: number }): string {
  const k = customer === ALIKE ? 0 : n;
  const income = (customer * 37 + k * 23) % 100;
  const debt = (customer * 7919 + k * 104_729) % 1_000_000;
  return `c${customer},2024-01-0${1 + (n % 9)}T00:00:00Z,${income},${debt},${k % 3 === 0 ? 'car' : 'home'},${(customer + k) % 2},${customer % 2}`;
}

const contractWith = (most: number): Contract =>
  parseContract({ ...exampleDocument(), name: `loans-${most}`, maxRecordsPerSubject: most });

/** Two imports into one data set, without one customer when told so. */
async function datasetOf(contract: Contract, name: string, without: number | null = null): Promise<number> {
  for (const part of [0, 1]) {
    const rows = records.filter(({ customer, n }) => n % 2 === part && customer !== without);
    const path = join(folder, `${name}-${part}.csv`);
    await writeFile(path, [HEADER, ...rows.map(line)].join('\n'));
    const report = await importRecords(node, {
      contractFile: { contract, hash: contractHash(contract), path: '' },
      path,
      dataset: name,
    });
    expect(report).toMatchObject({ accepted: rows.length, rejected: 0 });
  }
  return (await node.store.datasets.find(name))!.id;
}

const kept = (most: number, without: number | null = null) =>
  Array.from({ length: CUSTOMERS }, (_, c) => (c === without ? 0 : Math.min(most, recordsOf(c)))).reduce(
    (a, b) => a + b,
  );

/** Exact counts, and the gradient at a model that is not zero, of what the node would train on. */
async function sumsOf(datasetId: number, contract: Contract) {
  const { training, holdout } = await openTrainingData(node).load(datasetId, contract, 0);
  expect(holdout.rows).toBe(0);
  const model = {
    intercept: -0.3,
    weights: training.sizes.map((size, k) => Array.from({ length: size }, (_, j) => (k + j) / 9)),
  };
  const grid = residualGrid({ residualBits: 14, residualBound: 1 }, 2);
  return { rows: training.rows, counts: siteCounts(training), gradient: siteGradient(training, model, grid) };
}

const distance = (a: Float64Array, b: Float64Array) =>
  Math.sqrt(a.reduce((sum, each, i) => sum + (each - b[i]) ** 2, 0));

describe.each([1, 3])('at most %i records of a customer', (most) => {
  const contract = contractWith(most);
  const { sizes, total } = layoutOf(contract);
  const K = sizes.length;
  const { offsets } = offsetsOf(sizes);
  /** Of one field: how many records there are. */
  const recordsIn = (counts: Float64Array, k: number) =>
    counts.subarray(offsets[k], offsets[k] + sizes[k]).reduce((a, b) => a + b, 0);

  test('count, whichever of two files they came in', async () => {
    const { rows, counts } = await sumsOf(await datasetOf(contract, `all-${most}`), contract);
    expect(rows).toBe(kept(most));
    expect(rows).toBeLessThanOrEqual(most * CUSTOMERS);
    for (let k = 0; k < K; k++) expect(recordsIn(counts, k)).toBe(kept(most));
  });

  test.each([ALIKE, 0, 4, 38])(
    'without customer %i every sum moves by at most m sqrt(K), and no other record',
    async (gone) => {
      const all = await sumsOf((await node.store.datasets.find(`all-${most}`))!.id, contract);
      const rest = await sumsOf(await datasetOf(contract, `without-${most}-${gone}`, gone), contract);
      const removed = all.counts.map((count, bin) => count - rest.counts[bin]);
      // Only that customer's records are missing: nothing was added anywhere, and as many as it had kept are gone.
      expect(removed.every((count) => count >= 0)).toBe(true);
      for (let k = 0; k < K; k++) expect(recordsIn(removed, k)).toBe(Math.min(most, recordsOf(gone)));
      const bound = most * Math.sqrt(K);
      expect(distance(all.counts, rest.counts)).toBeLessThanOrEqual(bound);
      expect(distance(all.gradient, rest.gradient)).toBeLessThanOrEqual(bound * 2 ** 14);
      if (gone === ALIKE) expect(distance(all.counts, rest.counts)).toBeCloseTo(bound, 9);
    },
  );

  test('and a looser bound breaks that sensitivity', async () => {
    const loose = { ...contract, maxRecordsPerSubject: 10 };
    const all = await sumsOf((await node.store.datasets.find(`all-${most}`))!.id, loose);
    const rest = await sumsOf((await node.store.datasets.find(`without-${most}-${ALIKE}`))!.id, loose);
    expect(distance(all.counts, rest.counts)).toBeGreaterThan(most * Math.sqrt(K));
  });

  test('the ledger, the audit log and the charge say so', async () => {
    const base = defaultPlan({ contract, epsilon: 1, delta: 1e-6, sites: 1, quorum: 1, expectedRows: 400 });
    const plan: TrainingPlan = { ...base, id: `plan-${most}`, rounds: 2 };
    const port = openParticipantPort(node, { sites: 1, minimumQuorum: 1 }, () => {});
    expect(await port.answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
    const model = { intercept: 0, weights: sizes.map((size) => new Array<number>(size).fill(0)) };
    for (const round of [0, 1, 2]) {
      const named = { plan, planHash: planHash(plan), contract, stateHash: String(round).padStart(64, '0') };
      const weights = { intercept: 0, flat: new Float64Array(round === 0 ? 0 : total) };
      await port.release({ ...named, round, attempt: 1, weights, model: round === 0 ? null : model });
    }
    const dataset = await node.store.datasets.forContract(contractHash(contract));
    const held = await node.store.ledger.releases(dataset!.id);
    // A record counts as 8 units in each field; residuals reach 1/2 in round 1 and the plan's bound afterwards.
    const counts = most ** 2 * K * 8 ** 2;
    const bound = Math.floor(plan.residualBound * 2 ** 14);
    const expected = [counts, counts * (2 ** 13) ** 2, counts * bound ** 2].map((sensitivitySquared) => ({
      ...{ unit: 'customer', maxRecordsPerSubject: most, sensitivitySquared },
    }));
    expect(held.map(({ statement }) => statement)).toEqual(expected.map((each) => expect.objectContaining(each)));
    // mu = D / sqrt(sigma^2 - 4): what was charged follows from the declared sensitivity and noise.
    for (const { muSquared, statement } of held) {
      const { sensitivitySquared, sigma } = statement as { sensitivitySquared: number; sigma: string };
      const [num, den] = sigma.split('/').map(Number);
      expect(muSquared).toBeCloseTo(sensitivitySquared / ((num / den) ** 2 - 4), 12);
    }
    const logged = (await auditEntries(node, 0, 10_000))
      .map(({ body }) => body)
      .filter(({ type, details }) => type === 'privacy.reserve' && details.planId === plan.id);
    expect(logged.map(({ details }) => details.statement)).toEqual(held.map(({ statement }) => statement));
  });

  test('a plan that declares another m is refused', async () => {
    const base = defaultPlan({ contract, epsilon: 1, delta: 1e-6, sites: 1, quorum: 1, expectedRows: 400 });
    const plan = { ...base, id: `liar-${most}`, maxRecordsPerSubject: most === 1 ? 3 : 1 };
    const port = openParticipantPort(node, { sites: 1, minimumQuorum: 1 }, () => {});
    expect(await port.answerPlan(plan, planHash(plan), contract)).toMatchObject({ code: 'PLAN_MISMATCH' });
  });
});

test('m cannot be raised between two imports: it is part of what the data set is made with', async () => {
  const raised = parseContract({ ...exampleDocument(), name: 'loans-1', maxRecordsPerSubject: 3 });
  const path = join(folder, 'raised.csv');
  await writeFile(path, [HEADER, line({ customer: 99, n: 0 })].join('\n'));
  const contractFile = { contract: raised, hash: contractHash(raised), path: '' };
  await expect(importRecords(node, { contractFile, path, dataset: 'all-1' })).rejects.toMatchObject({
    code: 'CONTRACT_HASH_MISMATCH',
  });
});
