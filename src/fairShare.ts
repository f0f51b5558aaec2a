/**
 * Who may take how much of something that callers share: bytes of memory, places in a queue.
 *
 * Source: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
 * Transactions on Networking 6(2), 1998, section III, with alpha = 1: a caller may hold at most as much as stays free
 * for the others, so one alone gets half, two together two thirds, and a later one still finds room.
 * A caller that holds nothing may take whatever fits, because its first request would otherwise have to wait for others.
 *
 * Limit: callers are told apart by name. Whoever has many names has many shares.
 */

/** Why there is no room: the caller holds its share already, or all callers together hold too much. */
export type Shortage = 'caller' | 'everyone';

export interface Shares {
  /** Why `amount` more cannot be held by `owner` now; null when it can. */
  shortage(owner: string, amount: number): Shortage | null;
  /** Counts `amount` for `owner`, unasked; the function returned takes it off again, once. */
  hold(owner: string, amount: number): () => void;
}

/** @param limit most that all may hold together, in any unit */
export function openShares(limit: number): Shares {
  const held = new Map<string, number>();
  let total = 0;

  function change(owner: string, amount: number): void {
    total += amount;
    const own = (held.get(owner) ?? 0) + amount;
    if (own > 0) held.set(owner, own);
    else held.delete(owner);
  }

  return {
    shortage(owner, amount) {
      const own = held.get(owner) ?? 0;
      const freeAfter = limit - total - amount;
      if (freeAfter < 0) return 'everyone';
      return own > 0 && own + amount > freeAfter ? 'caller' : null;
    },
    hold(owner, amount) {
      change(owner, amount);
      let counted = amount;
      return () => {
        change(owner, -counted);
        counted = 0;
      };
    },
  };
}
