/**
 * Who drives: takes the due steps of every plan this process holds the lease of, one after the other for each plan, and
 * keeps leases, connections and views up to date.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { SecaggError } from '../../src/errors.ts';
import type { Board } from './board.ts';
import type { Desk } from './desk.ts';
import { type Step, stepDue } from './due.ts';
import { attemptAgain, extendDeadline } from './opening.ts';
import { closeAgreement, closeInputs, closeKeys, closeShares } from './phases.ts';
import { abortPlan, closeRound, skipEvaluation, startPlan } from './rounds.ts';

/** How often time alone is asked whether it made a step due. */
const TICK_MS = 50;
/** How often leases and connections are renewed and looked for: well within their lengths. */
const RENEWAL_MS = 1_000;
/** How often views are read again although nobody reported news: what a lost notice costs at most. */
const REFRESH_MS = 5_000;

export class Driver {
  readonly #desk: Desk;
  readonly #stopping: AbortSignal;
  /** Plans being advanced; true when something happened meanwhile. */
  readonly #running = new Map<string, boolean>();
  readonly #work = new Set<Promise<void>>();

  constructor(desk: Desk, stopping: AbortSignal) {
    this.#desk = desk;
    this.#stopping = stopping;
  }

  /** Something happened to a plan: looks whether a step is due. */
  poke(planId: string): void {
    if (this.#stopping.aborted) return;
    if (this.#running.has(planId)) {
      this.#running.set(planId, true);
      return;
    }
    if (this.#desk.leases.tokenOf(planId) === undefined) return;
    const work = this.#advance(planId).finally(() => this.#work.delete(work));
    this.#work.add(work);
  }

  pokeAll(): void {
    for (const planId of this.#desk.leases.held()) this.poke(planId);
  }

  /** Runs until the signal; then gives the leases back. */
  async run(): Promise<void> {
    let renewal = Number.NEGATIVE_INFINITY;
    let refresh = performance.now();
    while (!this.#stopping.aborted) {
      const now = performance.now();
      try {
        if (now - renewal >= RENEWAL_MS) {
          renewal = now;
          await this.#desk.leases.renew();
          if (await this.#desk.presence.refresh()) this.#desk.listeners.ring();
        }
        if (now - refresh >= REFRESH_MS) {
          refresh = now;
          await this.#desk.boards.refreshAll();
        }
      } catch (error) {
        if (!this.#stopping.aborted) this.#desk.log.error({ err: error }, 'cannot keep up with the database');
      }
      this.pokeAll();
      await sleep(TICK_MS, undefined, { signal: this.#stopping }).catch(() => {});
    }
    await Promise.all(this.#work);
    await this.#desk.leases.release().catch((error) => this.#desk.log.warn({ err: error }, 'leases run out'));
  }

  async #advance(planId: string): Promise<void> {
    this.#running.set(planId, true);
    try {
      while (this.#running.get(planId) && !this.#stopping.aborted) {
        this.#running.set(planId, false);
        const token = this.#desk.leases.tokenOf(planId);
        if (token === undefined) return;
        // Leased before anybody reported it, or forgotten because it is over.
        if (this.#desk.boards.get(planId) === undefined) await this.#desk.boards.refresh(planId);
        const board = this.#desk.boards.get(planId);
        if (board === undefined || board.plan.ended) {
          this.#desk.leases.lost(planId);
          return;
        }
        if (await advance(this.#desk, board, token)) this.#running.set(planId, true);
      }
    } catch (error) {
      if (!this.#stopping.aborted) this.#desk.log.error({ plan: planId, err: error }, 'could not advance a plan');
      // Whether the step was stored is not known; the next look at the database says.
      this.#desk.sums.forget(planId);
      await this.#desk.boards.refresh(planId).catch(() => {});
    } finally {
      this.#running.delete(planId);
    }
  }
}

/** Takes the step that is due, if any. @returns whether one was taken. */
async function advance(desk: Desk, board: Board, token: number): Promise<boolean> {
  try {
    await desk.sums.follow(desk, board);
  } catch (error) {
    if (!(error instanceof SecaggError)) throw error;
    return abortPlan(desk, board, token, error.code, error.message);
  }
  return take(desk, board, token, stepDue(desk, board));
}

async function take(desk: Desk, board: Board, token: number, step: Step): Promise<boolean> {
  switch (step.kind) {
    case 'wait':
      return false;
    case 'abort':
      return abortPlan(desk, board, token, step.code, step.reason);
    case 'skipEvaluation':
      return skipEvaluation(desk, board, token, step.code, step.reason);
    case 'start':
      return startPlan(desk, board, token, step.sites);
    case 'again':
      return step.extend ? extendDeadline(desk, board, token) : attemptAgain(desk, board, token, step.contributions);
    case 'close': {
      const sum = await desk.vectors.sum(board, board.plan.round, step.contributors);
      return closeRound(desk, board, token, step.contributors, sum);
    }
    case 'closeKeys':
      return closeKeys(desk, board, token, step.advertisers);
    case 'closeShares':
      return closeShares(desk, board, token, step.holders);
    case 'closeInputs':
      return closeInputs(desk, board, token);
    case 'closeAgreement':
      return closeAgreement(desk, board, token);
    case 'unmask': {
      const sum = await desk.sums.of(board)?.unmask();
      // Too few fit together: more reveals may come.
      if (sum === undefined || sum === null) return false;
      return closeRound(desk, board, token, [...(board.current?.survivors ?? [])], sum);
    }
  }
}
