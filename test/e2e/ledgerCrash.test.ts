/**
 * No budget is spent twice: a process killed at every step of a release, two processes at once, a database that was set
 * back. Real processes, a real database, SIGKILL; nothing is seeded.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readSettings } from '../../src/config.ts';
import { contractHash } from '../../src/contract/contract.ts';
import { defaultPlan, planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { privacyStatement } from '../../src/learning/statement.ts';
import { initNode, type NodeContext, openNode } from '../../src/operations/context.ts';
import { readContract } from '../../src/operations/contracts.ts';
import { importRecords } from '../../src/operations/importRecords.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import { epsilonOf, openBudget } from '../../src/privacy/budget.ts';
import { replayLog } from '../store/ledgerReplay.ts';
import { usePostgres } from '../support/postgres.ts';
import { simulateTransactions } from '../support/simulated.ts';
import {
  type Answer,
  type ChildTask,
  type NodeKeys,
  openNodeParts,
  STEPS,
  type Step,
  sha256Of,
  taskOf,
} from './releaseChild.ts';

const postgres = usePostgres();
const FLOORS = { sites: 1, minimumQuorum: 1 };
const DELTA = 1e-6;
const { contract, hash, path: contractPath } = await readContract('demo-transactions');
let folder: string;
let csv: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-ledger-'));
  csv = join(folder, 'bank.csv');
  await writeFile(csv, [...simulateTransactions({ seed: 7, bank: 'a', rows: 200, fraudRate: 0.05 })].join('\n'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A plan of three releases, of which the first costs half. */
function planNamed(id: string): TrainingPlan {
  const base = defaultPlan({ contract, epsilon: 0.5, delta: DELTA, ...{ sites: 1, quorum: 1, expectedRows: 200 } });
  return { ...base, id, rounds: 2, countShare: 0.5, evaluation: null };
}
const COST = privacyStatement(planNamed('x')).releases[0].muSquared;

/** A node with data and a budget of so many count releases. */
async function newNode(name: string, releases: number): Promise<{ keys: NodeKeys; datasetId: number }> {
  const pair = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  const text = async (format: 'pkcs8' | 'raw', key: CryptoKey) =>
    Buffer.from(await crypto.subtle.exportKey(format, key)).toString('base64');
  const keys = {
    url: await postgres.freshDatabase(),
    logPrivateKey: await text('pkcs8', pair.privateKey),
    logPublicKey: await text('raw', pair.publicKey),
    anchorPath: join(folder, `${name}.checkpoint`),
  };
  const node = await openNodeParts(keys);
  const budget = openBudget(epsilonOf(COST * releases, DELTA), DELTA);
  await importRecords({ ...node, budget }, { contractFile: { contract, hash, path: contractPath }, path: csv });
  const { id } = (await node.store.datasets.forContract(contractHash(contract)))!;
  await node.close();
  return { keys, datasetId: id };
}

async function accept(keys: NodeKeys, plans: readonly TrainingPlan[]): Promise<void> {
  const node = await openNodeParts(keys);
  const port = openParticipantPort(node, FLOORS, () => {});
  for (const plan of plans) expect(await port.answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
  await node.close();
}

interface Child {
  process: ChildProcess;
  answers: Answer[];
  ready: Promise<void>;
  ended: Promise<NodeJS.Signals | number | null>;
}

function start(task: ChildTask): Child {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'releaseChild.ts'), JSON.stringify(task)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers: Answer[] = [];
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line === 'ready') ready.resolve();
    else answers.push(JSON.parse(line));
  });
  const ended = new Promise<NodeJS.Signals | number | null>((done, fail) => {
    child.once('error', fail);
    child.once('close', (code, signal) => done(signal ?? code));
  });
  return { process: child, answers, ready: ready.promise, ended };
}

