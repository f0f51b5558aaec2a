/**
 * The bank's side of the federation: one outbound connection, kept alive, and its tasks, those of a plan in their order.
 *
 * Connection loss, a restarted aggregator and a failing port all lead to a new connection after a growing, jittered
 * pause; the aggregator then sends whatever is still open. Keys and shares of secure aggregation outlive a connection and
 * end with the process. Limit: one task of a plan at a time; all plans share one thread for passes over the records.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import pRetry, { AbortError } from 'p-retry';
import { Party } from '../../federated/protocol/envelope.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import type { LogHead, PlanOffer, Task } from '../../federated/protocol/generated/veilrisk_pb.js';
import type { IdentityKey } from '../../federated/protocol/identity.ts';
import type { Roster } from '../../federated/protocol/roster.ts';
import { connect } from '../../federated/protocol/transport.ts';
import { FederationError, type FederationErrorCode, VeilriskError } from '../errors.ts';
import type { Log } from '../log.ts';
import { type RandomSource, systemRandom } from '../random.ts';
import { sendCheckpoint } from './checkpoint.ts';
import type { ParticipantPort, SeenLog } from './port.ts';
import { openProposal, type Session } from './session.ts';
import { acceptShares, agree, makeKeys, reveal, sealShares } from './sumTasks.ts';
import { answerOffer, doRound, endPlan } from './tasks.ts';
import { Work } from './work.ts';

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** Silence after which a connection counts as lost, beyond what the aggregator promised. */
const GRACE_MS = 10_000;
const FIRST_MESSAGE_MS = 15_000;
/** The node's own log is sent at most this often while it grows, besides at the start and after plans. */
const CHECKPOINT_MS = 60_000;
/** How often a plan that waits for a person is looked at. */
const DECISION_MS = 1_000;

export interface ParticipantOptions {
  roster: Roster;
  /** Site id of the roster. */
  site: string;
  identity: IdentityKey;
  port: ParticipantPort;
  /** Overrides the roster's URL. */
  url?: string;
  log: Log;
  /** Of keys and shares; the system's where none is given. */
  random?: RandomSource;
  /** Ends the participant; a task under way is abandoned and comes again next time. */
  signal: AbortSignal;
}

/** Runs until the signal. Throws only what no retry can mend: a roster or an identity the aggregator does not know. */
export async function runParticipant(options: ParticipantOptions): Promise<void> {
  const { roster, site, identity } = options;
  const party = new Party(roster, site, identity);
  const shared: Shared = {
    ...{ party, plans: new Map(), random: options.random ?? systemRandom() },
    ...{ incarnation: randomUUID(), cosigned: { size: 0, sent: 0 } },
  };
  try {
    await reconnect(options, shared);
  } finally {
    for (const { sums } of shared.plans.values()) sums?.close();
  }
}

/** What outlives a connection. */
type Shared = Omit<Session, 'connection' | 'port' | 'log'>;

