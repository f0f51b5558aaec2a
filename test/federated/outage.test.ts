/** A database that goes away in the middle of a plan, loudly and in silence: the plan waits, and goes on to the same model. */
import { createServer, connect as dial, type Socket } from 'node:net';
import { afterAll, expect, test } from '@jest/globals';
import type { AggregatorEvent } from '../../federated/aggregator/desk.ts';
import { fetchModel, proposePlan } from '../../federated/protocol/client.ts';
import { usePostgres } from '../support/postgres.ts';
import { contract, makeConsortium, runBank, startTestAggregator, until } from './consortium.ts';
import { plainModelHash, sumPlan } from './maskedPlan.ts';

const postgres = usePostgres();
const cleanUp: (() => Promise<unknown>)[] = [];

afterAll(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

// These tests wait for time limits more than they compute: side by side they take as long as one.

const ALL = [1, 2, 3, 4];

/** A wire to the database. */
async function wireTo(url: string) {
  const target = new URL(url);
  const open = new Set<Socket>();
  let isCut = false;
  const server = createServer((near) => {
    if (isCut) {
      near.destroy();
      return;
    }
    const far = dial(Number(target.port || 5432), target.hostname);
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
  const wired = new URL(url);
  // Safe: it listens on TCP.
  wired.port = String((server.address() as { port: number }).port);
  wired.hostname = '127.0.0.1';
  return {
    url: wired.href,
    cut() {
      isCut = true;
      for (const socket of open) socket.destroy();
    },
    mend() {
      isCut = false;
    },
    /** What is sent over connections that are open now arrives nowhere; new ones work. */
    swallow() {
      for (const socket of open) {
        socket.unpipe();
        socket.resume();
      }
    },
  };
}

test.concurrent.each(['loudly', 'in silence'])(
  'a database that goes away %s in the middle of sums costs time, and nothing else',
  async (how) => {
    const c = makeConsortium(4, 3);
    const plan = sumPlan(c, 1, { rounds: 4, roundDeadlineMs: 60_000 });
    const wire = await wireTo(await postgres.freshDatabase());
    const events: AggregatorEvent[] = [];
    const aggregator = await startTestAggregator(c, wire.url, 0, (event) => events.push(event));
    cleanUp.push(() => aggregator.stop());
    const { url } = aggregator;
    const running = ALL.map((_, index) => runBank(c, index, url));
    for (const bank of running) cleanUp.push(bank.stop);
    await proposePlan({ roster: c.roster, operatorKey: c.operator, plan, contract, url, acceptanceDeadlineMs: 10_000 });
    const begun = (round: number) => events.some((event) => 'round' in event && event.round >= round);
    for (const round of [1, 2, 3]) {
      await until(() => begun(round));
      if (how === 'loudly') {
        wire.cut();
        await new Promise((done) => setTimeout(done, 500));
        wire.mend();
      } else if (round === 2) wire.swallow();
    }
    await until(() => running.every(({ bank }) => bank.ended.length === 1), 100_000);
    const { evidence } = await fetchModel({ roster: c.roster, key: c.operator, url, planId: plan.id });
    expect(evidence.modelHash).toBe(await plainModelHash(plan, () => ALL));
    // What was committed is announced once, or not at all when the answer was lost with the connection.
    const closed = events.flatMap((event) => (event.event === 'round' ? [event.round] : []));
    expect(new Set(closed).size).toBe(closed.length);
  },
  120_000,
);

test.concurrent('a stop does not wait for a database that has fallen silent', async () => {
  const c = makeConsortium(4, 3);
  const wire = await wireTo(await postgres.freshDatabase());
  const aggregator = await startTestAggregator(c, wire.url);
  wire.swallow();
  const started = performance.now();
  await aggregator.stop();
  expect(performance.now() - started).toBeLessThan(30_000);
}, 60_000);
