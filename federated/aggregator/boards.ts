/** The boards of all unfinished plans, and how they are kept up with the database. */

import type { Log } from '../../src/log.ts';
import { Board } from './board.ts';
import { checkPlanId, type Database, planUnknown } from './store/database.ts';
import { loadPlan, loadUnfinished, type PlanSnapshot } from './store/plans.ts';

export class Boards {
  readonly #database: Database;
  readonly #log: Log;
  readonly #boards = new Map<string, Board>();
  readonly #reading = new Map<string, Promise<unknown>>();
  readonly #next = new Map<string, Promise<boolean>>();
  /** Called when a board has news, wherever they came from. */
  #changed: (planId: string) => void = () => {};

  constructor(database: Database, log: Log) {
    this.#database = database;
    this.#log = log;
  }

  onChange(changed: (planId: string) => void): void {
    this.#changed = changed;
  }

  /** Oldest plan first. */
  all(): Iterable<Board> {
    return this.#boards.values();
  }

  get(planId: string): Board | undefined {
    return this.#boards.get(planId);
  }

  /** The board of any plan, also of an ended one. Throws PLAN_UNKNOWN. */
  async find(planId: string): Promise<Board> {
    checkPlanId(planId);
    const board = this.#boards.get(planId);
    if (board !== undefined) return board;
    const snapshot = await loadPlan(this.#database.pool, planId);
    if (snapshot === null) throw planUnknown();
    return this.#take(snapshot);
  }

  /** To be called after this process changed a board's plan in the database and the board with it. */
  changed(planId: string): void {
    const board = this.#boards.get(planId);
    if (board !== undefined && isFinished(board)) this.#boards.delete(planId);
    this.#changed(planId);
  }

  /** Reads a plan again, once for all who ask before the reading begins. @returns whether there was anything new. */
  refresh(planId: string): Promise<boolean> {
    const next = this.#next.get(planId);
    if (next !== undefined) return next;
    // A reading that has begun may miss what the caller knows of.
    const mine = (this.#reading.get(planId) ?? Promise.resolve()).then(
      () => this.#read(planId),
      () => this.#read(planId),
    );
    this.#next.set(planId, mine);
    return mine;
  }

  async #read(planId: string): Promise<boolean> {
    const reading = loadPlan(this.#database.pool, planId);
    this.#reading.set(planId, reading);
    this.#next.delete(planId);
    try {
      const snapshot = await reading;
      return snapshot !== null && this.#merge(snapshot);
    } finally {
      if (this.#reading.get(planId) === reading) this.#reading.delete(planId);
    }
  }

  async refreshAll(): Promise<void> {
    const unfinished = await loadUnfinished(this.#database.pool);
    for (const snapshot of unfinished) this.#merge(snapshot);
    const listed = new Set(unfinished.map(({ plan }) => plan.id));
    for (const planId of [...this.#boards.keys()]) if (!listed.has(planId)) await this.refresh(planId);
  }

  #take(snapshot: PlanSnapshot): Board {
    const existing = this.#boards.get(snapshot.plan.id);
    if (existing !== undefined) {
      existing.merge(snapshot);
      return existing;
    }
    const board = new Board(snapshot);
    if (!isFinished(board)) this.#boards.set(snapshot.plan.id, board);
    return board;
  }

  #merge(snapshot: PlanSnapshot): boolean {
    const planId = snapshot.plan.id;
    try {
      const known = this.#boards.get(planId);
      const news = known === undefined || known.merge(snapshot);
      if (known === undefined) this.#take(snapshot);
      if (news) this.changed(planId);
      return news;
    } catch (error) {
      // A plan this version cannot read must not stop the others.
      this.#log.error({ plan: planId, err: error }, 'cannot read a stored plan');
      return false;
    }
  }
}

/** Nobody has anything left to do or to be told. */
function isFinished({ plan, answers }: Board): boolean {
  return plan.ended && [...answers.values()].every((answer) => !answer.accepted || answer.acknowledged);
}
