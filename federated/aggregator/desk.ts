/**
 * What every part of the aggregator works with: database, views of the plans, signing party, clock, logs, and who is
 * listening.
 */

import { FederationError } from '../../src/errors.ts';
import type { Log } from '../../src/log.ts';
import type { Party } from '../protocol/envelope.ts';
import type { Boards } from './boards.ts';
import type { Deadlines } from './deadlines.ts';
import type { EarlyAgreements } from './earlyAgreements.ts';
import type { RecentStates, RecentWeights } from './kept.ts';
import type { Leases } from './lease.ts';
import type { AggregatorLog } from './log.ts';
import type { MaskedSums } from './maskedSums.ts';
import type { Presence } from './presence.ts';
import type { Database } from './store/database.ts';
import type { MessageStore } from './store/messages.ts';
import type { Vectors } from './vectors.ts';

/** Printed by `--progress-json`, one JSON object a line. Nothing in it is more than a reader of the plan may know. */
export type AggregatorEvent =
  | { event: 'plan'; plan: string; state: string; code?: string; reason?: string; sites?: string[] }
  | { event: 'round'; plan: string; round: number; of: number; contributions: number; ms: number }
  | { event: 'phase'; plan: string; round: number; attempt: number; phase: string }
  | { event: 'reopened'; plan: string; round: number; attempt: number; contributions: number }
  | { event: 'model'; plan: string; modelHash: string };

export interface Desk {
  /** Random name of this process: in leases, connections and notices. */
  readonly process: string;
  readonly database: Database;
  readonly boards: Boards;
  readonly messages: MessageStore;
  readonly vectors: Vectors;
  readonly earlyAgreements: EarlyAgreements;
  readonly sums: MaskedSums;
  readonly leases: Leases;
  readonly presence: Presence;
  readonly party: Party;
  readonly log: Log;
  readonly deadlines: Deadlines;
  readonly listeners: Listeners;
  readonly inFlight: InFlight;
  readonly weights: RecentWeights;
  readonly states: RecentStates;
  /** The transparency log; null only where a test leaves it out. */
  readonly journal: AggregatorLog | null;
  /** The signed roster file, for those who ask; null where the operator signed none. */
  readonly signedRoster: object | null;
  /** Looks soon whether a step of the plan is due. */
  poke(planId: string): void;
  /** Called after the transaction that made the events has committed. */
  announce(events: readonly AggregatorEvent[]): void;
}

/** The bell that wakes open task streams. */
export class Listeners {
  readonly #ears = new Set<Ear>();

  /** To be left again, or it is kept for ever. */
  enter(): Ear {
    const ear = new Ear();
    this.#ears.add(ear);
    return ear;
  }

  leave(ear: Ear): void {
    this.#ears.delete(ear);
  }

  ring(): void {
    for (const ear of this.#ears) ear.hear();
  }
}

/** One stream's ear. It keeps nothing of a wait that is over: a stream may wait in silence for weeks. */
export class Ear {
  #rung = false;
  #wake: (() => void) | null = null;

  hear(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** To be called before looking for work, so that no ring is missed. */
  listen(): void {
    this.#rung = false;
  }

  /** True when the bell has rung since `listen`, false when the time was over or the stream ended. */
  async rungWithin(ms: number, ended: AbortSignal): Promise<boolean> {
    if (this.#rung || ended.aborted) return this.#rung;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    const stop = () => resolve();
    this.#wake = stop;
    ended.addEventListener('abort', stop, { once: true });
    await promise;
    this.#wake = null;
    clearTimeout(timer);
    ended.removeEventListener('abort', stop);
    return this.#rung;
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
