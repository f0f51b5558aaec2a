/**
 * The steps of secure aggregation between two masked inputs and their sum: keys, shares, agreement, reveal.
 *
 * What the aggregator hands on from other sites is believed for their signatures only, and only for the plan, epoch, round
 * and attempt it is used for. A step that cannot be done (another process's keys, a lie) is left out and logged: the
 * aggregator goes on without this site, or not at all. Shares leave after the node has noted the sum they open.
 */

import type { BodyInit } from '../../federated/protocol/envelope.ts';
import type {
  AgreementTask,
  EpochTask,
  KeysTask,
  RevealTask,
  SharesTask,
  SignedEnvelope,
} from '../../federated/protocol/generated/veilrisk_pb.js';
import { FederationError, PrivacyError, SecaggError } from '../errors.ts';
import { CALL_TIMEOUT_MS, knownPlan, openForwarded, type Session, unlessLate } from './session.ts';
import type { OpenSum, PlanSums } from './sums.ts';

interface Named {
  planId: string;
  planHash: string;
}

type Call = (request: SignedEnvelope, options: { timeoutMs: number }) => Promise<SignedEnvelope>;

/** Advertises keys for an epoch. */
export function makeKeys(session: Session, task: KeysTask): Promise<void> {
  return unlessImpossible(session, task, async (sums) => {
    const { channelKey, maskKeys } = sums.advertise(task.epoch, task.slots);
    const body = { epoch: task.epoch, channelKey: bytes(channelKey), maskKeys: bytes(maskKeys) };
    await send(session, 'keys', task, `${task.epoch}`, { ...body, incarnation: session.incarnation });
  });
}

/** Checks the keys of all sites and seals shares for them. */
export function sealShares(session: Session, task: SharesTask): Promise<void> {
  return unlessImpossible(session, task, async (sums) => {
    const { planId, planHash, epoch } = task;
    const participant = sums.participant(epoch);
    const list = task.keys.map((envelope) => {
      const messageId = `keys/${planHash}/${epoch}`;
      const { message, site } = openForwarded(session, 'keys', envelope, { messageId, planId, planHash });
      if (message.epoch !== epoch) throw foreign(site);
      return { site, channelKey: message.channelKey, maskKeys: message.maskKeys };
    });
    const { listHash, shares } = await participant.seal(list);
    const body = {
      listHash: bytes(listHash),
      shares: shares.map(({ site, sealed }) => ({ site, sealed: bytes(sealed) })),
    };
    await send(session, 'shares', task, `${epoch}`, { epoch, ...body });
  });
}

/** Takes the shares the others sealed for this site. */
export function acceptShares(session: Session, task: EpochTask): Promise<void> {
  return unlessImpossible(session, task, async (sums) => {
    sums.participant(task.epoch).accept(task.shares);
  });
}

/** Agrees on whose inputs are in the sum. */
export function agree(session: Session, task: AgreementTask): Promise<void> {
  return unlessImpossible(session, task, async (sums, quorum) => {
    const sum = openedSum(sums, task);
    sum.agreement = sum.participant.agree(sum.context, task.survivors, quorum);
    const { planId, planHash, round, attempt } = task;
    const { federation } = session.connection;
    const envelope = sealAgreement(session, task, sum.agreement);
    await unlessLate(session, planId, async () => {
      const reply = await federation.agree(envelope, { timeoutMs: CALL_TIMEOUT_MS });
      session.party.open('stored', reply, agreementId(planHash, round, attempt));
    });
  });
}

/** A site's agreement on a sum, for the aggregator to hand on to the others. */
export function sealAgreement(
  { party }: Pick<Session, 'party'>,
  { planId, planHash, round, attempt }: Pick<AgreementTask, 'planId' | 'planHash' | 'round' | 'attempt'>,
  agreement: Uint8Array,
): SignedEnvelope {
  const body = { planId, planHash, round, attempt, agreement: bytes(agreement) };
  return party.seal('agreement', agreementId(planHash, round, attempt), body);
}

