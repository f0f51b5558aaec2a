/**
 * The gRPC service: open the envelope, do the work, seal the reply.
 *
 * Every envelope is verified before the database sees any of it. Limit: who can reach the port can make the process
 * verify signatures; nothing is stored for them.
 */

import type { ConnectRouter, HandlerContext } from '@connectrpc/connect';
import type { MessageKind, Opened } from '../protocol/envelope.ts';
import { type BodyInit, SIGNATURE_DOMAIN } from '../protocol/envelope.ts';
import { toConnectError } from '../protocol/failure.ts';
import { Federation, type SignedEnvelope } from '../protocol/generated/veilrisk_pb.js';
import { abort } from './abort.ts';
import type { Desk } from './desk.ts';
import { influenceOf } from './influence.ts';
import { acknowledge, answer, propose } from './proposals.ts';
import { planStatus, publishedModel, publishedPlan, publishedRoster } from './queries.ts';
import { malformed } from './receive.ts';
import { advertiseKeys, agree, reveal, submitShares } from './steps.ts';
import { streamTasks } from './streams.ts';
import { submit } from './updates.ts';

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
    advertiseKeys: unary('keys', 'stored', (opened, envelope) => advertiseKeys(desk, opened, envelope)),
    submitShares: unary('shares', 'stored', (opened, envelope) => submitShares(desk, opened, envelope)),
    agree: unary('agreement', 'stored', (opened, envelope) => agree(desk, opened, envelope)),
    reveal: unary('reveal', 'stored', (opened, envelope) => reveal(desk, opened, envelope)),
    abort: unary('abort', 'aborted', (opened) => abort(desk, opened)),
    addCheckpoint: unary('checkpoint', 'cosigned', (opened) => addCheckpoint(desk, opened)),
    acknowledge: unary('acknowledge', 'acknowledged', (opened) => acknowledge(desk, opened)),
    status: unary('query', 'status', ({ message }) => planStatus(desk, message.planId)),
    getPlan: unary('query', 'plan', ({ message }) => publishedPlan(desk, message.planId)),
    getModel: unary('query', 'published', ({ message }) => publishedModel(desk, message.planId)),
    getInfluence: unary('query', 'influence', (opened) => influenceOf(desk, opened)),
    getRoster: unary('query', 'roster', () => publishedRoster(desk)),
    tasks: (envelope, context) => tasks(desk, envelope, context, stopping),
  });
}

async function* tasks(desk: Desk, envelope: SignedEnvelope, context: HandlerContext, stopping: AbortSignal) {
  try {
    yield* streamTasks(desk, envelope, context, stopping);
  } catch (error) {
    throw failure(desk, 'listen', error);
  }
}

async function addCheckpoint(desk: Desk, { message, signer }: Opened<'checkpoint'>): Promise<BodyInit<'cosigned'>> {
  if (message.head === undefined) throw malformed('head', 'The message holds no head of a log.');
  if (desk.journal !== null) return desk.journal.addCheckpoint(signer, message.head, message.verifierKey);
  return { size: 0n, cosignature: '', code: 'WITNESS_ABSENT' };
}

/** Being too late is part of every day: a threshold of sites is enough, and the others come after it. */
const USUAL = new Set(['ROUND_CLOSED']);

function failure(desk: Desk, kind: MessageKind, error: unknown) {
  const answer = toConnectError(error);
  const code = answer.metadata.get('veilrisk-code') ?? '';
  if (code === 'INTERNAL') desk.log.error({ kind, err: error }, 'request failed');
  else desk.log[USUAL.has(code) ? 'debug' : 'warn']({ kind, code }, answer.rawMessage);
  return answer;
}
