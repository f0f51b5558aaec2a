/**
 * A plan as this process sees it, in memory: what the database holds of it, kept up by what this process commits and by
 * notices of other processes. Everything that answers a site or decides a step reads this and not the database.
 *
 * Limit: it may be older than the database, never newer. So a message that does not fit is checked again after a
 * refresh, and a step decided on an old view is refused by the fence (store/database.ts).
 */

import type { Course } from './course.ts';
import { courseOf } from './course.ts';
import type { MessageKindStored } from './store/messages.ts';
import type { AnswerRow, EpochRow, KeptMessage, PlanRow, PlanSnapshot, RoundRow } from './store/plans.ts';

const NOTHING: ReadonlyMap<string, KeptMessage> = new Map();

export class Board {
  readonly plan: PlanRow;
  readonly course: Course;
  readonly answers = new Map<string, AnswerRow>();
  readonly rounds = new Map<number, RoundRow>();
  /** The newest two, oldest first. */
  epochs: EpochRow[] = [];
  readonly #steps = new Map<string, Map<string, KeptMessage>>();

  constructor(snapshot: PlanSnapshot) {
    this.plan = { ...snapshot.plan };
    this.course = courseOf(snapshot.plan);
    this.merge(snapshot);
  }

  /** Takes what the database has more of. @returns whether anything was new. */
  merge({ plan, answers, rounds, epochs, messages }: PlanSnapshot): boolean {
    let news = false;
    for (const answer of answers) {
      const before = this.answers.get(answer.site);
      if (before?.acknowledged === answer.acknowledged || before?.acknowledged) continue;
      this.answers.set(answer.site, { ...answer });
      news = true;
    }
    // Messages are never taken back, so those of two views belong together.
    for (const message of messages) news = this.add(message) || news;
    if (plan.revision > this.plan.revision || this.rounds.size === 0) {
      news ||= plan.revision > this.plan.revision;
      Object.assign(this.plan, plan);
      for (const round of rounds) this.rounds.set(round.number, { ...round });
      this.epochs = epochs.map((epoch) => ({ ...epoch }));
      this.prune();
    }
    return news;
  }

  /** @returns whether it was new. */
  add(message: KeptMessage): boolean {
    const key = stepKey(message.kind, message.round, message.attempt);
    const step = this.#steps.get(key) ?? new Map<string, KeptMessage>();
    if (step.has(message.site)) return false;
    this.#steps.set(key, step.set(message.site, message));
    return true;
  }

  /** Messages of one step by site. */
  step(kind: MessageKindStored, round: number, attempt = 0): ReadonlyMap<string, KeptMessage> {
    return this.#steps.get(stepKey(kind, round, attempt)) ?? NOTHING;
  }

  /** The open round, or the last one. */
  get current(): RoundRow | undefined {
    return this.rounds.get(this.plan.round);
  }

  get epoch(): EpochRow | undefined {
    return this.epochs.at(-1);
  }

  accepted(site: string): boolean {
    return this.answers.get(site)?.accepted === true;
  }

  /** Sites that accepted the plan, by name. */
  acceptedSites(): string[] {
    return [...this.answers.values()].filter((answer) => answer.accepted).map((answer) => answer.site);
  }

  masked(round: number): boolean {
    return this.course.ringBits(round) > 0;
  }

  /** Whether a site declined the round: in any of its attempts. */
  declined(round: number, site: string): boolean {
    const last = this.rounds.get(round)?.attempt ?? 0;
    for (let attempt = 0; attempt <= last; attempt++) {
      if (this.step('update', round, attempt).get(site)?.refused) return true;
    }
    return false;
  }

  /**
   * Whether a site can take part in a round: it accepted, declined neither this round nor the counts, and gave those
   * where the round needs them.
   */
  eligible(round: number, site: string): boolean {
    if (!this.accepted(site) || this.declined(round, site) || this.declined(0, site)) return false;
    if (!this.course.needsCounts(round)) return true;
    if (this.masked(0)) return this.rounds.get(0)?.contributors.includes(site) === true;
    return this.step('update', 0).get(site)?.refused === false;
  }

  /** Forgets the messages of steps that are over. */
  prune(): void {
    const { ended, round } = this.plan;
    for (const key of this.#steps.keys()) {
      const [kind, text] = key.split('/');
      const number = Number(text);
      const setUp = kind === 'keys' || kind === 'shares';
      const kept = setUp
        ? number === (this.epoch?.number ?? 0)
        : number === round || (kind === 'update' && number === 0);
      if (ended || !kept) this.#steps.delete(key);
    }
    for (const number of this.rounds.keys()) if (number !== 0 && number < round - 1) this.rounds.delete(number);
  }
}

function stepKey(kind: MessageKindStored, round: number, attempt: number): string {
  return `${kind}/${round}/${attempt}`;
}
