/**
 * The bank's side of the federation: one outbound connection, kept alive, and its tasks done one after the other.
 *
 * Connection loss, a restarted aggregator and a failing port all lead to a new connection after a growing, jittered
 * pause; the aggregator then sends whatever is still open. Limit: one task at a time, plans in the order they came.
 */

import { randomUUID } from 'node:crypto';
import pRetry, { AbortError } from 'p-retry';
import { Party } from '../../federated/protocol/envelope.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import type { Task } from '../../federated/protocol/generated/veilrisk_pb.js';
import type { IdentityKey } from '../../federated/protocol/identity.ts';
import type { Roster } from '../../federated/protocol/roster.ts';
import { connect } from '../../federated/protocol/transport.ts';
import { FederationError, type FederationErrorCode, VeilriskError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { ParticipantPort } from './port.ts';
import { answerOffer, doRound, endPlan, type KnownPlan, type Session } from './tasks.ts';

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** Silence after which a connection counts as lost, beyond what the aggregator promised. */
const GRACE_MS = 10_000;
const FIRST_MESSAGE_MS = 15_000;

export interface ParticipantOptions {
  roster: Roster;
  /** Site id of the roster. */
  site: string;
  identity: IdentityKey;
  port: ParticipantPort;
  /** Overrides the roster's URL. */
  url?: string;
  log: Log;
  /** Ends the participant; a task under way is abandoned and comes again next time. */
  signal: AbortSignal;
}

/** Runs until the signal. Throws only what no retry can mend: a roster or an identity the aggregator does not know. */
export async function runParticipant(options: ParticipantOptions): Promise<void> {
  const { roster, site, identity, signal, log } = options;
  const party = new Party(roster, site, identity);
  const plans = new Map<string, KnownPlan>();
  while (!signal.aborted) {
    try {
      // One call of pRetry lasts until a connection has worked: the pause starts small again afterwards.
      await pRetry(() => session(options, party, plans), {
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
async function session(options: ParticipantOptions, party: Party, plans: Map<string, KnownPlan>): Promise<void> {
  const { roster, url, port, log, signal } = options;
  const connection = connect(roster, url, options.identity);
  const lost = new AbortController();
  const ended = AbortSignal.any([signal, lost.signal]);
  const current: Session = { party, connection, port, log, plans };
  let working: Promise<void> = Promise.resolve();
  let failure: unknown;
  let done = 0;
  let watchdog = setTimeout(() => lost.abort(), FIRST_MESSAGE_MS);
  try {
    const messageId = `listen/${randomUUID()}`;
    let sequence = 0;
    const stream = connection.federation.tasks(party.seal('listen', messageId, {}), { signal: ended });
    for await (const envelope of stream) {
      const { message } = party.open('task', envelope, `${messageId}/${sequence++}`);
      if (message.task.case === 'heartbeat') {
        if (sequence === 1) log.info({ site: options.site }, 'connected to the aggregator');
        clearTimeout(watchdog);
        watchdog = setTimeout(() => lost.abort(), message.task.value.nextWithinMs + GRACE_MS);
        continue;
      }
      working = working
        .then(() => (ended.aborted ? undefined : perform(current, message)))
        .then(
          () => {
            done++;
          },
          (error: unknown) => {
            failure ??= error;
            lost.abort();
          },
        );
    }
  } catch (error) {
    failure ??= error;
  } finally {
    clearTimeout(watchdog);
    lost.abort();
    connection.close();
  }
  await working;
  if (signal.aborted) return;
  const error = failure instanceof VeilriskError ? failure : fromConnectError(failure ?? 'the stream ended');
  if (isFinal(error)) throw new AbortError(error);
  if (done === 0) throw error;
  log.warn({ code: error.code }, error.message);
}

async function perform(session: Session, { task }: Task): Promise<void> {
  switch (task.case) {
    case 'offer':
      return answerOffer(session, task.value);
    case 'round':
      return doRound(session, task.value);
    case 'ended':
      return endPlan(session, task.value);
    default:
      // A newer aggregator may send kinds we do not know; they are not ours to do.
      return;
  }
}

const FINAL: ReadonlySet<FederationErrorCode> = new Set(['SITE_UNKNOWN', 'ROSTER_INVALID']);

function isFinal(error: VeilriskError): boolean {
  return error instanceof FederationError && FINAL.has(error.code);
}

function codeOf(error: Error): string {
  return error instanceof VeilriskError ? error.code : 'INTERNAL';
}
