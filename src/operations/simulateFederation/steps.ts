/**
 * The step that is open: whom it asks, who has answered, and its deadline in virtual time.
 *
 * A task without an answer is sent again until then, as a new connection would have it sent.
 */
import type { Phase, TaskInit } from './messages.ts';
import type { VirtualClock } from './virtualClock.ts';

const SENDS_PER_DEADLINE = 6;

export interface Step {
  readonly phase: Phase;
  readonly expected: Set<string>;
  readonly answered: Set<string>;
  readonly task: (site: string) => TaskInit[];
  /** How often its deadline has passed below what it needs. */
  repeated: number;
}

export class Steps {
  readonly #clock: VirtualClock;
  readonly #deadlineMs: number;
  readonly #send: (site: string, phase: Phase, tasks: TaskInit[]) => void;
  readonly #onDeadline: () => Promise<void>;
  #open: Step | null = null;
  /** Goes up whenever timers of before have lost their meaning. */
  #era = 0;

  constructor(options: {
    clock: VirtualClock;
    deadlineMs: number;
    send: (site: string, phase: Phase, tasks: TaskInit[]) => void;
    onDeadline: () => Promise<void>;
  }) {
    this.#clock = options.clock;
    this.#deadlineMs = options.deadlineMs;
    this.#send = options.send;
    this.#onDeadline = options.onDeadline;
  }

  get open(): Step | null {
    return this.#open;
  }

  enter(phase: Phase, sites: readonly string[], task: (site: string) => TaskInit[]): void {
    this.#open = { phase, expected: new Set(sites), answered: new Set(), task, repeated: 0 };
    this.again();
  }

  leave(): void {
    this.#open = null;
    this.#era++;
  }

  /** Asks everybody who has not answered, and lets the deadline run in full. */
  again(): void {
    this.#ask();
    const era = ++this.#era;
    for (let k = 1; k < SENDS_PER_DEADLINE; k++) {
      this.#clock.after((this.#deadlineMs * k) / SENDS_PER_DEADLINE, () => {
        if (era === this.#era) this.#ask();
      });
    }
    this.#clock.after(this.#deadlineMs, () => (era === this.#era ? this.#onDeadline() : undefined));
  }

  /** Asks a site that has just connected. */
  ask(site: string): void {
    const step = this.#open;
    if (step?.expected.has(site) && !step.answered.has(site)) this.#send(site, step.phase, step.task(site));
  }

  #ask(): void {
    for (const site of this.#open?.expected ?? []) this.ask(site);
  }
}
