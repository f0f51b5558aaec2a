/**
 * Secure aggregation under any schedule of lost, late, repeated and overtaken messages, drop-outs and restarts: whatever
 * completes is exact and sound, and everything ends.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { thresholdOf } from '../../../src/learning/plan.ts';
import {
  AGGREGATOR,
  type Fault,
  randomSchedule,
  type Schedule,
} from '../../../src/operations/simulateFederation/faults.ts';
import { PHASES } from '../../../src/operations/simulateFederation/messages.ts';
import { Observer } from '../../../src/operations/simulateFederation/observer.ts';
import { type FederationOutcome, runFederation } from '../../../src/operations/simulateFederation/simulate.ts';
import { VirtualClock } from '../../../src/operations/simulateFederation/virtualClock.ts';
import { vectorWorkload } from '../../../src/operations/simulateFederation/workload.ts';
import { seededRandom } from '../../../src/simulator/random.ts';

const DEADLINE = 1_000;
const ROUNDS = 3;
const CALM = { delayMs: 5, loss: 0, duplicate: 0, reorder: 0 };

function vectors(sites: number, bits = 24, seed = 1, rounds = ROUNDS) {
  const threshold = thresholdOf(sites, 'lying');
  return vectorWorkload({
    sites,
    quorum: threshold,
    threshold,
    deadlineMs: DEADLINE,
    dimension: 8,
    bits,
    rounds,
    seed,
  });
}

const weather = fc.record({
  delayMs: fc.integer({ min: 1, max: 300 }),
  loss: fc.double({ min: 0, max: 0.2, noNaN: true }),
  duplicate: fc.double({ min: 0, max: 0.3, noNaN: true }),
  reorder: fc.double({ min: 0, max: 0.3, noNaN: true }),
});
const rates = fc.record({
  drop: fc.double({ min: 0, max: 0.8, noNaN: true }),
  restart: fc.double({ min: 0, max: 0.3, noNaN: true }),
});

describe('any schedule', () => {
  test('ends, and what it completes is the plain sum of at least the quorum', async () => {
    let completed = 0;
    let aborted = 0;
    let repeated = 0;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 3, max: 8 }), weather, rates, fc.nat(), async (sites, sky, odds, seed) => {
        const work = vectors(sites, 16 + (seed % 17), seed);
        const faults = randomSchedule(odds, DEADLINE, seededRandom(seed, 'faults'));
        const outcome = await runFederation({ work, weather: sky, faults, slots: 1 + (seed % 4), seed });
        expect(outcome.breaches).toEqual([]);
        for (const { contributors, exact, attempts, dropped } of outcome.rounds) {
          expect(exact).toBe(true);
          expect(contributors.length).toBeGreaterThanOrEqual(work.terms.quorum);
          expect(contributors.length + dropped.length).toBe(sites);
          expect(attempts).toBeLessThanOrEqual(4);
          if (attempts > 1) repeated++;
        }
        // Four attempts of up to five steps, each opened at most four times, and what was under way when the last ended.
        expect(outcome.virtualMs).toBeLessThan((ROUNDS + 1) * 4 * 5 * 4 * DEADLINE);
        if (outcome.state === 'completed') completed++;
        else {
          aborted++;
          expect(outcome.code).toBe('QUORUM_LOST');
        }
      }),
      { numRuns: 45, seed: 20_260 },
    );
    // The schedules are neither all harmless nor all fatal.
    expect(completed).toBeGreaterThan(10);
    expect(aborted).toBeGreaterThan(1);
    expect(repeated).toBeGreaterThan(3);
  });

  test('gives the same run again from the same seed', async () => {
    const run = () =>
      runFederation({
        ...{ work: vectors(5), slots: 2, seed: 9, weather: { delayMs: 50, loss: 0.1, duplicate: 0.1, reorder: 0.1 } },
        faults: randomSchedule({ drop: 0.2, restart: 0.1 }, DEADLINE, seededRandom(9, 'faults')),
      });
    expect(await run()).toEqual(await run());
  });

  test.each(PHASES.filter((phase) => phase !== 'plain'))(
    'survives drop-outs, restarts and a restarted aggregator in step %s, before and after the reply',
    async (phase) => {
      for (const kind of ['away', 'restart'] as const) {
        for (const beforeReply of [true, false]) {
          for (const party of ['bank-2', AGGREGATOR]) {
            const fault: Fault = { kind, phase, beforeReply, forMs: 400 };
            const faults: Schedule = (name, round) => (name === party && round === 1 ? fault : null);
            const outcome = await runFederation({ work: vectors(5), weather: CALM, faults, slots: 4, seed: 3 });
            expect([outcome.state, outcome.breaches]).toEqual(['completed', []]);
            expect(outcome.rounds.every(({ exact }) => exact)).toBe(true);
          }
        }
      }
    },
  );

  test('aborts without a sum when more drop out for good than the threshold allows, in any step', async () => {
    for (const phase of PHASES.filter((each) => each !== 'plain')) {
      const gone = new Set(['bank-1', 'bank-2', 'bank-3']);
      const fault: Fault = { kind: 'restart', phase, beforeReply: true, forMs: 1e9 };
      const faults: Schedule = (name, round) => (gone.has(name) && round === 2 ? fault : null);
      const outcome = await runFederation({ work: vectors(7), weather: CALM, faults, slots: 1, seed: 4 });
      // A fault that comes too late for round 2 meets round 3.
      expect(outcome.code).toBe('QUORUM_LOST');
      expect(outcome.rounds.length).toBeLessThan(ROUNDS);
      expect(outcome.breaches).toEqual([]);
    }
  });
});

describe('a hundred banks', () => {
  test.each(['inputs', 'spread'])(
    'of which 33 drop out (%s)',
    async (where) => {
      const child = join(import.meta.dirname, 'hundredBanks.ts');
      const { stdout } = await promisify(execFile)(process.execPath, [child, where]);
      const outcome: FederationOutcome = JSON.parse(stdout);
      expect([outcome.state, outcome.breaches, outcome.rounds.length]).toEqual(['completed', [], 1]);
      const [{ contributors, exact }] = outcome.rounds;
      expect(exact).toBe(true);
      // Who drops out after the input is in the sum all the same: a quarter of the 33 in each of two steps.
      expect(contributors).toHaveLength(where === 'inputs' ? 67 : 83);
    },
    60_000,
  );
});

describe('the observer', () => {
  test('sees each breach', () => {
    const observer = new Observer();
    const sum = {
      ...{ round: 1, attempt: 0, slot: 0, stateHash: new Uint8Array(32), members: ['a', 'b'], dimension: 1 },
      ...{ bits: 16, logHead: new Uint8Array(32) },
    };
    observer.released('a', 1, Float64Array.of(1));
    observer.released('b', 1, Float64Array.of(2));
    expect(observer.summed(1, ['a', 'b'], 2, Float64Array.of(3))).toBe(true);
    observer.masked('a', '0/0/0', sum, Uint8Array.of(1, 2));
    observer.masked('a', '0/0/0', sum, Uint8Array.of(1, 2));
    observer.revealed('a', 1, 0, [{ site: 'b', share: new Uint8Array(33) }], []);
    expect(observer.breaches).toEqual([]);

    observer.released('a', 1, Float64Array.of(1));
    observer.masked('a', '0/0/0', { ...sum, attempt: 1 }, Uint8Array.of(1, 2));
    observer.masked('b', '0/0/0', sum, Uint8Array.of(1, 2));
    observer.masked('b', '0/0/0', sum, Uint8Array.of(1, 3));
    observer.revealed('a', 1, 1, [], []);
    observer.revealed('a', 1, 0, [], [{ site: 'b', share: new Uint8Array(33) }]);
    observer.summed(1, ['a'], 2, Float64Array.of(1));
    observer.summed(1, ['a', 'b'], 2, Float64Array.of(4));
    expect(observer.breaches).toEqual([
      'a drew noise for round 1 twice',
      'a used the masks of slot 0/0/0 twice',
      'b used the masks of slot 0/0/0 twice',
      'a opened shares of two attempts of round 1',
      'a opened shares of two attempts of round 1',
      'a opened both secrets of b',
      'round 1 has fewer contributors than the quorum',
      'the sum of round 1 is not that of its contributors',
    ]);
  });
});

test('virtual time runs forward, and ties keep their order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 20 })), async (delays) => {
      const clock = new VirtualClock();
      const seen: [number, number][] = [];
      delays.forEach((delay, order) => {
        clock.after(delay, () => {
          seen.push([clock.now, order]);
        });
      });
      await clock.run(() => false);
      const expected = delays.map((delay, order): [number, number] => [delay, order]);
      expect(seen).toEqual(expected.sort((a, b) => a[0] - b[0] || a[1] - b[1]));
    }),
  );
});
