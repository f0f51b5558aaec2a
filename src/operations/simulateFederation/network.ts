/**
 * The network between banks and aggregator: late, lossy, repeating and, where asked for, out of order; and how many bytes
 * went through it.
 *
 * A connection delivers in order (TCP does); `reorder` is what reconnections make of it. Lost bytes count: they were sent.
 */
import type { SimulatorRandom } from '../../simulator/random.ts';
import { type Message, PHASES, type Phase } from './messages.ts';
import type { VirtualClock } from './virtualClock.ts';

export interface Weather {
  /** Mean one-way delay in virtual milliseconds, exponentially distributed about half of it. */
  readonly delayMs: number;
  /** Share of the messages that are lost, are delivered twice, or are overtaken. */
  readonly loss: number;
  readonly duplicate: number;
  readonly reorder: number;
}

export interface Traffic {
  /** Bytes from sites to the aggregator, and back, of all sites together. */
  up: number;
  down: number;
}
export type TrafficByPhase = Record<Phase, Traffic>;

function noTraffic(): TrafficByPhase {
  // Safe: an entry for every phase is made here.
  return Object.fromEntries(PHASES.map((phase) => [phase, { up: 0, down: 0 }])) as TrafficByPhase;
}

export class Network {
  readonly #clock: VirtualClock;
  readonly #random: SimulatorRandom;
  readonly #weather: Weather;
  /** When the last message of a link arrives. */
  readonly #last = new Map<string, number>();
  #traffic = noTraffic();

  constructor(clock: VirtualClock, random: SimulatorRandom, weather: Weather) {
    this.#clock = clock;
    this.#random = random;
    this.#weather = weather;
  }

  /** Bytes since it was asked last. */
  takeTraffic(): TrafficByPhase {
    const traffic = this.#traffic;
    this.#traffic = noTraffic();
    return traffic;
  }

  /** `site` is one end of the link, the aggregator the other. */
  send(direction: keyof Traffic, site: string, message: Message, deliver: () => void | Promise<void>): void {
    this.#traffic[message.phase][direction] += message.bytes.length;
    const { loss, duplicate } = this.#weather;
    // The word that a connection is there comes with the connection.
    if (message.kind !== 'listen' && this.#random.chance(loss)) return;
    this.#clock.after(this.#delay(`${direction} ${site}`, message), deliver);
    if (this.#random.chance(duplicate)) {
      this.#traffic[message.phase][direction] += message.bytes.length;
      this.#clock.after(this.#delay(`${direction} ${site}`, message), deliver);
    }
  }

  #delay(link: string, { kind }: Message): number {
    const { delayMs, reorder } = this.#weather;
    const { now } = this.#clock;
    const delay = delayMs / 2 + this.#random.exponential(delayMs / 2);
    if (this.#random.chance(reorder) && kind !== 'listen') return delay + this.#random.exponential(4 * delayMs);
    const arrival = Math.max(now + delay, this.#last.get(link) ?? 0);
    this.#last.set(link, arrival);
    return arrival - now;
  }
}
