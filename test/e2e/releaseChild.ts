/**
 * A process of its own that makes releases of a node, for the tests that kill it or run two of them at once.
 *
 * The production parts are composed as `node start` does; what is handed to them (transactions, anchor, noise, thread) is
 * wrapped here, so that the process kills itself with SIGKILL at a named point. argv[2]: JSON of `ChildTask`.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import pino from 'pino';
import { encodeHistogram } from '../../federated/protocol/histogram.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { createLogSigner } from '../../src/audit/note.ts';
import { type Contract, layoutOf } from '../../src/contract/contract.ts';
import { VeilriskError } from '../../src/errors.ts';
import { NO_WEIGHTS } from '../../src/learning/course.ts';
import { planHash, type TrainingPlan } from '../../src/learning/plan.ts';
import { DEFAULT_LIMITS, type NodeContext } from '../../src/operations/context.ts';
import { defaultPolicy } from '../../src/operations/policy.ts';
import { openParticipantPort } from '../../src/operations/training.ts';
import { defaultParticipation } from '../../src/participant/policy.ts';
import type { ReleaseTask } from '../../src/participant/port.ts';
import { openBudget } from '../../src/privacy/budget.ts';
import { systemRandom } from '../../src/random.ts';
import { fileAnchor } from '../../src/store/anchor.ts';
import { openNodeStore, type StoreTransaction } from '../../src/store/nodeStore.ts';
import { openTrainingPool } from '../../src/workers/trainingPool.ts';

/** Where a release can be cut off, in the order of a release. */
export const STEPS = [
  'sums computed',
  'reservation written, not committed',
  'reservation committed, not anchored',
  'reservation anchored, no noise drawn',
  'noise drawn in part',
  'noise drawn, nothing written',
  'bytes written, not committed',
  'bytes committed, nothing left',
] as const;
export type Step = (typeof STEPS)[number];

export interface NodeKeys {
  url: string;
  /** PKCS #8 and raw, base64. */
  logPrivateKey: string;
  logPublicKey: string;
  anchorPath: string;
}

export interface ChildTask {
  keys: NodeKeys;
  contract: Contract;
  /** Asked for one after the other. */
  asks: { plan: TrainingPlan; round: number }[];
  killAt: Step | null;
  /** Says `ready` and waits for a line on standard input. */
  waits: boolean;
}

export interface Answer {
  planId: string;
  round: number;
  /** SHA-256 of the released bytes, or null. */
  sha256: string | null;
  code: string | null;
}

/** The node of the tests: everything but the keys is made here, so that parent and child have the same. */
export async function openNodeParts(
  keys: NodeKeys,
  wrapAnchor: (anchor: ReturnType<typeof fileAnchor>) => ReturnType<typeof fileAnchor> = (anchor) => anchor,
): Promise<NodeContext> {
  const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'base64'));
  const logSigner = await createLogSigner('bank-a/audit', {
    privateKey: await crypto.subtle.importKey('pkcs8', bytes(keys.logPrivateKey), 'Ed25519', false, ['sign']),
    publicKey: await crypto.subtle.importKey('raw', bytes(keys.logPublicKey), 'Ed25519', true, ['verify']),
  });
  const store = await openNodeStore({ url: keys.url, logSigner, anchor: wrapAnchor(fileAnchor(keys.anchorPath)) });
  const log = pino({ level: 'silent' });
  const training = openTrainingPool({ log });
  return {
    ...{ name: 'bank-a', store, log, training, encryption: null, policy: defaultPolicy() },
    limits: DEFAULT_LIMITS,
    clock: () => new Date(),
    random: systemRandom(),
    participation: { ...defaultParticipation({ epsilon: 100, delta: 1e-5 }), minimumParticipants: 1 },
    budget: openBudget(1, 1e-6),
    identity: IdentityKey.create(),
    subjectKey: new Uint8Array(32).fill(7),
    async close() {
      await training.close();
      await store.close();
    },
  };
}

export function taskOf(plan: TrainingPlan, round: number, contract: Contract): ReleaseTask {
  const { sizes, total } = layoutOf(contract);
  const weights = sizes.map((size) => new Array<number>(size).fill(0.01));
  return {
    ...{ plan, planHash: planHash(plan), contract, round, attempt: 1, stateHash: String(round).padStart(64, '0') },
    weights: round === 0 ? NO_WEIGHTS : { intercept: -1, flat: new Float64Array(total).fill(0.01) },
    model: round === 0 ? null : { intercept: -1, weights },
  };
}

export const sha256Of = (histogram: Float64Array) =>
  createHash('sha256').update(encodeHistogram(histogram)).digest('hex');

async function run({ keys, contract, asks, killAt, waits }: ChildTask): Promise<void> {
  let armed = false;
  const die = (step: Step): void => {
    if (armed && killAt === step) process.kill(process.pid, 'SIGKILL');
  };
  let written: string[] = [];
  const context = await openNodeParts(keys, (anchor) => ({
    read: () => anchor.read(),
    async write(note) {
      if (written.includes('privacy.reserve')) die('reservation committed, not anchored');
      await anchor.write(note);
    },
  }));
  const { store, training } = context;
  const random = systemRandom();
  let draws = 0;
  const draw = () => {
    if (draws++ === 0) die('reservation anchored, no noise drawn');
    if (draws === 20) die('noise drawn in part');
  };
  const observed: NodeContext = {
    ...context,
    random: {
      nextUint32() {
        draw();
        return random.nextUint32();
      },
      fill(out) {
        draw();
        random.fill(out);
      },
    },
    training: {
      ...training,
      async counts(data) {
        const sums = await training.counts(data);
        die('sums computed');
        return sums;
      },
    },
    store: {
      ...store,
      async transaction(work, options) {
        if (draws > 0) die('noise drawn, nothing written');
        written = [];
        const result = await store.transaction(async (tx: StoreTransaction) => {
          const result = await work({
            ...tx,
            append(draft) {
              written.push(draft.type);
              return tx.append(draft);
            },
          });
          if (written.includes('privacy.reserve')) die('reservation written, not committed');
          if (written.includes('privacy.commit')) die('bytes written, not committed');
          return result;
        }, options);
        if (written.includes('privacy.commit')) die('bytes committed, nothing left');
        return result;
      },
    },
  };
  const port = openParticipantPort(observed, { sites: 1, minimumQuorum: 1 }, () => {});
  if (waits) {
    process.stdout.write('ready\n');
    await once(process.stdin, 'data');
  }
  armed = true;
  for (const { plan, round } of asks) {
    const answer: Answer = { planId: plan.id, round, sha256: null, code: null };
    try {
      answer.sha256 = sha256Of((await port.release(taskOf(plan, round, contract))).histogram);
    } catch (error) {
      answer.code = error instanceof VeilriskError ? error.code : String(error);
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await context.close();
  process.exit(0);
}

if (process.argv[1]?.endsWith('releaseChild.ts')) {
  // Safe: the tests write it.
  await run(JSON.parse(process.argv[2]) as ChildTask);
}
