/**
 * What goes wrong at a party, and when: a site goes away for a while with its memory or is started anew without it, before
 * it has done the step it was asked for ("request lost") or after ("reply lost"); the aggregator is started anew.
 */
import type { SimulatorRandom } from '../../simulator/random.ts';
import { PHASES, type Phase } from './messages.ts';

export interface Fault {
  /** `away` keeps the process's memory, `restart` loses it. */
  readonly kind: 'away' | 'restart';
  /** Step of the round at which it happens, or the first one after it that this round has. */
  readonly phase: Phase;
  readonly beforeReply: boolean;
  /** Virtual milliseconds until the party is back. */
  readonly forMs: number;
}

/** What happens to a site in a round, or, for `aggregator`, to the aggregator; null: nothing. */
export type Schedule = (party: string, round: number) => Fault | null;

export const AGGREGATOR = 'aggregator';

export interface FaultRates {
  /** Chance that a site drops out of a round. */
  readonly drop: number;
  /** Chance that a party is started anew in a round. */
  readonly restart: number;
}

/** @param deadlineMs of a step: drop-outs last from a fraction of it to several. */
export function randomSchedule(rates: FaultRates, deadlineMs: number, random: SimulatorRandom): Schedule {
  return (party) => {
    const isDrop = party !== AGGREGATOR && random.chance(rates.drop);
    const isRestart = random.chance(rates.restart);
    const phase = PHASES[random.below(PHASES.length)];
    const beforeReply = random.chance(0.5);
    const share = random.uniform();
    if (isDrop) return { kind: 'away', phase, beforeReply, forMs: deadlineMs * (0.25 + 3 * share) };
    if (isRestart) return { kind: 'restart', phase, beforeReply, forMs: deadlineMs * 0.25 * share };
    return null;
  };
}

/** Whether a fault planned for one step has its time at another one. */
export function isDue(fault: Fault, phase: Phase): boolean {
  return phase === 'plain' || PHASES.indexOf(phase) >= PHASES.indexOf(fault.phase);
}