const agreementId = (planHash: string, round: number, attempt: number) => `agreement/${planHash}/${round}/${attempt}`;

/** Opens what unmasks the sum, once enough survivors agree on it. */
export function reveal(session: Session, task: RevealTask): Promise<void> {
  return unlessImpossible(session, task, async (sums) => {
    const { planId, planHash, round, attempt } = task;
    const sum = openedSum(sums, task);
    if (sum.agreement === null) throw unknownSum(task);
    const agreements = task.agreements.map((envelope) => {
      const messageId = agreementId(planHash, round, attempt);
      const { message, site } = openForwarded(session, 'agreement', envelope, { messageId, planId, planHash });
      if (message.round !== round || message.attempt !== attempt) throw foreign(site);
      return { site, agreement: message.agreement };
    });
    const { selfShares, keyShares } = sum.participant.reveal(sum.context, agreements);
    await session.port.revealing({ planId, round, attempt, agreement: sum.agreement });
    const opened = (shares: typeof selfShares) => shares.map(({ site, share }) => ({ site, share: bytes(share) }));
    const body = { round, attempt, selfShares: opened(selfShares), keyShares: opened(keyShares) };
    await send(session, 'reveal', task, `${round}/${attempt}`, body);
    // While the aggregator works on this round.
    sum.participant.prepare(sum.context.slot + 1);
  });
}

/** Does a step of a plan of mode `sum`; one that cannot be done is logged and not answered. */
async function unlessImpossible(
  session: Session,
  { planId, planHash }: Named,
  step: (sums: PlanSums, quorum: number) => Promise<void>,
): Promise<void> {
  const { plan, sums } = await knownPlan(session, planId, planHash);
  try {
    if (sums === null)
      throw new SecaggError('SECAGG_CONTEXT', 'The plan makes no sums under masks.', { where: planId });
    await step(sums, plan.quorum);
  } catch (error) {
    if (!isImpossible(error)) throw error;
    session.log.warn({ plan: planId, code: error.code, where: error.where }, error.message);
  }
}

function isImpossible(error: unknown): error is SecaggError | PrivacyError | FederationError {
  if (error instanceof FederationError) return error.code === 'EPOCH_UNKNOWN' || error.code === 'ROUND_MISMATCH';
  return error instanceof SecaggError || error instanceof PrivacyError;
}

type Step = 'keys' | 'shares' | 'reveal';

function send<K extends Step>(
  session: Session,
  kind: K,
  { planId, planHash }: Named,
  place: string,
  body: BodyInit<K>,
): Promise<boolean> {
  const { federation } = session.connection;
  const calls: Record<Step, Call> = {
    keys: federation.advertiseKeys,
    shares: federation.submitShares,
    reveal: federation.reveal,
  };
  const messageId = `${kind}/${planHash}/${place}`;
  const envelope = session.party.seal(kind, messageId, { planId, planHash, ...body });
  return unlessLate(session, planId, async () => {
    session.party.open('stored', await calls[kind](envelope, { timeoutMs: CALL_TIMEOUT_MS }), messageId);
  });
}

function openedSum(sums: PlanSums, task: { round: number; attempt: number }): OpenSum {
  const sum = sums.find(task.round, task.attempt);
  if (sum === undefined) throw unknownSum(task);
  return sum;
}

const unknownSum = ({ round, attempt }: { round: number; attempt: number }) =>
  new SecaggError('SECAGG_CONTEXT', 'This process has not got so far in the attempt.', {
    where: `round ${round}, attempt ${attempt}`,
  });

const foreign = (site: string) =>
  new FederationError('ROUND_MISMATCH', 'A message of another site is about another sum.', { where: site });

/** Safe: what secure aggregation makes never lives in shared memory. */
const bytes = (view: Uint8Array): Uint8Array<ArrayBuffer> => view as Uint8Array<ArrayBuffer>;
