/**
 * A whole federation in one process and in virtual time: banks, a network and an aggregator that run the real secure
 * aggregation and the real course of a plan, with faults from a seed or from a schedule.
 *
 * For experiments and property tests. Limit: randomness is seeded, so nothing in it is private; there are no signatures,
 * no TLS and no database (messages.ts, coordinator.ts).
 */
import { sha256 } from '../../../federated/protocol/canonical.ts';
import type { EpochContext } from '../../../federated/secagg/epoch.ts';
import { VeilriskError } from '../../errors.ts';
import { seededRandom } from '../../simulator/random.ts';
import { Bank } from './bank.ts';
import type { ClosedRound } from './coordination.ts';
import { Coordinator } from './coordinator.ts';
import { AGGREGATOR, type Fault, isDue, type Schedule } from './faults.ts';
import { type Message, open, type Phase, pack, type TaskInit } from './messages.ts';
import { Network, type TrafficByPhase, type Weather } from './network.ts';
import { Observer } from './observer.ts';
import { VirtualClock } from './virtualClock.ts';
import type { Workload } from './workload.ts';

export interface RoundOutcome extends ClosedRound {
  /** Sites of the consortium that are not in the sum. */
  readonly dropped: string[];
  /** From the end of the round before to the end of this one. */
  readonly virtualMs: number;
  /** Bytes of all sites together. */
  readonly bytes: TrafficByPhase;
}

export interface FederationOutcome {
  readonly state: 'completed' | 'aborted';
  /** Stable code when aborted, else empty. */
  readonly code: string;
  readonly rounds: RoundOutcome[];
  readonly virtualMs: number;
  readonly events: number;
  /** Steps that a party refused, by error code; what a restart or a late message makes of honest messages. */
  readonly refusals: Record<string, number>;
  /** Breaches of what secure aggregation promises; empty in a sound run. */
  readonly breaches: string[];
}

export interface FederationSettings {
  readonly work: Workload;
  readonly weather: Weather;
  readonly faults: Schedule;
  /** Masked sums an epoch can make. */
  readonly slots: number;
  readonly seed: number;
  readonly onRound?: (outcome: RoundOutcome) => void;
}

/** A crashed party is back at the latest after so many deadlines. */
const LONGEST_ABSENCE = 10;

export async function runFederation(settings: FederationSettings): Promise<FederationOutcome> {
  return new Federation(settings).run();
}

class Federation {
  readonly #settings: FederationSettings;
  readonly #clock = new VirtualClock();
  readonly #observer = new Observer();
  readonly #network: Network;
  readonly #names: string[];
  readonly #banks: Map<string, Bank>;
  readonly #coordinator: Coordinator;
  readonly #rounds: RoundOutcome[] = [];
  readonly #refusals: Record<string, number> = {};
  /** Parties that cannot be reached. */
  readonly #away = new Set<string>();
  #due = new Map<string, Fault>();
  #roundBegan = 0;
  #code: string | null = null;

  constructor(settings: FederationSettings) {
    this.#settings = settings;
    const { work, seed, weather, slots } = settings;
    const { sites, planHash, threshold, quorum: minimum } = work.terms;
    const width = String(sites).length;
    this.#names = Array.from({ length: sites }, (_, at) => `bank-${String(at + 1).padStart(width, '0')}`);
    this.#network = new Network(this.#clock, seededRandom(seed, 'network'), weather);
    const roster = this.#names;
    const rosterHash = sha256(new TextEncoder().encode(roster.join()));
    const epochContext = (epoch: number): EpochContext => {
      return { rosterHash, planHash, epoch, threshold, minimum, slots, roster };
    };
    const shared = { work, epochContext, observer: this.#observer };
    this.#banks = new Map(roster.map((name, index) => [name, new Bank({ ...shared, index, name, seed })]));
    this.#coordinator = new Coordinator({
      ...{ ...shared, sites: roster, clock: this.#clock, slots },
      send: (site, phase, task) => this.#task(site, phase, task),
      onRound: (closed) => this.#closed(closed),
      onEnd: (code) => {
        this.#code = code;
      },
    });
  }

