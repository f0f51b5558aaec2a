/**
 * The gRPC service: open the envelope, do the work, seal the reply.
 *
 * Every envelope is verified before the database sees any of it. Limit: who can reach the port can make the process
 * verify signatures; nothing is stored for them.
 */

import { create } from '@bufbuild/protobuf';
import type { ConnectRouter, HandlerContext } from '@connectrpc/connect';
import type { MessageKind, Opened } from '../protocol/envelope.ts';
import { type BodyInit, SIGNATURE_DOMAIN } from '../protocol/envelope.ts';
import { toConnectError } from '../protocol/failure.ts';
import { Federation, LogHeadSchema, type SignedEnvelope, TaskSchema } from '../protocol/generated/veilrisk_pb.js';
import type { Desk } from './desk.ts';
import { acknowledge, answer, propose } from './proposals.ts';
import { planStatus, publishedModel, publishedPlan } from './queries.ts';
import { pendingTasks } from './tasks.ts';
import { submit } from './updates.ts';

/** A site hears from us at least this often. */
const HEARTBEAT_MS = 5_000;

export function registerFederation(router: ConnectRouter, desk: Desk, stopping: AbortSignal): void {
  const { party } = desk;

  /** One signed request, one signed reply under the same message id. */
  const unary =
    <In extends MessageKind, Out extends MessageKind>(
      kind: In,
      replyKind: Out,
      work: (opened: Opened<In>, envelope: SignedEnvelope) => Promise<BodyInit<Out>>,
    ) =>
    async (envelope: SignedEnvelope): Promise<SignedEnvelope> => {
      try {
        const opened = party.open(kind, envelope);
        return party.seal(replyKind, opened.messageId, await desk.inFlight.run(() => work(opened, envelope)));
      } catch (error) {
        throw failure(desk, kind, error);
      }
    };

  router.service(Federation, {
    health: () => ({
      protocol: SIGNATURE_DOMAIN,
      consortium: party.roster.consortium,
      rosterHash: new Uint8Array(Buffer.from(party.rosterHash, 'hex')),
    }),
    propose: unary('propose', 'proposed', (opened, envelope) => propose(desk, opened, envelope)),
    answer: unary('answer', 'answered', (opened, envelope) => answer(desk, opened, envelope)),
    submit: unary('update', 'received', (opened, envelope) => submit(desk, opened, envelope)),
    acknowledge: unary('acknowledge', 'acknowledged', (opened) => acknowledge(desk, opened)),
    status: unary('query', 'status', ({ message }) => planStatus(desk, message.planId)),
    getPlan: unary('query', 'plan', ({ message }) => publishedPlan(desk, message.planId)),
    getModel: unary('query', 'published', ({ message }) => publishedModel(desk, message.planId)),
    tasks: (envelope, context) => streamTasks(desk, envelope, context, stopping),
  });
}

async function* streamTasks(
  desk: Desk,
  envelope: SignedEnvelope,
  context: HandlerContext,
  stopping: AbortSignal,
): AsyncGenerator<SignedEnvelope> {
  const { party, listeners } = desk;
  let leave = () => {};
  const ended = AbortSignal.any([context.signal, stopping]);
  try {
    const { message, signer: site, messageId } = party.open('listen', envelope);
    leave = listeners.enter(site);
    desk.journal?.listening(site, Number(message.logSize));
    desk.log.info({ site }, 'site connected');
    const sent = new Set<string>();
    let sequence = 0;
    const seal = (task: BodyInit<'task'>) => party.seal('task', `${messageId}/${sequence++}`, task);
    yield seal({ task: { case: 'heartbeat', value: { nextWithinMs: HEARTBEAT_MS } } });
    while (!ended.aborted) {
      const rung = listeners.next();
      for (const { key, task } of await desk.inFlight.run(() => pendingTasks(desk, site))) {
        if (ended.aborted) return;
        if (sent.has(key)) continue;
        sent.add(key);
        yield seal(await withHead(desk, site, task));
      }
      if (!(await rungWithin(rung, HEARTBEAT_MS, ended)) && !ended.aborted) {
        yield seal({ task: { case: 'heartbeat', value: { nextWithinMs: HEARTBEAT_MS } } });
      }
    }
  } catch (error) {
    if (!ended.aborted) throw failure(desk, 'listen', error);
  } finally {
    leave();
  }
}

/** The log's head travels with the task; all sites of a round are shown the one it was opened with. */
async function withHead(desk: Desk, site: string, task: BodyInit<'task'>): Promise<BodyInit<'task'>> {
  const { journal } = desk;
  if (journal === null) return task;
  const round = task.task?.case === 'round' ? task.task.value : undefined;
  const { planId = '', round: number = 0, attempt = 0 } = round ?? {};
  const name = round === undefined ? undefined : { planId, attempt, round: number };
  const log = await desk.inFlight.run(() => journal.headFor(site, name));
  return Object.assign(create(TaskSchema, task), { log: create(LogHeadSchema, log) });
}

/** True when the bell rang, false when the time was over or the stream ended. */
async function rungWithin(rung: Promise<void>, ms: number, ended: AbortSignal): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const stop = () => resolve(false);
  const timer = setTimeout(stop, ms);
  ended.addEventListener('abort', stop, { once: true });
  rung.then(() => resolve(true));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    ended.removeEventListener('abort', stop);
  }
}

function failure(desk: Desk, kind: MessageKind, error: unknown) {
  const answer = toConnectError(error);
  const code = answer.metadata.get('veilrisk-code');
  if (code === 'INTERNAL') desk.log.error({ kind, err: error }, 'request failed');
  else desk.log.warn({ kind, code }, answer.rawMessage);
  return answer;
}
