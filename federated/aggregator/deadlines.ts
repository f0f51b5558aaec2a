/**
 * Deadlines as durations on a monotonic clock, counted from when this process first saw the thing that has one.
 *
 * Limit: a restarted aggregator grants the full duration again. No wall clock is compared with another.
 */
export class Deadlines {
  readonly #now: () => number;
  readonly #seen = new Map<string, number>();

  /** `now` gives milliseconds that never go back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Milliseconds left of `durationMs`, at least 0; the first call for a key starts its clock. */
  remaining(key: string, durationMs: number): number {
    const now = this.#now();
    const start = this.#seen.get(key) ?? now;
    this.#seen.set(key, start);
    return Math.max(0, start + durationMs - now);
  }

  /** Milliseconds since the key was first seen here. */
  elapsed(key: string): number {
    return this.#now() - (this.#seen.get(key) ?? this.#now());
  }

  /** Forgets every key of a plan that ended. */
  forget(planId: string): void {
    for (const key of this.#seen.keys()) if (key.startsWith(`${planId}/`)) this.#seen.delete(key);
  }
}
