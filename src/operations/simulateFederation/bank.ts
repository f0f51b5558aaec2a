/**
 * A bank in the simulation: does what it is asked, keeps on disk what a node keeps there, and forgets the rest when its
 * process starts anew.
 *
 * On disk: the noised values of each round, which are drawn once, and for which attempt of a round it opened its shares.
 * In memory: the secrets of its epochs.
 */
import { sha256Hex } from '../../../federated/protocol/canonical.ts';
import { encodeHistogram } from '../../../federated/protocol/histogram.ts';
import { decodeWeights, stateHash } from '../../../federated/protocol/weights.ts';
import type { EpochContext } from '../../../federated/secagg/epoch.ts';
import { EpochParticipant } from '../../../federated/secagg/participant.ts';
import type { SumContext } from '../../../federated/secagg/sum.ts';
import type { CourseWeights } from '../../learning/course.ts';
import { seededRandom } from '../../simulator/random.ts';
import { type Body, type Message, openEnvelope, pack } from './messages.ts';
import type { Observer } from './observer.ts';
import type { Workload } from './workload.ts';

type TaskOf<C> = Extract<Body<'task'>['task'], { case: C }>['value'];

interface Epoch {
  readonly participant: EpochParticipant;
  readonly keys: Message;
  shares?: Message;
}

/** Zeros: the simulation has no transparency log. */
const NO_LOG = new Uint8Array(32);

export class Bank {
  readonly name: string;
  readonly #index: number;
  readonly #work: Workload;
  readonly #epochContext: (epoch: number) => EpochContext;
  readonly #observer: Observer;
  readonly #seed: number;

  // On disk.
  readonly #released = new Map<number, Float64Array>();
  readonly #opened = new Map<number, { attempt: number; agreement: string }>();

  // In memory.
  #incarnation = 0;
  #epochs = new Map<number, Epoch>();
  #sums = new Map<string, { epoch: number; sum: SumContext }>();

  constructor(options: {
    index: number;
    name: string;
    work: Workload;
    epochContext: (epoch: number) => EpochContext;
    observer: Observer;
    seed: number;
  }) {
    this.name = options.name;
    this.#index = options.index;
    this.#work = options.work;
    this.#epochContext = options.epochContext;
    this.#observer = options.observer;
    this.#seed = options.seed;
  }

