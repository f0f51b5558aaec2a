/** Aggregators that stop or are killed in every phase, and two of them on one database: the model does not change by a bit. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, connect as dial, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { AggregatorEvent } from '../../federated/aggregator/desk.ts';
import { fetchModel, planStatus, proposePlan } from '../../federated/protocol/client.ts';
import { connect } from '../../src/database/connection.ts';
import { PrivacyError } from '../../src/errors.ts';
import type { TrainingPlan } from '../../src/learning/plan.ts';
import { usePostgres } from '../support/postgres.ts';
import { type Consortium, contract, makeConsortium, runBank, startTestAggregator, until } from './consortium.ts';
import { plainModelHash, sumPlan } from './maskedPlan.ts';

const postgres = usePostgres();
const cleanUp: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

const ALL = [1, 2, 3, 4];
const evaluation: TrainingPlan['evaluation'] = { holdout: 0.2, share: 0.2, bins: 64 };
const propose = (c: Consortium, url: string, plan: TrainingPlan) =>
  proposePlan({ roster: c.roster, operatorKey: c.operator, plan, contract, url, acceptanceDeadlineMs: 10_000 });
const modelHash = async (c: Consortium, url: string, planId: string) =>
  (await fetchModel({ roster: c.roster, key: c.operator, url, planId })).evidence.modelHash;
const isPhase = (round: number, phase: string) => (event: AggregatorEvent) =>
  event.event === 'phase' && event.round === round && event.phase === phase;

/** Whose releases are in the sum of each round, as bank numbers. */
async function contributorsIn(databaseUrl: string): Promise<Map<number, number[]>> {
  const database = await connect(databaseUrl);
  try {
    const { rows } = await database.query<{ number: number; contributors: string[] }>(
      'SELECT number, contributors FROM rounds',
    );
    return new Map(rows.map((row) => [row.number, row.contributors.map((site) => Number(site.slice(5))).sort()]));
  } finally {
    await database.end();
  }
}

/** A bank that sits out these rounds. */
const decline =
  (...rounds: number[]) =>
  async (task: { round: number }) => {
    if (rounds.includes(task.round)) throw new PrivacyError('BUDGET_EXHAUSTED', 'nothing left');
  };

test('a plan survives a stop of the aggregator in every phase, its epoch included', async () => {
  const c = makeConsortium(4, 3);
  const plan = sumPlan(c, 1, { rounds: 5, evaluation, roundDeadlineMs: 30_000 });
  const databaseUrl = await postgres.freshDatabase();
  const events: AggregatorEvent[] = [];
  const start = (port: number) => startTestAggregator(c, databaseUrl, port, (event) => events.push(event));
  let aggregator = await start(0);
  cleanUp.push(() => aggregator.stop());
  const port = Number(new URL(aggregator.url).port);
  const running = ALL.map((_, index) => runBank(c, index, aggregator.url));
  for (const bank of running) cleanUp.push(bank.stop);
  // Where one is missing the survivors are agreed on first.
  running[3].bank.beforeRelease = decline(3, 6);
  await propose(c, aggregator.url, plan);
  const stops: [number, string][] = [
    [1, 'keys'],
    [1, 'shares'],
    [2, 'inputs'],
    [3, 'agreement'],
    [4, 'reveal'],
    [6, 'agreement'],
  ];
  for (const [round, phase] of stops) {
    await until(() => events.some(isPhase(round, phase)));
    await aggregator.stop();
    aggregator = await start(port);
  }
  await until(() => running.every(({ bank }) => bank.ended.length === 1));
  // Nobody waits for a bank that missed the last round and has not come back to the new process yet.
  const took = await contributorsIn(databaseUrl);
  expect(took.get(3)).toEqual([1, 2, 3]);
  for (const round of [0, 1, 2]) expect(took.get(round)).toEqual(ALL);
  for (const round of [4, 5]) expect(took.get(round)).toEqual(expect.arrayContaining([1, 2, 3]));
  expect(await modelHash(c, aggregator.url, plan.id)).toBe(
    await plainModelHash(plan, (round) => took.get(round) ?? []),
  );
  // Each round was closed once, by whichever life of the aggregator, and every bank opened one sum of it at most.
  const closed = events.flatMap((event) => (event.event === 'round' ? [event.round] : []));
  expect(closed).toEqual([0, 1, 2, 3, 4, 5, 6]);
  for (const { bank } of running) {
    expect([...bank.revealed.values()].every((sum) => sum.startsWith('0 '))).toBe(true);
  }
  expect(events.filter(isPhase(1, 'keys'))).toHaveLength(1);
});

