/**
 * A bank node for tests on real parts: a fresh database, the system's randomness, and a scorecard trained with
 * differential privacy on simulated transactions through the published demo contract.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { createLogSigner } from '../../src/audit/note.ts';
import { binRecord, type Contract, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { defaultPlan } from '../../src/learning/plan.ts';
import type { Scorecard } from '../../src/learning/scorecard.ts';
import { trainPrivate } from '../../src/learning/train.ts';
import { DEFAULT_LIMITS, type NodeContext } from '../../src/operations/context.ts';
import { defaultPolicy } from '../../src/operations/policy.ts';
import { defaultParticipation } from '../../src/participant/policy.ts';
import { openBudget } from '../../src/privacy/budget.ts';
import { systemRandom } from '../../src/random.ts';
import { seededRandom } from '../../src/simulator/random.ts';
import { generateTransactions } from '../../src/simulator/transactions.ts';
import { openNodeStore } from '../../src/store/nodeStore.ts';
import type { EncryptionPool } from '../../src/workers/encryptionPool.ts';
import { openTrainingPool } from '../../src/workers/trainingPool.ts';
import { recordOf } from '../support/simulated.ts';

export const contract: Contract = parseContract(
  JSON.parse(readFileSync(join(import.meta.dirname, '../../contracts/demo-transactions.json'), 'utf8')),
);

export type Record = ReturnType<typeof recordOf>;

/** Simulated transactions, the same for the same seed. */
export function simulated(rows: number, seed = 7): { records: Record[]; labels: Uint8Array } {
  const records: Record[] = [];
  const labels = new Uint8Array(rows);
  for (const transaction of generateTransactions({ seed, bank: 'a', rows, fraudRate: 0.05 })) {
    labels[records.length] = Number(transaction.fraud);
    records.push(recordOf(transaction));
  }
  return { records, labels };
}

/** A scorecard of one bank at epsilon 4; another seed gives another model of the same contract. */
export function trainedModel(seed = 7): Scorecard {
  const rows = 6_000;
  const { records, labels } = simulated(rows, seed);
  const bins = new Uint16Array(rows * contract.fields.length);
  records.forEach((record, row) => {
    bins.set(binRecord(contract, record).bins, row * contract.fields.length);
  });
  const plan = defaultPlan({ contract, epsilon: 4, delta: 1e-6, sites: 1, quorum: 1, expectedRows: rows });
  const data = { rows, sizes: layoutOf(contract).sizes, bins, labels };
  return trainPrivate(data, plan, contract, seededRandom(seed, 'test noise'));
}

export interface TestNode extends NodeContext {
  /** Moves the node's clock. */
  advance(ms: number): void;
  /** What was logged, one object a line. */
  logged: { [name: string]: unknown }[];
}

export async function openTestNode(url: string, encryption: EncryptionPool | null = null): Promise<TestNode> {
  const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  const store = await openNodeStore({ url, logSigner: await createLogSigner('test.example/audit', keys) });
  let offsetMs = 0;
  const logged: { [name: string]: unknown }[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const training = openTrainingPool({ log });
  return {
    name: 'bank-a',
    store,
    log,
    logged,
    clock: () => new Date(Date.now() + offsetMs),
    advance(ms) {
      offsetMs += ms;
    },
    random: systemRandom(),
    encryption,
    training,
    limits: { ...DEFAULT_LIMITS },
    policy: defaultPolicy(),
    participation: {
      ...defaultParticipation({ epsilon: 4, delta: 1e-5 }),
      minimumParticipants: 1,
    },
    budget: openBudget(8, 1e-5),
    identity: IdentityKey.create(),
    subjectKey: new Uint8Array(32).fill(7),
    async close() {
      await training.close();
      await store.close();
    },
  };
}
