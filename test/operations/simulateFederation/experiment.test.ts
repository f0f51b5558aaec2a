/** `veilrisk simulate-federation`: whole experiments, from settings to figures, and the verb itself. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  type Experiment,
  type ExperimentSettings,
  runExperiment,
} from '../../../src/operations/simulateFederation/experiment.ts';
import { simulateTransactions } from '../../support/simulated.ts';

const MAIN = join(import.meta.dirname, '../../../src/main.ts');

const small: ExperimentSettings = {
  ...{ sites: 5, mode: 'sum', drop: 0, restart: 0, rounds: 6, colluders: 0, ringBits: 32, epsilon: 8, delta: 1e-6 },
  ...{ contract: 'demo-transactions', data: [], rows: 4_000, delayMs: 20, deadlineMs: 5_000, slots: 8, seed: 1 },
  ...{ loss: 0, duplicate: 0, reorder: 0 },
};
const run = (changes: Partial<ExperimentSettings> = {}) => runExperiment({ ...small, ...changes }, () => {});
const figures = ({ wallMs: _, ...rest }: Experiment) => rest;

describe('an experiment', () => {
  test('learns from synthetic banks, exactly as many bytes each time', async () => {
    const first = await run();
    expect(first).toMatchObject({ state: 'completed', breaches: [], quorum: 4, threshold: 4 });
    expect(first.auc).toBeGreaterThan(0.7);
    expect(first.losses!.readers).toBeLessThanOrEqual(first.losses!.aggregator);
    expect(first.losses!.aggregator).toBeLessThanOrEqual(small.epsilon);
    // Counts are plain where one bank may be absent; gradients are summed under masks.
    expect(first.rounds.map(({ masked }) => masked)).toEqual([false, ...Array(6).fill(true)]);
    expect(first.rounds.every(({ exact, contributors }) => exact && contributors.length === 5)).toBe(true);
    expect(figures(await run())).toEqual(figures(first));
  });

  test('makes the same model whatever the network does, as long as all banks are in every sum', async () => {
    const calm = await run({ rounds: 3, deadlineMs: 60_000 });
    const rough = await run({ rounds: 3, deadlineMs: 60_000, loss: 0.05, duplicate: 0.2, reorder: 0.2 });
    expect(rough.rounds.every(({ dropped }) => dropped.length === 0)).toBe(true);
    expect(rough.auc).toBe(calm.auc);
    expect(rough.virtualMs).toBeGreaterThan(calm.virtualMs);
    expect(rough.bytes).toBeGreaterThan(calm.bytes);
  });

  test('sums counts under masks too where no bank may be absent', async () => {
    const { state, rounds, quorum } = await run({ dropouts: 0, rounds: 2 });
    expect([state, quorum, rounds.map(({ masked }) => masked)]).toEqual(['completed', 5, [true, true, true]]);
  });

  test('of mode site has no masks, no keys and the whole loss at every reader of a message', async () => {
    const { rounds, threshold, losses } = await run({ mode: 'site', rounds: 2 });
    expect(threshold).toBe(0);
    expect(losses!.readers).toBeLessThan(losses!.aggregator);
    for (const { bytes, masked } of rounds) {
      expect(masked).toBe(false);
      expect([bytes.keys, bytes.shares, bytes.inputs, bytes.agreement, bytes.reveal]).toEqual(
        Array(5).fill({ up: 0, down: 0 }),
      );
    }
  });

  test('trains other families and strategies under the same masks', async () => {
    for (const strategy of ['fedadam', 'fedavg'] as const) {
      const outcome = await run({ family: 'logistic', strategy, rounds: 5, drop: 0.05, seed: 3 });
      expect([outcome.state, outcome.breaches]).toEqual(['completed', []]);
      expect(outcome.rounds.map(({ round, masked, exact }) => [round, masked, exact])).toEqual(
        Array.from({ length: 5 }, (_, at) => [at + 1, true, true]),
      );
      expect(outcome.auc).toBeGreaterThan(0.6);
    }
    await expect(run({ strategy: 'fedavg' })).rejects.toMatchObject({ where: '--strategy' });
  });

  test('keeps its promises while banks drop out and start anew', async () => {
    const { breaches, rounds, state } = await run({ drop: 0.1, restart: 0.1, rounds: 4, sites: 7 });
    expect(breaches).toEqual([]);
    expect(state).toBe('completed');
    expect(rounds.some(({ dropped }) => dropped.length > 0)).toBe(true);
  });

  test('sends an input of so many bits a number', async () => {
    const { rounds, auc, losses } = await run({ dimension: 10_000, ringBits: 20, rounds: 1 });
    expect([auc, losses]).toEqual([null, null]);
    const each = rounds[0].bytes.inputs.up / small.sites;
    expect(each).toBeGreaterThan(25_000);
    expect(each).toBeLessThan(1.02 * 25_000);
  });

  test.each([
    [{ sites: 101 }, '--sites'],
    [{ sites: 2 }, '--sites'],
    [{ drop: 1.5 }, '--drop'],
    [{ ringBits: 8, dimension: 4 }, '--ring-bits'],
    [{ dropouts: 3 }, '--dropouts'],
    [{ data: ['a.csv', 'b.csv'] }, '--data'],
  ])('refuses %j', async (changes, where) => {
    await expect(run(changes)).rejects.toMatchObject({ code: 'USAGE', where });
  });
});

describe('the verb', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'veilrisk-simulation-'));
    const options = { bank: 'a', seed: 3, rows: 8_000 };
    await writeFile(join(directory, 'all.csv'), `${[...simulateTransactions(options)].join('\n')}\n`);
  });
  afterAll(() => rm(directory, { recursive: true }));

  const verb = (...args: string[]) => promisify(execFile)(process.execPath, [MAIN, 'simulate-federation', ...args]);

  test('deals a file to all banks and prints everything as JSON', async () => {
    const file = join(directory, 'all.csv');
    const { stdout } = await verb('--sites', '4', '--rounds', '3', '--epsilon', '8', '--data', file, '--json');
    const outcome: Experiment = JSON.parse(stdout);
    expect(outcome).toMatchObject({ state: 'completed', sites: 4, breaches: [] });
    expect(outcome.auc).toBeGreaterThan(0.6);
    expect(outcome.rounds).toHaveLength(4);
  });

  test('says what happened in each round, and what it was worth', async () => {
    const { stdout, stderr } = await verb('--sites', '4', '--dimension', '16', '--rounds', '2', '--seed', '7');
    expect(stderr.match(/equals the plain sum/g)).toHaveLength(2);
    expect(stdout).toMatch(/completed after 2 rounds of 4 banks, quorum 3, threshold 3/);
    expect(stdout).toMatch(/reveal/);
  });

  test('ends wrong usage with exit code 2', async () => {
    await expect(verb('--sites', '500')).rejects.toMatchObject({ code: 2 });
  });
});
