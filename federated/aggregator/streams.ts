/** A site's task stream: a heartbeat, whatever is open for the site, and news as they come. */

import { create } from '@bufbuild/protobuf';
import type { HandlerContext } from '@connectrpc/connect';
import type { BodyInit } from '../protocol/envelope.ts';
import { LogHeadSchema, type SignedEnvelope, TaskSchema } from '../protocol/generated/veilrisk_pb.js';
import type { Desk, Ear } from './desk.ts';
import { malformed } from './receive.ts';
import { pendingTasks } from './tasks.ts';

/** A site gets a heartbeat this often, whatever else it gets. */
const HEARTBEAT_MS = 5_000;
const INCARNATION = /^[\x21-\x7e]{0,200}$/;

export async function* streamTasks(
  desk: Desk,
  envelope: SignedEnvelope,
  context: HandlerContext,
  stopping: AbortSignal,
): AsyncGenerator<SignedEnvelope> {
  const { party, listeners, presence } = desk;
  const { message, signer: site, messageId } = party.open('listen', envelope);
  if (!INCARNATION.test(message.incarnation))
    throw malformed('incarnation', 'The incarnation must be printable ASCII.');
  const ended = AbortSignal.any([context.signal, stopping]);
  const leave = await desk.inFlight.run(() => presence.enter(site, message.incarnation));
  const ear = listeners.enter();
  try {
    desk.journal?.listening(site, Number(message.logSize), ear);
    desk.log.info({ site }, 'site connected');
    // Somebody to wait for, or nobody any more.
    for (const board of desk.boards.all()) desk.poke(board.plan.id);
    const sent = new Set<string>();
    let sequence = 0;
    const seal = (task: BodyInit<'task'>) => party.seal('task', `${messageId}/${sequence++}`, task);
    let beatAt = performance.now();
    const heartbeat = () => {
      beatAt = performance.now();
      return seal({ task: { case: 'heartbeat', value: { nextWithinMs: HEARTBEAT_MS } } });
    };
    yield heartbeat();
    while (!ended.aborted) {
      ear.listen();
      for (const { key, make } of pendingTasks(desk, site)) {
        if (sent.has(key)) continue;
        const task = await desk.inFlight.run(async () => withHead(desk, site, ear, await make()));
        if (ended.aborted) return;
        sent.add(key);
        yield seal(task);
      }
      // Due through busy rounds too: the bell then rings sooner than a heartbeat's time is over, again and again.
      const left = beatAt + HEARTBEAT_MS - performance.now();
      if ((left <= 0 || !(await ear.rungWithin(left, ended))) && !ended.aborted) yield heartbeat();
    }
  } catch (error) {
    if (!ended.aborted) throw error;
  } finally {
    listeners.leave(ear);
    await leave().catch((error) => desk.log.debug({ site, err: error }, 'could not note that a site left'));
    for (const board of desk.boards.all()) desk.poke(board.plan.id);
  }
}

/** Steps between a round's task and its end agree on the head that the round brought. */
const WITH_HEAD: ReadonlySet<string | undefined> = new Set(['offer', 'round', 'ended']);

/** The log's head travels with the task; all sites of a round are shown the one it was opened with. */
async function withHead(desk: Desk, site: string, stream: Ear, task: BodyInit<'task'>): Promise<BodyInit<'task'>> {
  const { journal } = desk;
  if (journal === null || !WITH_HEAD.has(task.task?.case)) return task;
  const round = task.task?.case === 'round' ? task.task.value : undefined;
  const { planId = '', round: number = 0, attempt = 0 } = round ?? {};
  const name = round === undefined ? undefined : { planId, attempt, round: number };
  const log = await journal.headFor(site, name, stream);
  return Object.assign(create(TaskSchema, task), { log: create(LogHeadSchema, log) });
}
