/**
 * The demo's accident: one bank's process is killed in the middle of a round, and started again two rounds later.
 *
 * What it shows: the others finish the round without it, and it takes part again with fresh keys.
 */
import type { Bank, Consortium } from './consortium.ts';
import type { DemoView } from './view.ts';

export interface Outage {
  /** Settles when the bank answers again. */
  over: Promise<void>;
}

/** @param round in which the bank is killed, as soon as its release is committed. */
export function stageOutage(
  consortium: Consortium,
  bank: Bank,
  { planId, round, view }: { planId: string; round: number; view: DemoView },
): Outage {
  const { promise: over, resolve, reject } = Promise.withResolvers<void>();
  // Whoever waits hears of a failure; until then it is no unhandled one.
  over.catch(() => {});
  let state: 'up' | 'down' | 'back' = 'up';
  bank.part.onEvent((event) => {
    if (state !== 'up' || event.event !== 'release' || event.plan !== planId || event.round !== round) return;
    state = 'down';
    bank.part.kill('SIGKILL');
    view.note(`${bank.name} is killed in round ${round} (SIGKILL)`);
  });
  consortium.aggregator.onEvent((event) => {
    if (event.event !== 'round' || event.plan !== planId || state !== 'down') return;
    const number = Number(event.round);
    if (number === round) view.note(`round ${round} ends with ${event.contributions} banks`);
    if (number < round + 2) return;
    state = 'back';
    consortium.restartBank(bank).then(() => {
      view.note(`${bank.name} is back and takes part with new keys`);
      resolve();
    }, reject);
  });
  return { over };
}