/** What must hold whatever happened before. */
async function expectSound(node: NodeContext, datasetId: number): Promise<void> {
  const { store } = node;
  const totals = (await store.ledger.totals(datasetId))!;
  expect(totals.spent).toBeLessThanOrEqual(totals.budget.muSquared);
  const { name } = (await store.datasets.byId(datasetId))!;
  const { overspent, reservations, refusals } = await replayLog(store, new Map([[datasetId, name]]));
  expect(overspent).toEqual([]);
  const rows = await store.ledger.releases(datasetId);
  expect(reservations).toBe(rows.filter(({ state }) => state !== 'refused').length);
  // Each refusal has one entry, each entry one refusal.
  const refused = rows.filter(({ state }) => state === 'refused').map(({ planId, round }) => `${planId} ${round}`);
  const exhausted = refusals.filter(({ code }) => code === 'BUDGET_EXHAUSTED');
  expect(exhausted.map(({ planId, round }) => `${planId} ${round}`).sort()).toEqual(refused.sort());
  await store.audit.ledgerAgreesWithLog();
  await store.audit.fsck();
}

describe('a process killed while it releases', () => {
  /** What a step has cost when the same round was asked again by the next process. */
  const PAID: Record<Step, string[]> = {
    'sums computed': ['committed'],
    'reservation written, not committed': ['committed'],
    'reservation committed, not anchored': ['lost', 'committed'],
    'reservation anchored, no noise drawn': ['lost', 'committed'],
    'noise drawn in part': ['lost', 'committed'],
    'noise drawn, nothing written': ['lost', 'committed'],
    'bytes written, not committed': ['lost', 'committed'],
    'bytes committed, nothing left': ['committed'],
  };
  const inAll = Object.values(PAID).flat().length;
  const plans = STEPS.map((_, i) => planNamed(`step-${i}`));
  const last = planNamed('last');
  let keys: NodeKeys;
  let datasetId: number;

  beforeAll(async () => {
    // Enough for everything below but the second attempt of the last.
    ({ keys, datasetId } = await newNode('killed', inAll + 1.5));
    await accept(keys, [...plans, last]);
  });

  async function killAt(step: Step, plan: TrainingPlan): Promise<NodeContext> {
    const child = start({ keys, contract, asks: [{ plan, round: 0 }], killAt: step, waits: false });
    expect(await child.ended).toBe('SIGKILL');
    expect(child.answers).toEqual([]);
    return openNodeParts(keys);
  }

  test.each(STEPS.map((step, i) => ({ step, plan: plans[i] })))('at: $step', async ({ step, plan }) => {
    const node = await killAt(step, plan);
    try {
      const before = await node.store.ledger.latest(datasetId, plan.id, 0);
      const port = openParticipantPort(node, FLOORS, () => {});
      const released = await port.release(taskOf(plan, 0, contract));
      const rows = (await node.store.ledger.releases(datasetId)).filter(({ planId }) => planId === plan.id);
      expect(rows.map(({ state }) => state)).toEqual(PAID[step]);
      expect(rows.map(({ attempt }) => attempt)).toEqual(rows.map((_, i) => i + 1));
      // What was committed before the crash is what leaves after it.
      if (before?.state === 'committed') expect(sha256Of(released.histogram)).toBe(before.payloadSha256);
      // Asked again, the same bytes; at another state, nothing; and neither is paid.
      const totals = await node.store.ledger.totals(datasetId);
      expect(await port.release(taskOf(plan, 0, contract))).toEqual(released);
      const other = { ...taskOf(plan, 0, contract), stateHash: 'f'.repeat(64) };
      for (let ask = 0; ask < 2; ask++) {
        await expect(port.release(other)).rejects.toMatchObject({ code: 'RELEASE_REPLAYED' });
      }
      expect(await node.store.ledger.totals(datasetId)).toEqual(totals);
      const { refusals } = await replayLog(node.store, new Map());
      expect(refusals.filter(({ planId }) => planId === plan.id)).toEqual([
        { planId: plan.id, round: 0, code: 'RELEASE_REPLAYED' },
      ]);
      await expectSound(node, datasetId);
    } finally {
      await node.close();
    }
  });

  test('what was lost is not given back: the last of the budget is gone, and the round is refused', async () => {
    const node = await killAt('noise drawn in part', last);
    try {
      const port = openParticipantPort(node, FLOORS, () => {});
      for (let ask = 0; ask < 3; ask++) {
        await expect(port.release(taskOf(last, 0, contract))).rejects.toMatchObject({ code: 'BUDGET_EXHAUSTED' });
      }
      const rows = (await node.store.ledger.releases(datasetId)).filter(({ planId }) => planId === last.id);
      expect(rows.map(({ state }) => state)).toEqual(['lost', 'refused']);
      expect((await node.store.ledger.totals(datasetId))!.spent).toBeCloseTo(COST * (inAll + 1), 12);
      await expectSound(node, datasetId);
    } finally {
      await node.close();
    }
  });
});

