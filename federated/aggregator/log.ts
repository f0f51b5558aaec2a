/**
 * The aggregator's own log: every roster, plan, round and model as an entry that cannot be changed later, shown to the
 * sites with every task and cosigned by them (C2SP tlog-checkpoint, tlog-witness, tlog-cosignature; src/audit/FORMAT.md).
 *
 * Limit: an entry says what the aggregator did, not that it was right; two sites that were shown two logs find out
 * because the head is part of every agreement and of every cosignature.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type pg from 'pg';
import type { EntryDraft } from '../../src/audit/entry.ts';
import type { CosignedSchema, LogHeadSchema } from '../protocol/generated/veilrisk_pb.js';

export type LogHeadInit = MessageInitShape<typeof LogHeadSchema>;
export type CosignedInit = MessageInitShape<typeof CosignedSchema>;

/** Names one attempt at one round. */
export interface RoundName {
  planId: string;
  round: number;
  attempt: number;
}

export interface AggregatorLog {
  readonly origin: string;
  readonly verifierKey: string;
  /**
   * Appends entries inside the caller's transaction: after every other lock (a plan's row) and slow work, because the
   * log's head stays locked until COMMIT. The head that a draft of type "round.opened" (details planId, round, attempt)
   * leaves is kept: all sites are shown that very head with the round's task, so that they agree on it.
   */
  append(client: Pick<pg.ClientBase, 'query'>, drafts: readonly EntryDraft[]): Promise<void>;
  /** To be called after COMMIT. */
  committed(): void;
  /** A site opened its task stream, and knows the log up to `size` (Listen.log_size; 0 for not at all). */
  listening(site: string, size: number): void;
  /**
   * Task.log for a site, to be taken immediately before the task is sent: with `round` (a RoundTask) the head of that
   * round's opening, else the newest. With the proof from what the site knows.
   */
  headFor(site: string, round?: RoundName): Promise<LogHeadInit>;
  /**
   * A site's cosignature line, from an Update (with its round), Acknowledge or PlanAnswer; empty lines are fine. Stored
   * when it verifies for a head that was shown; otherwise logged, and never a reason to refuse the message.
   */
  cosigned(site: string, line: string, round?: RoundName): Promise<void>;
  /** kind "checkpoint" of a site's own log: cosigns it when it continues what was cosigned before. */
  addCheckpoint(site: string, head: LogHeadInit, verifierKey: string): Promise<CosignedInit>;
}
