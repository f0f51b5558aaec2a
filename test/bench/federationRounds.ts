/** Whole plans between processes: an aggregator with a database of its own and as many banks as the plan has sites. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { proposePlan } from '../../federated/protocol/client.ts';
import { tlsKeyFile, writeSecretPem } from '../../federated/protocol/identity.ts';
import type { Contract } from '../../src/contract/contract.ts';
import type { TrainingPlan } from '../../src/learning/plan.ts';
import { makeConsortium } from '../federated/consortium.ts';
import type { PartySettings } from './federationParty.ts';

const PARTY = join(import.meta.dirname, 'federationParty.ts');

interface RoundEvent {
  event: string;
  plan?: string;
  state?: string;
  code?: string;
  round?: number;
  ms?: number;
  url?: string;
}

/** Milliseconds of each gradient round of each plan, from its opening to its closing at the aggregator. */
export async function measurePlans(
  contract: Contract,
  plans: readonly TrainingPlan[],
  sites: number,
): Promise<number[][]> {
  const consortium = makeConsortium(sites);
  const { roster, operator, aggregator } = consortium;
  const directory = await mkdtemp(join(tmpdir(), 'veilrisk-bench-'));
  const processes: ChildProcess[] = [];
  const file = (name: string) => join(directory, name);
  const start = async (settings: PartySettings): Promise<ChildProcess> => {
    await writeFile(file(`${settings.name}.json`), JSON.stringify(settings));
    const child = spawn(process.execPath, [PARTY, file(`${settings.name}.json`)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    processes.push(child);
    return child;
  };
  try {
    await writeFile(file('roster.json'), JSON.stringify(roster));
    const members = [{ id: 'aggregator', key: aggregator }, ...consortium.sites];
    for (const { id, key } of members) {
      await key.save(file(`${id}.pem`));
      await writeSecretPem(tlsKeyFile(file(`${id}.pem`)), key.tlsKey ?? '');
    }
    const common = (name: string) => ({ name, roster: file('roster.json'), key: file(`${name}.pem`) });
    const { certificate } = consortium.tls;
    const server = await start({
      ...common('aggregator'),
      role: 'aggregator',
      certificate,
      database: file('database'),
    });
    const events = eventsOf(server);
    const { url = '' } = await events.next(({ event }) => event === 'ready');
    for (const { id } of consortium.sites) await start({ ...common(id), role: 'bank', url });
    const measured: number[][] = [];
    for (const plan of plans) {
      await proposePlan({ roster, operatorKey: operator, plan, contract, url });
      const times: number[] = [];
      for (;;) {
        const event = await events.next((each) => each.plan === plan.id);
        if (event.event === 'round' && (event.round ?? 0) >= 1) times.push(event.ms ?? Number.NaN);
        if (event.event !== 'plan') continue;
        if (event.state === 'aborted') throw new RangeError(`the plan was aborted: ${event.code}`);
        if (event.state === 'completed') break;
      }
      measured.push(times);
      process.stderr.write(`${plan.id}: ${times.length} rounds\n`);
    }
    return measured;
  } finally {
    for (const child of processes.toReversed()) {
      child.kill('SIGTERM');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    await rm(directory, { recursive: true, force: true });
  }
}

function eventsOf(child: ChildProcess): { next: (fits: (event: RoundEvent) => boolean) => Promise<RoundEvent> } {
  // Safe: spawned with a pipe for its output.
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  return {
    async next(fits) {
      for (;;) {
        const { value, done } = await lines.next();
        if (done) throw new RangeError('the aggregator ended');
        // Safe: the aggregator prints one JSON object a line.
        const event = JSON.parse(value) as RoundEvent;
        if (fits(event)) return event;
      }
    },
  };
}
