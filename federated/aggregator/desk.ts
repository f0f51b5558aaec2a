/**
 * What every part of the aggregator works with: database, signing party, clock, log, and who is listening.
 */

import { FederationError } from '../../src/errors.ts';
import type { Log } from '../../src/log.ts';
import type { Party } from '../protocol/envelope.ts';
import type { Weights } from '../protocol/weights.ts';
import type { Deadlines } from './deadlines.ts';
import type { AggregatorLog } from './log.ts';
import type { Database } from './store/database.ts';

/** Printed by `--progress-json`, one JSON object a line. Nothing in it is more than a reader of the plan may know. */
export type AggregatorEvent =
  | { event: 'plan'; plan: string; state: string; code?: string; reason?: string; sites?: string[] }
  | { event: 'round'; plan: string; round: number; of: number; contributions: number; ms: number }
  | { event: 'reopened'; plan: string; round: number; attempt: number; contributions: number }
  | { event: 'model'; plan: string; modelHash: string };

export interface Desk {
  readonly database: Database;
  readonly party: Party;
  readonly log: Log;
  readonly deadlines: Deadlines;
  readonly listeners: Listeners;
  readonly inFlight: InFlight;
  readonly weights: RecentWeights;
  /** The transparency log; null only where a test leaves it out. */
  readonly journal: AggregatorLog | null;
  /** Called after the transaction that made the events has committed. */
  announce(events: readonly AggregatorEvent[]): void;
}

/** Open task streams, and the bell that wakes them. */
export class Listeners {
  readonly #streams = new Map<string, number>();
  #bell = Promise.withResolvers<void>();

  /** Counts a stream of `site` until the returned function is called. */
  enter(site: string): () => void {
    this.#streams.set(site, (this.#streams.get(site) ?? 0) + 1);
    return () => {
      this.#streams.set(site, (this.#streams.get(site) ?? 1) - 1);
    };
  }

  connected(site: string): boolean {
    return (this.#streams.get(site) ?? 0) > 0;
  }

  /** Resolves at the next ring. Take it before looking for work, so that no ring is missed. */
  next(): Promise<void> {
    return this.#bell.promise;
  }

  ring(): void {
    const bell = this.#bell;
    this.#bell = Promise.withResolvers<void>();
    bell.resolve();
  }
}

/** Requests that use the database now; a stop waits for them and admits no more. */
export class InFlight {
  readonly #running = new Set<Promise<unknown>>();
  #closed = false;

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new FederationError('AGGREGATOR_UNREACHABLE', 'The aggregator is stopping.');
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running);
  }
}

/** The weights of recent rounds by state hash, so that each site's task does not read them from the database again. */
export class RecentWeights {
  readonly #kept = new Map<string, Weights>();

  get(stateHash: string): Weights | undefined {
    return this.#kept.get(stateHash);
  }

  put(stateHash: string, weights: Weights): void {
    this.#kept.set(stateHash, weights);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= 16) break;
      this.#kept.delete(oldest);
    }
  }
}

export function replayed(message: string): FederationError {
  return new FederationError('MESSAGE_REPLAYED', message, {
    where: 'message_id',
    fix: 'Send the very same message again, or none.',
  });
}

/** A refusal's code is stored and shown: upper-case words only. */
export function checkCode(code: string): void {
  if (!/^[A-Z][A-Z0-9_]{0,63}$/.test(code)) {
    throw new FederationError('MESSAGE_MALFORMED', 'A refusal needs a code of A-Z, 0-9 and "_".', { where: 'code' });
  }
}

/** A sentence from outside, fit for a log line, a terminal and a database column: at most 500 printable characters. */
export function printable(text: string): string {
  return text.replace(/[\p{C}]/gu, ' ').slice(0, 500);
}
