/**
 * The tasks of one connection: those of one queue in their order, queues beside each other.
 *
 * The first failure is told once and ends the connection; what waits is then left out and comes again with the next one.
 */
export class Work {
  /** Aborted when the connection ends. */
  readonly ended: AbortSignal;
  readonly #fail: (error: unknown) => void;
  readonly #queues = new Map<string, Promise<void>>();
  #added = 0;
  #done = 0;

  constructor(ended: AbortSignal, fail: (error: unknown) => void) {
    this.ended = ended;
    this.#fail = fail;
  }

  /** Tasks that were done without failing. */
  get done(): number {
    return this.#done;
  }

  add(queue: string, task: () => Promise<void>): void {
    this.#added++;
    const before = this.#queues.get(queue) ?? Promise.resolve();
    const run = before.then(async () => {
      if (this.ended.aborted) return;
      await task();
      this.#done++;
    });
    this.#queues.set(queue, run.catch(this.#fail));
  }

  /** Resolves when nothing runs or waits any more, whatever it came to. */
  async finished(): Promise<void> {
    let seen = -1;
    while (seen !== this.#added) {
      seen = this.#added;
      await Promise.all(this.#queues.values());
    }
  }
}