  get incarnation(): string {
    return String(this.#incarnation);
  }

  restart(): void {
    for (const { participant } of this.#epochs.values()) participant.close();
    this.#epochs = new Map();
    this.#sums = new Map();
    this.#incarnation++;
  }

  /** @returns the reply; null where there is nothing to say. @throws SecaggError where a step would break the protocol. */
  async perform({ task }: Body<'task'>): Promise<Message | null> {
    switch (task.case) {
      case 'keys':
        return this.#epoch(task.value.epoch, true)?.keys ?? null;
      case 'shares':
        return this.#seal(task.value);
      case 'epoch':
        this.#epoch(task.value.epoch)?.participant.accept(task.value.shares);
        return null;
      case 'round':
        return this.#update(task.value);
      case 'agreement':
        return this.#agree(task.value);
      case 'reveal':
        return this.#reveal(task.value);
      default:
        return null;
    }
  }

  #epoch(number: number, make = false): Epoch | undefined {
    const known = this.#epochs.get(number);
    if (known !== undefined || !make) return known;
    const random = seededRandom(this.#seed, `site ${this.#index} process ${this.#incarnation} epoch ${number}`);
    const participant = new EpochParticipant(this.#epochContext(number), this.name, random);
    const { channelKey, maskKeys } = participant.advertise();
    const { planHash } = this.#work.terms;
    const keys = pack('keys', 'keys', this.name, {
      ...{ planId: 'simulated', planHash, epoch: number, channelKey, maskKeys },
      incarnation: this.incarnation,
    });
    const epoch = { participant, keys };
    this.#epochs.set(number, epoch);
    return epoch;
  }

  async #seal({ epoch: number, keys }: TaskOf<'shares'>): Promise<Message | null> {
    const epoch = this.#epoch(number);
    if (epoch === undefined) return null;
    if (epoch.shares !== undefined) return epoch.shares;
    const list = keys.map((envelope) => {
      const { signer: site, body } = openEnvelope('keys', envelope);
      return { site, channelKey: body.channelKey, maskKeys: body.maskKeys };
    });
    const { listHash, shares } = await epoch.participant.seal(list);
    const { planHash } = this.#work.terms;
    epoch.shares = pack('shares', 'shares', this.name, {
      ...{ planId: 'simulated', planHash, epoch: number, listHash },
      shares: shares.map(({ site, sealed }) => ({ site, sealed })),
    });
    return epoch.shares;
  }

  #update(task: TaskOf<'round'>): Message | null {
    const { round, attempt, sum: masked } = task;
    const flat = decodeWeights(task.weights);
    const hash = stateHash({ intercept: task.intercept, flat });
    const values = this.#values(round, { intercept: task.intercept, flat });
    const { planHash } = this.#work.terms;
    const base = { planId: 'simulated', planHash, round, attempt, stateHash: hash };
    const releaseId = `simulated/${round}`;
    if (masked === undefined) {
      const value = { dimension: values.length, values: encodeHistogram(values), releaseId };
      return pack('update', 'plain', this.name, { ...base, outcome: { case: 'histogram', value } });
    }
    const before = this.#opened.get(round);
    if (before?.attempt === attempt) return null;
    if (before !== undefined) {
      const value = { code: 'RELEASE_REPLAYED', reason: 'Shares of another attempt were opened.' };
      return pack('update', 'inputs', this.name, { ...base, outcome: { case: 'refusal', value } });
    }
    const { epoch: number, slot, members, bits } = masked;
    const epoch = this.#epoch(number);
    if (epoch === undefined) return null;
    const dimension = values.length;
    const sum = { round, attempt, slot, stateHash: hash, members, dimension, bits, logHead: NO_LOG };
    const packed = epoch.participant.mask(sum, values);
    this.#observer.masked(this.name, `${this.#incarnation}/${number}/${slot}`, sum, packed);
    this.#sums.set(`${round}/${attempt}`, { epoch: number, sum });
    const value = { dimension, bits, values: packed, epoch: number, slot, releaseId };
    return pack('update', 'inputs', this.name, { ...base, outcome: { case: 'masked', value } });
  }

  /** Drawn once for a round, and the same ever after. */
  #values(round: number, weights: CourseWeights): Float64Array {
    let values = this.#released.get(round);
    if (values === undefined) {
      values = this.#work.release(this.#index, round, weights);
      this.#released.set(round, values);
      this.#observer.released(this.name, round, values);
    }
    return values;
  }

  #agree(task: TaskOf<'agreement'>): Message | null {
    const { round, attempt, survivors } = task;
    const known = this.#sums.get(`${round}/${attempt}`);
    const epoch = known === undefined ? undefined : this.#epoch(known.epoch);
    if (known === undefined || epoch === undefined) return null;
    const { planHash, quorum } = this.#work.terms;
    const agreement = epoch.participant.agree(known.sum, survivors, quorum);
    return pack('agreement', 'agreement', this.name, { planId: 'simulated', planHash, round, attempt, agreement });
  }

  #reveal(task: TaskOf<'reveal'>): Message | null {
    const { round, attempt } = task;
    const known = this.#sums.get(`${round}/${attempt}`);
    const epoch = known === undefined ? undefined : this.#epoch(known.epoch);
    if (known === undefined || epoch === undefined) return null;
    const agreements = task.agreements.map((envelope) => {
      const { signer: site, body } = openEnvelope('agreement', envelope);
      return { site, agreement: body.agreement };
    });
    const agreed = sha256Hex(agreements[0]?.agreement ?? NO_LOG);
    const before = this.#opened.get(round);
    if (before !== undefined && (before.attempt !== attempt || before.agreement !== agreed)) return null;
    // Before the shares leave: a crash in between costs an attempt, the other order could cost a bank's secrecy.
    this.#opened.set(round, { attempt, agreement: agreed });
    const { selfShares, keyShares } = epoch.participant.reveal(known.sum, agreements);
    this.#observer.revealed(this.name, round, attempt, selfShares, keyShares);
    const { planHash } = this.#work.terms;
    return pack('reveal', 'reveal', this.name, {
      ...{ planId: 'simulated', planHash, round, attempt },
      ...{ selfShares, keyShares },
    });
  }
}
