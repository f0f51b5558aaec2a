/**
 * A process of the federation bench: the aggregator with a database of its own, or a bank whose port returns integers that
 * were drawn before. Argument: a JSON file with its settings. The aggregator prints its events, one JSON object a line.
 */
import { readFileSync } from 'node:fs';
import { startAggregator } from '../../federated/aggregator/server.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { checkRoster } from '../../federated/protocol/roster.ts';
import { startEmbeddedPostgres } from '../../src/database/embeddedServer.ts';
import { PrivacyError } from '../../src/errors.ts';
import { type Course, courseFor } from '../../src/learning/course.ts';
import { openLog } from '../../src/log.ts';
import { runParticipant } from '../../src/participant/participant.ts';
import type { ParticipantPort } from '../../src/participant/port.ts';
import { systemRandom } from '../../src/random.ts';

export interface PartySettings {
  role: 'aggregator' | 'bank';
  /** Roster member. */
  name: string;
  /** Files. */
  roster: string;
  key: string;
  /** Of the aggregator: its certificate, and where its database goes. */
  certificate?: string;
  database?: string;
  /** Of a bank: where the aggregator is. */
  url?: string;
}

// Safe: written by the bench of the same version.
const settings = JSON.parse(readFileSync(process.argv[2], 'utf8')) as PartySettings;
const roster = checkRoster(JSON.parse(readFileSync(settings.roster, 'utf8')));
const identity = await IdentityKey.load(settings.key);
const log = openLog(settings.name, 'error');
const ending = new AbortController();
process.once('SIGTERM', () => ending.abort());
if (settings.role === 'aggregator') await aggregate();
else
  await runParticipant({
    roster,
    site: settings.name,
    identity,
    port: bank(),
    url: settings.url ?? '',
    log,
    signal: ending.signal,
  });

async function aggregate(): Promise<void> {
  const postgres = await startEmbeddedPostgres({ dataDir: settings.database ?? '', log });
  const print = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
  const tls = { key: identity.tlsKey ?? '', certificate: settings.certificate ?? '' };
  const running = await startAggregator({
    roster,
    identity,
    tls,
    databaseUrl: postgres.url,
    port: 0,
    log,
    onEvent: print,
  });
  print({ event: 'ready', url: running.url });
  if (!ending.signal.aborted) await new Promise((done) => ending.signal.addEventListener('abort', done));
  await running.stop();
  await postgres.stop();
}

/** Remembers in memory what a node writes to its database. */
function bank(): ParticipantPort {
  const random = systemRandom();
  const opened = new Map<string, string>();
  let drawn = new Float64Array(0);
  let course: Course | null = null;
  return {
    answerPlan: async () => ({ accepted: true }),
    async release({ plan, contract, round }) {
      course = course?.plan.id === plan.id ? course : courseFor(plan, contract);
      const dimension = course.dimension(round);
      if (drawn.length !== dimension)
        drawn = Float64Array.from({ length: dimension }, () => random.nextUint32() % 2_001);
      return { histogram: drawn, releaseId: `${plan.id}/${round}` };
    },
    async revealing({ planId, round, attempt, agreement }) {
      const sum = `${attempt} ${Buffer.from(agreement).toString('hex')}`;
      const before = opened.get(`${planId} ${round}`);
      if (before !== undefined && before !== sum) {
        throw new PrivacyError('RELEASE_REPLAYED', 'another sum of this round was opened before', { where: planId });
      }
      opened.set(`${planId} ${round}`, sum);
    },
    adopt: async () => {},
    planEnded: async () => {},
  };
}
