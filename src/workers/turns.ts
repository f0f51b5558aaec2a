/**
 * Whose job a thread does next: callers take turns, each with one job, so that the wait of one grows with the number of
 * callers and not with the number of another's jobs (round robin; Nagle, RFC 970, section "Fairness").
 *
 * A caller whose last job hung or killed its thread is served by one thread at a time until a job of it succeeds.
 * Limit: with one thread, the others still wait for such a job until its time is over.
 */

export interface Turns {
  /**
   * Starts `work` when it is this caller's turn and answers what it answers.
   * @param owner name of the caller
   * @param waiting leaves the queue with its reason; once started, work goes on to its end
   * @param work rejects only when it cost its thread
   */
  run<T>(owner: string, waiting: AbortSignal, work: () => Promise<T>): Promise<T>;
}

/** @param slots jobs that run side by side, at least 1 */
export function openTurns(slots: number): Turns {
  // In the order of the next turns; a caller without a waiting job is not in it.
  const queues = new Map<string, Set<() => void>>();
  const running = new Map<string, number>();
  const suspects = new Set<string>();
  let free = slots;

  function startNext(): void {
    // A caller put back at the end is met again by the same loop.
    for (const [owner, queue] of queues) {
      if (free === 0) return;
      if (suspects.has(owner) && running.has(owner)) continue;
      queues.delete(owner);
      const [start] = queue;
      queue.delete(start);
      if (queue.size > 0) queues.set(owner, queue);
      start();
    }
  }

  function turn(owner: string, waiting: AbortSignal): Promise<void> {
    return new Promise((started, left) => {
      const start = () => {
        waiting.removeEventListener('abort', leave);
        free--;
        running.set(owner, (running.get(owner) ?? 0) + 1);
        started();
      };
      const leave = () => {
        const queue = queues.get(owner);
        queue?.delete(start);
        if (queue?.size === 0) queues.delete(owner);
        left(waiting.reason);
      };
      if (waiting.aborted) return left(waiting.reason);
      waiting.addEventListener('abort', leave, { once: true });
      queues.set(owner, (queues.get(owner) ?? new Set()).add(start));
      startNext();
    });
  }

  function end(owner: string): void {
    free++;
    const others = (running.get(owner) ?? 1) - 1;
    if (others > 0) running.set(owner, others);
    else running.delete(owner);
    startNext();
  }

  return {
    async run(owner, waiting, work) {
      await turn(owner, waiting);
      try {
        const result = await work();
        suspects.delete(owner);
        return result;
      } catch (error) {
        suspects.add(owner);
        throw error;
      } finally {
        end(owner);
      }
    },
  };
}
