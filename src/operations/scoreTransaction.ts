/**
 * Scores one transaction in the clear.
 *
 * The decision, its idempotency row, its audit entry and the erasable openings of the entry's commitments commit
 * together, and the reply is given after that. The entry holds no personal value: it commits to the transaction and to
 * the result (audit/FORMAT.md), and says in the clear only outcome, reason codes, model and policy. What the answer
 * counts on the caller's meter (metering.ts) commits with it too.
 */

import { bytesToHex } from '../audit/bytes.ts';
import { binRecord } from '../contract/contract.ts';
import { ContractError } from '../errors.ts';
import { logitOf, probabilityOf, reasonsFor, riskScore, type ScoreReason } from '../learning/scorecard.ts';
import type { DecisionDraft } from '../store/decisions.ts';
import type { Caller } from './authentication.ts';
import { bodyHash } from './bodyHash.ts';
import type { NodeContext } from './context.ts';
import { allowance, auditedRefusals, clearDraft, meterOf, type VectorAllowance } from './metering.ts';
import { champion, type LoadedModel } from './models.ts';
import { committed, opening } from './openings.ts';
import { type Decision, decide, policyHash } from './policy.ts';

export interface ScoreRequest {
  caller: Caller;
  requestId: string;
  /** The caller's Idempotency-Key; without it `id` is the key, and without that the request cannot be repeated. */
  idempotencyKey?: string | undefined;
  transaction: Readonly<Record<string, unknown>>;
  /** The caller's own id of the transaction. */
  id?: string | undefined;
}

/** What is decided before the audit log has a place for it; stored as the reply to repeated requests. */
interface Verdict {
  id: string;
  /** Integer 0 to 1000, higher is riskier. */
  score: number;
  /** 0 to 1. */
  probability: number;
  decision: Decision;
  reasons: ScoreReason[];
  model: { hash: string };
  policy: { version: number; hash: string };
}

type Bins = ReturnType<typeof binRecord>['bins'];

export interface ScoreReply extends Verdict {
  audit: { index: number; leafHash: string };
}

/** An answered request. */
export interface ScoredTransaction {
  reply: ScoreReply;
  /** The reply is the stored one of an earlier request with the same key and body; it counted nothing. */
  replayed: boolean;
  /** Of the caller under the champion, after this answer. */
  allowance: VectorAllowance;
}

const REASONS = 4;

/**
 * @throws ContractError RECORD_INVALID with one issue a wrong field; StoreError IDEMPOTENCY_CONFLICT; RequestError
 * NO_MODEL, VECTOR_LIMIT
 */
export async function scoreTransaction(context: NodeContext, request: ScoreRequest): Promise<ScoredTransaction> {
  const { caller, requestId, transaction, id } = request;
  const named = request.idempotencyKey ?? id;
  const body = bodyHash(context.subjectKey, { transaction, ...(id !== undefined && { id }) });
  const model = await champion(context);
  const decisionId = newId(context);
  const meter = meterOf(context, caller, model.hash);
  let verdict: Verdict;
  let bins: Bins;
  try {
    ({ verdict, bins } = judge(context, model, transaction, id ?? decisionId));
  } catch (error) {
    // A repeated request gets its first reply even when the model, and with it the contract, changed in between.
    const earlier =
      named !== undefined && error instanceof ContractError ? await findEarlier(context, caller, named, body) : null;
    if (earlier === null) throw error;
    return { reply: earlier, replayed: true, allowance: allowance(await context.store.meters.standing(meter)) };
  }
  const openings = {
    transaction: opening(context.random, transaction),
    result: opening(context.random, {
      score: verdict.score,
      probability: verdict.probability,
      reasons: verdict.reasons,
    }),
  };
  const draft: DecisionDraft = {
    id: decisionId,
    apiKey: caller.keyPrefix,
    idempotencyKey: named ?? null,
    bodyHash: body,
    reply: JSON.stringify(verdict),
    modelHash: model.hash,
    entry: {
      type: 'decision',
      actor: `api-key:${caller.keyPrefix}`,
      requestId,
      modelHash: model.hash,
      policyHash: verdict.policy.hash,
      outcome: verdict.decision,
      reasonCodes: verdict.reasons.filter(({ direction }) => direction === 'raises').map(({ code }) => code),
      details: { decision: decisionId },
      commitments: {
        transaction: committed(openings.transaction),
        result: committed(openings.result),
      },
    },
    personal: Object.entries(openings).map(([name, each]) => ({ name, ...each, subject: null })),
  };
  const counted = clearDraft(context, caller, model.hash, bins);
  const stored = await auditedRefusals(context, request, context.store.decisions.record(draft, counted));
  // Safe: a decision that is recorded with a meter tells where it stands.
  return { reply: replyOf(stored), replayed: stored.replayed, allowance: allowance(stored.metered!) };
}

function judge(
  context: NodeContext,
  model: LoadedModel,
  transaction: ScoreRequest['transaction'],
  id: string,
): { verdict: Verdict; bins: Bins } {
  const { policy } = context;
  const { bins } = binRecord(model.contract, transaction);
  const logit = logitOf(model.scorecard, bins);
  const score = riskScore(model.scorecard, logit);
  const verdict: Verdict = {
    id,
    score,
    probability: probabilityOf(logit, model.scorecard.scaling.residualBound),
    decision: decide(policy, score),
    reasons: reasonsFor(model.scorecard, model.contract, bins, REASONS),
    model: { hash: model.hash },
    policy: { version: policy.version, hash: policyHash(policy) },
  };
  return { verdict, bins };
}

async function findEarlier(
  context: NodeContext,
  caller: Caller,
  idempotencyKey: string,
  body: string,
): Promise<ScoreReply | null> {
  const stored = await context.store.decisions.findReplay(caller.keyPrefix, idempotencyKey, body);
  return stored === null ? null : replyOf(stored);
}

function replyOf({ reply, index, leafHash }: { reply: string; index: number; leafHash: string }): ScoreReply {
  // Safe: written by this file only, as JSON of a verdict.
  const verdict = JSON.parse(reply) as Verdict;
  return { ...verdict, audit: { index, leafHash } };
}

/** 32 hexadecimal digits, random: tells nothing about how many decisions there are. */
function newId(context: NodeContext): string {
  const bytes = new Uint8Array(16);
  context.random.fill(bytes);
  return bytesToHex(bytes);
}
