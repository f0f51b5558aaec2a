/** The operator's reports over real gRPC and a real PostgreSQL: what each site did to a model, and which model to prefer. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Aggregator } from '../../federated/aggregator/server.ts';
import { proposePlan } from '../../federated/protocol/client.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import { tlsKeyFile, writeSecretPem } from '../../federated/protocol/identity.ts';
import { signRoster } from '../../federated/protocol/roster.ts';
import { connect } from '../../federated/protocol/transport.ts';
import { LearningError } from '../../src/errors.ts';
import { readInfluence } from '../../src/learning/influence/document.ts';
import { comparePlans } from '../../src/operations/compareModels.ts';
import { planInfluence } from '../../src/operations/influence.ts';
import type { ReleaseTask } from '../../src/participant/port.ts';
import { usePostgres } from '../support/postgres.ts';
import {
  contract,
  MemoryBank,
  makeConsortium,
  makePlan,
  type Running,
  runBank,
  siteParty,
  startTestAggregator,
  until,
} from './consortium.ts';
import { sumPlan } from './maskedPlan.ts';

const postgres = usePostgres();
const c = makeConsortium(6);
const evaluation = { holdout: 0.2, share: 0.2, bins: 64 } as const;
const plans = [
  makePlan(c, { id: 'long', rounds: 6, evaluation }),
  makePlan(c, { id: 'short', rounds: 1, evaluation }),
  makePlan(c, { id: 'unmeasured', rounds: 1 }),
  sumPlan(c, 1, { id: 'masked', rounds: 1 }),
];

/** Turns its gradients around. */
class Saboteur extends MemoryBank {
  override async release(task: ReleaseTask) {
    const { histogram, releaseId } = await super.release(task);
    const isGradient = task.round >= 1 && task.round <= task.plan.rounds;
    return { histogram: isGradient ? histogram.map((value) => -value) : histogram, releaseId };
  }
}

let aggregator: Aggregator;
let running: Running[] = [];
const operator = () => ({ roster: c.roster, operatorKey: c.operator, url: aggregator.url });

beforeAll(async () => {
  aggregator = await startTestAggregator(c, await postgres.freshDatabase());
  const { url } = aggregator;
  running = c.sites.map((_, at) => runBank(c, at, url, at === 2 ? new Saboteur(3) : new MemoryBank(at + 1)));
  for (const plan of plans) await proposePlan({ roster: c.roster, operatorKey: c.operator, plan, contract, url });
  await until(() => running.every(({ bank }) => bank.ended.length === plans.length));
});

afterAll(async () => {
  for (const { stop } of running) await stop();
  await aggregator.stop();
});

describe('train influence', () => {
  test('names the site that trains against all others', async () => {
    const report = await planInfluence(operator(), 'long');
    expect(report).toMatchObject({ mode: 'site', falseAlarms: 0.01 });
    expect(report.sites.map(({ site }) => site)).toEqual(c.sites.map(({ id }) => id));
    expect(report.sites.filter(({ suspicion }) => suspicion!.suspected.length > 0).map(({ site }) => site)).toEqual([
      'bank-3',
    ]);
    const most = report.sites.toSorted((a, b) => b.withoutIt!.logitShift - a.withoutIt!.logitShift)[0];
    expect(most.site).toBe('bank-3');
    for (const { rounds, updates, evaluationWithoutIt } of report.sites) {
      // Counts, six gradients, the evaluation.
      expect([rounds, updates.length]).toEqual([8, 6]);
      expect(evaluationWithoutIt!.auc!.high).toBeGreaterThan(evaluationWithoutIt!.auc!.low);
    }
  });

  test('has nothing to tell of single sites where updates were summed under masks', async () => {
    const { mode, notes, sites } = await planInfluence(operator(), 'masked');
    expect(mode).toBe('sum');
    expect(notes[0]).toMatch(/nobody, the aggregator included, has a single one/);
    for (const { updates, suspicion, withoutIt } of sites)
      expect([updates, suspicion, withoutIt]).toEqual([[], null, null]);
    // Counts are plain where a bank may be absent.
    expect(sites[0].records).toBeGreaterThan(0);
  });

  test('is for the operator alone', async () => {
    const party = siteParty(c, 0);
    const connection = connect(c.roster, aggregator.url, c.sites[0].key);
    try {
      const query = party.seal('query', `influence/${randomUUID()}`, { planId: 'long' });
      const refusal = await connection.federation
        .getInfluence(query)
        .catch((error: unknown) => fromConnectError(error));
      expect(refusal).toMatchObject({ code: 'MESSAGE_SIGNATURE' });
    } finally {
      connection.close();
    }
  });

  test('is refused for a plan that is not there, and a report that is none is not read', async () => {
    await expect(planInfluence(operator(), 'nobody-knows')).rejects.toMatchObject({ code: 'PLAN_UNKNOWN' });
    const report = await planInfluence(operator(), 'long');
    expect(readInfluence(JSON.parse(JSON.stringify(report)))).toEqual(report);
    expect(() => readInfluence({ ...report, sites: [{ ...report.sites[0], records: 2 }] })).toThrow(LearningError);
  });
});

describe('the verb', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'veilrisk-reports-'));
    await writeFile(join(directory, 'roster.json'), JSON.stringify(signRoster(c.roster, c.operator)));
    await c.operator.save(join(directory, 'operator.pem'));
    await writeSecretPem(tlsKeyFile(join(directory, 'operator.pem')), c.operator.tlsKey ?? '');
  });
  afterAll(() => rm(directory, { recursive: true }));

  const verb = async (...args: string[]) => {
    const main = join(import.meta.dirname, '../../src/main.ts');
    const who = ['--roster', join(directory, 'roster.json'), '--operator-key', join(directory, 'operator.pem')];
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...[main, 'train', ...args, ...who],
      ...['--aggregator', aggregator.url],
    ]);
    return stdout;
  };

  test('tells a person who is suspected, of what, and how sure that is', async () => {
    const text = await verb('influence', 'long');
    expect(text).toMatch(/bank-3: .*another way than those of all others \(probability \d\.\de-\d+/);
    expect(text).toMatch(/any is suspected with at most 1\.0 %/);
    expect(text.match(/│ bank-\d .*│ +no │/g)).toHaveLength(5);
    expect(JSON.parse(await verb('influence', 'long', '--json'))).toMatchObject({ format: 'veilrisk-influence/1' });
  });

  test('tells a person which model to prefer, or that noise does not allow it', async () => {
    const text = await verb('compare', 'long', 'short');
    expect(text).toMatch(/prefer the model of plan|the noise does not allow a decision: /);
    const { models } = JSON.parse(await verb('compare', 'long', 'short', '--json'));
    expect(models).toHaveLength(2);
  });
});

describe('train compare', () => {
  test('ranks completed plans by their signed evaluations', async () => {
    const { models, preferred, cautions } = await comparePlans(operator(), ['short', 'long']);
    expect(models.map(({ planId }) => planId).toSorted()).toEqual(['long', 'short']);
    expect(preferred).toBe(models[0].planId);
    expect(models[0].auc!.estimate).toBeGreaterThanOrEqual(models[1].auc!.estimate);
    expect(cautions).toEqual([]);
  });

  test('needs plans with an evaluation, and two of them', async () => {
    await expect(comparePlans(operator(), ['long', 'unmeasured'])).rejects.toMatchObject({ where: 'unmeasured' });
    await expect(comparePlans(operator(), ['long', 'long'])).rejects.toMatchObject({ code: 'USAGE' });
  });
});