test('two processes of one node at once, on the same rounds and on different ones', async () => {
  // About half of what is asked for.
  const { keys, datasetId } = await newNode('two', 7.3);
  const shared = ['both-0', 'both-1', 'both-2'].map(planNamed);
  const own = [0, 1].map((child) => ['x', 'y'].map((name) => planNamed(`own-${child}-${name}`)));
  await accept(keys, [...shared, ...own.flat()]);
  const children = own.map((plans) => {
    const each = (plan: TrainingPlan) => [0, 1, 2].map((round) => ({ plan, round }));
    const asks = [...each(shared[0]), ...each(plans[0]), ...each(shared[1]), ...each(plans[1]), ...each(shared[2])];
    return start({ keys, contract, asks, killAt: null, waits: true });
  });
  await Promise.all(children.map(({ ready }) => ready));
  for (const child of children) child.process.stdin?.write('go\n');
  expect(await Promise.all(children.map(({ ended }) => ended))).toEqual([0, 0]);

  const answers = children.flatMap((child) => child.answers);
  expect(answers).toHaveLength(30);
  const codes = new Set(answers.map(({ code }) => code));
  // Whoever loses a race for one round is told so; nothing else may go wrong.
  expect([...codes].filter((code) => code !== null && code !== 'RELEASE_REPLAYED')).toEqual(['BUDGET_EXHAUSTED']);
  const node = await openNodeParts(keys);
  try {
    const rows = await node.store.ledger.releases(datasetId);
    const committed = rows.filter(({ state }) => state === 'committed');
    const names = committed.map(({ planId, round }) => `${planId} ${round}`);
    expect(new Set(names).size).toBe(names.length);
    // Whatever left either process is a committed release, the same for both.
    const payloads = new Map(
      committed.map(({ planId, round, payloadSha256 }) => [`${planId} ${round}`, payloadSha256]),
    );
    const given = answers.filter(({ sha256 }) => sha256 !== null);
    expect(given.length).toBeGreaterThan(5);
    for (const { planId, round, sha256 } of given) expect(payloads.get(`${planId} ${round}`)).toBe(sha256);
    await expectSound(node, datasetId);
  } finally {
    await node.close();
  }
});

/** With owners and modes: the embedded server refuses files that are not its own. */
const copy = (from: string, to: string) => promisify(execFile)('cp', ['-a', from, to]);

describe('a data directory', () => {
  test('whose database was put back beside a newer checkpoint does not start; with the checkpoint it does', async () => {
    const dataDir = join(folder, 'bank');
    const backup = join(folder, 'backup');
    const settings = { ...readSettings(), DATABASE_URL: undefined };
    await initNode({ name: 'bank-a', dataDir, budget: { epsilon: 2, delta: DELTA } });
    const first = await openNode(settings, { dataDir });
    await importRecords(first, { contractFile: { contract, hash, path: contractPath }, path: csv });
    await first.close();
    await copy(dataDir, backup);

    const second = await openNode(settings, { dataDir });
    const node = { ...second, participation: { ...second.participation, minimumParticipants: 1 } };
    const port = openParticipantPort(node, FLOORS, () => {});
    const plan = planNamed('spent');
    expect(await port.answerPlan(plan, planHash(plan), contract)).toEqual({ accepted: true });
    await port.release(taskOf(plan, 0, contract));
    await second.close();

    await rm(join(dataDir, 'postgres'), { recursive: true });
    await copy(join(backup, 'postgres'), join(dataDir, 'postgres'));
    await expect(openNode(settings, { dataDir })).rejects.toMatchObject({
      code: 'AUDIT_LOG_TAMPERED',
      message: expect.stringContaining('older than the last checkpoint this node signed'),
      fix: expect.stringContaining('let privacy budget be spent a second time'),
    });
    // The documented limit: who can set back the whole directory can set back the ledger.
    await copyFile(join(backup, 'audit.checkpoint'), join(dataDir, 'audit.checkpoint'));
    await (await openNode(settings, { dataDir })).close();
  });
});