async function reconnect(options: ParticipantOptions, shared: Shared): Promise<void> {
  const { signal, log } = options;
  while (!signal.aborted) {
    try {
      // One call of pRetry lasts until a connection has worked: the pause starts small again afterwards.
      await pRetry(() => session(options, shared), {
        retries: Number.POSITIVE_INFINITY,
        minTimeout: FIRST_PAUSE_MS,
        maxTimeout: LONGEST_PAUSE_MS,
        randomize: true,
        signal,
        onFailedAttempt: ({ error, retryDelay }) => {
          log.warn({ code: codeOf(error), pauseMs: Math.round(retryDelay) }, error.message);
        },
        // TypeErrors are not retried by default; one from the network stack is as good a reason as any.
        shouldRetry: () => true,
      });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}

/**
 * One connection. Resolves when it ended after doing some good, rejects when it did none.
 */
async function session(options: ParticipantOptions, shared: Shared): Promise<void> {
  const { roster, url, port, log, signal } = options;
  const { party, incarnation } = shared;
  const connection = connect(roster, url, options.identity);
  const lost = new AbortController();
  const ended = AbortSignal.any([signal, lost.signal]);
  const current: Session = { ...shared, connection, port, log };
  const work = new Work(ended, (error) => {
    failure ??= error;
    lost.abort();
  });
  let failure: unknown;
  let checkpoint: Promise<void> | undefined;
  let checkpointAt = 0;
  let seeing: Promise<unknown> = Promise.resolve();
  /** In the order of the stream, whatever queue the task is in: each proof starts where the one before it ended. */
  const see = (head: LogHead | undefined): Promise<SeenLog> | undefined => {
    const { logs } = port;
    if (head === undefined || logs === undefined) return undefined;
    const seen = seeing.then(() => logs.witness(head));
    // Its task fails of it.
    seeing = seen.catch(() => {});
    return seen;
  };
  let watchdog = globalThis.setTimeout(() => lost.abort(), FIRST_MESSAGE_MS);
  try {
    const messageId = `listen/${randomUUID()}`;
    let sequence = 0;
    const logSize = BigInt((await port.logs?.size()) ?? 0);
    const listen = party.seal('listen', messageId, { incarnation, logSize });
    for await (const envelope of connection.federation.tasks(listen, { signal: ended })) {
      const { message } = party.open('task', envelope, `${messageId}/${sequence++}`);
      if (message.task.case === 'heartbeat') {
        if (sequence === 1) log.info({ site: options.site }, 'connected to the aggregator');
        if (sequence === 1 || performance.now() - checkpointAt >= CHECKPOINT_MS) {
          checkpointAt = performance.now();
          checkpoint = sendCheckpoint(current);
        }
        clearTimeout(watchdog);
        watchdog = globalThis.setTimeout(() => lost.abort(), message.task.value.nextWithinMs + GRACE_MS);
        continue;
      }
      // The tasks of a plan in their order; those of another do not wait for a long pass over the records.
      const seen = see(message.log);
      work.add(queueOf(message), async () => perform(current, message, work, await seen));
    }
  } catch (error) {
    failure ??= error;
  } finally {
    clearTimeout(watchdog);
    lost.abort();
    connection.close();
  }
  await Promise.all([work.finished(), checkpoint]);
  if (signal.aborted) return;
  const error =
    failure instanceof VeilriskError
      ? failure
      : fromConnectError(failure ?? 'the stream ended', url ?? roster.aggregator.url);
  if (isFinal(error)) throw new AbortError(error);
  if (work.done === 0) throw error;
  log.warn({ code: error.code, where: error.where }, error.message);
}

/** @param seen the aggregator's log as the task brought it, verified. */
async function perform(session: Session, { task }: Task, work: Work, seen: SeenLog | undefined): Promise<void> {
  switch (task.case) {
    case 'offer': {
      const offer = task.value;
      // Beside the other tasks: one of them may be that the plan has ended.
      const queue = `decision ${offer.proposal?.messageId}`;
      if (!(await answerOffer(session, offer))) work.add(queue, () => waitForPerson(session, offer, work.ended));
      return;
    }
    case 'keys':
      return makeKeys(session, task.value);
    case 'shares':
      return sealShares(session, task.value);
    case 'epoch':
      return acceptShares(session, task.value);
    case 'round':
      return doRound(session, task.value, seen);
    case 'agreement':
      return agree(session, task.value);
    case 'reveal':
      return reveal(session, task.value);
    case 'ended':
      await endPlan(session, task.value, seen);
      return sendCheckpoint(session);
    default:
      // A newer aggregator may send kinds we do not know; they are not ours to do.
      return;
  }
}

/** Asks the port again and again until a person has decided, or the plan or the connection has ended. */
async function waitForPerson(session: Session, offer: PlanOffer, ended: AbortSignal): Promise<void> {
  const { id } = openProposal(session, offer.proposal).plan;
  do {
    await setTimeout(DECISION_MS, undefined, { signal: ended }).catch(() => {});
  } while (!ended.aborted && session.plans.has(id) && !(await answerOffer(session, offer)));
}

function queueOf({ task }: Task): string {
  return task.value !== undefined && 'planId' in task.value ? task.value.planId : '';
}

const FINAL: ReadonlySet<FederationErrorCode> = new Set(['SITE_UNKNOWN', 'ROSTER_INVALID']);

function isFinal(error: VeilriskError): boolean {
  return error instanceof FederationError && FINAL.has(error.code);
}

function codeOf(error: Error): string {
  return error instanceof VeilriskError ? error.code : 'INTERNAL';
}