interface Process {
  readonly url: string;
  readonly events: AggregatorEvent[];
  kill(): Promise<void>;
}

async function aggregatorProcess(c: Consortium, databaseUrl: string): Promise<Process> {
  const directory = await mkdtemp(join(tmpdir(), 'veilrisk-aggregator-'));
  cleanUp.push(() => rm(directory, { recursive: true, force: true }));
  await c.aggregator.save(join(directory, 'identity.pem'));
  await writeFile(join(directory, 'config.json'), JSON.stringify({ roster: c.roster, tls: c.tls, databaseUrl }));
  const script = join(import.meta.dirname, 'aggregatorProcess.ts');
  const child: ChildProcess = spawn(process.execPath, [script, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  const kill = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  cleanUp.push(kill);
  const events: AggregatorEvent[] = [];
  const ready = Promise.withResolvers<string>();
  if (child.stdout === null) throw new TypeError('standard output is a pipe');
  createInterface(child.stdout).on('line', (line) => {
    const event = JSON.parse(line);
    if (event.event === 'ready') ready.resolve(event.url);
    else events.push(event);
  });
  ended.then(() => ready.reject(new TypeError('the aggregator did not start')));
  return { url: await ready.promise, events, kill };
}

/** What stands before several aggregators in production: connections to whichever lives. */
async function balancer(target: () => string): Promise<string> {
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = dial(Number(new URL(target()).port), '127.0.0.1');
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ]) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        open.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  cleanUp.push(async () => {
    for (const socket of open) socket.destroy();
    await new Promise((done) => server.close(done));
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new TypeError('the balancer has a port');
  return `https://127.0.0.1:${address.port}`;
}

describe('two processes on one database', () => {
  test('share the sites of a plan, and one goes on when the other is killed in the middle of a sum', async () => {
    const c = makeConsortium(4, 3);
    const plan = sumPlan(c, 1, { rounds: 5, roundDeadlineMs: 20_000 });
    const databaseUrl = await postgres.freshDatabase();
    const first = await aggregatorProcess(c, databaseUrl);
    const second = await aggregatorProcess(c, databaseUrl);
    let target = first.url;
    const shared = await balancer(() => target);
    const running = ALL.map((_, index) => runBank(c, index, index < 2 ? shared : second.url));
    for (const bank of running) cleanUp.push(bank.stop);
    running[2].bank.beforeRelease = decline(3);
    await propose(c, first.url, plan);
    await until(() => first.events.some(isPhase(3, 'agreement')));
    target = second.url;
    await first.kill();
    await until(() => running.every(({ bank }) => bank.ended.length === 1));
    const named = { roster: c.roster, key: c.operator, url: second.url, planId: plan.id };
    expect(await planStatus(named)).toMatchObject({ state: 'completed' });
    expect(await modelHash(c, second.url, plan.id)).toBe(
      await plainModelHash(plan, (round) => (round === 3 ? [1, 2, 4] : ALL)),
    );
    const closed = [...first.events, ...second.events].flatMap((e) => (e.event === 'round' ? [e.round] : []));
    // The killed one may not have come to say what it had just committed.
    expect(new Set(closed).size).toBe(closed.length);
    expect(closed).toEqual(expect.arrayContaining([0, 1, 2, 4, 5]));
    // The one that was not killed took over what the other had begun, with the epoch it had set up.
    expect([...first.events, ...second.events].filter(isPhase(1, 'keys'))).toHaveLength(1);
  });
});