  async run(): Promise<FederationOutcome> {
    this.#planFaults(this.#settings.work.firstRound);
    for (const [name, bank] of this.#banks) this.#up(name, this.#listen(bank));
    this.#coordinator.start();
    const events = await this.#clock.run(() => this.#code !== null);
    for (const bank of this.#banks.values()) bank.restart();
    const code = this.#code ?? 'QUORUM_LOST';
    return {
      ...{ state: code === '' ? 'completed' : 'aborted', code, rounds: this.#rounds, events },
      ...{ virtualMs: this.#clock.now, refusals: this.#refusals, breaches: this.#observer.breaches },
    };
  }

  #planFaults(round: number): void {
    const { faults } = this.#settings;
    this.#due = new Map();
    for (const party of [...this.#names, AGGREGATOR]) {
      const fault = faults(party, round);
      if (fault !== null) this.#due.set(party, fault);
    }
  }

  #closed(closed: ClosedRound): void {
    const dropped = this.#names.filter((name) => !closed.contributors.includes(name));
    const virtualMs = this.#clock.now - this.#roundBegan;
    this.#roundBegan = this.#clock.now;
    const outcome = { ...closed, dropped, virtualMs, bytes: this.#network.takeTraffic() };
    this.#rounds.push(outcome);
    this.#settings.onRound?.(outcome);
    this.#planFaults(closed.round + 1);
  }

  #task(site: string, phase: Phase, task: TaskInit): void {
    const message = pack('task', phase, AGGREGATOR, { task });
    this.#network.send('down', site, message, () => this.#perform(site, message));
  }

  async #perform(site: string, message: Message): Promise<void> {
    if (this.#away.has(site)) return;
    // Safe: messages go to the banks there are.
    const bank = this.#banks.get(site)!;
    const fault = this.#faultAt(site, message.phase);
    if (fault?.beforeReply) return this.#leave(site, fault);
    const reply = await this.#guarded(() => bank.perform(open('task', message).body));
    if (fault !== null) return this.#leave(site, fault);
    if (reply !== null && reply !== undefined) this.#up(site, reply);
  }

  #up(site: string, message: Message): void {
    this.#network.send('up', site, message, async () => {
      if (this.#away.has(AGGREGATOR)) return;
      const fault = this.#faultAt(AGGREGATOR, message.phase);
      if (fault?.beforeReply) return this.#leave(AGGREGATOR, fault);
      await this.#guarded(() => this.#coordinator.receive(message));
      if (fault !== null) this.#leave(AGGREGATOR, fault);
    });
  }

  /** The fault planned for a party, once its time has come. */
  #faultAt(party: string, phase: Phase): Fault | null {
    const fault = this.#due.get(party);
    if (fault === undefined || !isDue(fault, phase)) return null;
    this.#due.delete(party);
    return fault;
  }

  #leave(party: string, { kind, forMs }: Fault): void {
    const longest = LONGEST_ABSENCE * this.#settings.work.terms.deadlineMs;
    this.#away.add(party);
    const bank = this.#banks.get(party);
    if (kind === 'restart') bank?.restart();
    this.#clock.after(Math.min(forMs, longest), () => {
      this.#away.delete(party);
      if (bank !== undefined) return this.#up(party, this.#listen(bank));
      this.#coordinator.restart();
      // Every site connects anew, and says who it is.
      for (const [name, each] of this.#banks) if (!this.#away.has(name)) this.#up(name, this.#listen(each));
    });
  }

  #listen(bank: Bank): Message {
    return pack('listen', 'plain', bank.name, { incarnation: bank.incarnation });
  }

  /** What a party refuses is counted and changes nothing; anything else is a defect and ends the run. */
  async #guarded<T>(work: () => Promise<T> | T): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof VeilriskError)) throw error;
      this.#refusals[error.code] = (this.#refusals[error.code] ?? 0) + 1;
      return null;
    }
  }
}
