/**
 * Scoring of a source of transactions in the clear: some requests under way at once, results in the source's order.
 *
 * Each transaction has an idempotency key of its own, so that asking again for an answer that was lost makes no second
 * decision. Memory: `inFlight` transactions and answers.
 */
import type { Client, ScoreReply, Transaction } from '../client/client.ts';
import { binRecord, type Contract } from '../contract/contract.ts';
import { ClientError, ContractError, type FieldIssue } from '../errors.ts';

export type ClearScore = ScoreReply | { readonly issues: readonly FieldIssue[] };

export interface KeyedTransaction {
  readonly transaction: Transaction;
  readonly idempotencyKey: string;
}

/**
 * @param inFlight requests under way at once, at least 1
 * @throws ClientError, and what the source throws; each after all results before it
 */
export async function* scoreClearStream(
  client: Pick<Client, 'score'>,
  contract: Contract,
  source: AsyncIterable<KeyedTransaction>,
  inFlight: number,
): AsyncGenerator<ClearScore, void, undefined> {
  const underWay: Promise<ClearScore>[] = [];
  const failure: { error?: unknown } = {};
  const rows = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      while (underWay.length < inFlight) {
        const next = await rows.next().catch((error: unknown) => {
          failure.error = error;
          return { done: true } as const;
        });
        if (next.done) break;
        const running = scoreOne(client, contract, next.value);
        // Its failure is read when its turn comes, or never.
        running.catch(() => {});
        underWay.push(running);
      }
      const first = underWay.shift();
      if (first === undefined) break;
      yield await first;
    }
    if ('error' in failure) throw failure.error;
  } finally {
    // What is under way is decided anyway: its answers are waited for, so that nothing runs on behind the caller's back.
    await Promise.allSettled(underWay);
    await rows.return?.();
  }
}

async function scoreOne(
  client: Pick<Client, 'score'>,
  contract: Contract,
  { transaction, idempotencyKey }: KeyedTransaction,
): Promise<ClearScore> {
  try {
    // What the node would refuse is not sent.
    binRecord(contract, transaction);
    return await client.score(transaction, { idempotencyKey });
  } catch (error) {
    if (error instanceof ContractError && error.code === 'RECORD_INVALID') return { issues: error.issues };
    // The contract may have changed since it was listed.
    if (error instanceof ClientError && error.serviceCode === 'RECORD_INVALID') return { issues: error.issues };
    throw error;
  }
}
