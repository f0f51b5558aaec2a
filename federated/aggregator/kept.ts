/** What rounds need again and again, kept in memory: a few of the newest. */

import type { Weights } from '../protocol/weights.ts';

const WEIGHTS_KEPT = 16;

/** The weights of recent rounds by state hash, so that each site's task does not read them from the database again. */
export class RecentWeights {
  readonly #kept = new Map<string, Weights>();

  get(stateHash: string): Weights | undefined {
    return this.#kept.get(stateHash);
  }

  put(stateHash: string, weights: Weights): void {
    this.#kept.set(stateHash, weights);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= WEIGHTS_KEPT) break;
      this.#kept.delete(oldest);
    }
  }
}

/** The state each plan's open round began with. */
export class RecentStates {
  readonly #kept = new Map<string, { round: number; state: string }>();

  get(planId: string, round: number): string | undefined {
    const kept = this.#kept.get(planId);
    return kept?.round === round ? kept.state : undefined;
  }

  put(planId: string, round: number, state: string): void {
    this.#kept.set(planId, { round, state });
  }

  forget(planId: string): void {
    this.#kept.delete(planId);
  }
}
