/**
 * The sums under masks that are being made: one state machine of `secagg` for the open attempt of each plan this process
 * drives, fed with stored messages as they come, or from their rows after a restart or a change of driver.
 */

import { fromBinary } from '@bufbuild/protobuf';
import { SecaggError } from '../../src/errors.ts';
import type { Log } from '../../src/log.ts';
import { envelopeFrom } from '../protocol/envelope.ts';
import { AgreementSchema, UnmaskingSchema } from '../protocol/generated/veilrisk_pb.js';
import { SumAggregator } from '../secagg/aggregator.ts';
import type { Board } from './board.ts';
import type { Desk } from './desk.ts';
import { advertisements, contextOf } from './epochs.ts';
import type { EpochRow, KeptMessage, RoundRow } from './store/plans.ts';

/** Of no use to the aggregator, which makes no agreement itself. */
const NO_HEAD = new Uint8Array(32);

export class MaskedSum {
  readonly name: string;
  readonly #aggregator: SumAggregator;
  /** Messages taken, or found to be of no use, by phase and site. */
  readonly #taken = new Set<string>();
  readonly #log: Log;
  #closed = false;
  /** Reveals from which the secrets did not come out. */
  #tried = 0;

  constructor(name: string, aggregator: SumAggregator, log: Log) {
    this.name = name;
    this.#aggregator = aggregator;
    this.#log = log;
  }

  /** Survivors that agree on the same. */
  get agreed(): number {
    return this.#closed ? this.#aggregator.agreed().length : 0;
  }

  /** Reveals that may be enough to unmask; 0 when so many were not. */
  get usable(): number {
    const revealed = this.#closed ? this.#aggregator.revealed().length : 0;
    return revealed > this.#tried ? revealed : 0;
  }

  /** Whether a member's input is in the sum so far. */
  holds(site: string): boolean {
    return this.#aggregator.inputs().includes(site);
  }

  isNew(phase: string, site: string): boolean {
    return !this.#taken.has(`${phase}/${site}`);
  }

  input(site: string, packed: Uint8Array): void {
    this.#take('inputs', site, () => this.#aggregator.input(site, packed));
  }

  /** @returns the survivors, roster order. @throws SecaggError SECAGG_THRESHOLD. */
  closeInputs(quorum: number): string[] {
    const survivors = this.#aggregator.closeInputs(quorum);
    this.#closed = true;
    return survivors;
  }

  agreement(message: KeptMessage): void {
    const { agreement } = fromBinary(AgreementSchema, bodyOf(message));
    this.#take('agreement', message.site, () => this.#aggregator.agreement(message.site, agreement));
  }

  reveal(message: KeptMessage): void {
    const { selfShares, keyShares } = fromBinary(UnmaskingSchema, bodyOf(message));
    this.#take('reveal', message.site, () => this.#aggregator.reveal(message.site, { selfShares, keyShares }));
  }

  /** @returns null when the opened shares do not fit together; more of them may. */
  async unmask(): Promise<Float64Array | null> {
    const revealed = this.#aggregator.revealed().length;
    try {
      return await this.#aggregator.unmask();
    } catch (error) {
      if (!(error instanceof SecaggError)) throw error;
      this.#log.warn({ sum: this.name, code: error.code, revealed }, error.message);
      this.#tried = revealed;
      return null;
    }
  }

  /** A message that was checked and does not fit all the same counts as none. */
  #take(phase: string, site: string, take: () => void): void {
    this.#taken.add(`${phase}/${site}`);
    try {
      take();
    } catch (error) {
      if (!(error instanceof SecaggError)) throw error;
      this.#log.warn({ sum: this.name, phase, site, code: error.code }, error.message);
    }
  }
}

export class MaskedSums {
  readonly #open = new Map<string, MaskedSum>();

  /** The sum of the open attempt as far as `follow` has brought it. */
  of(board: Board): MaskedSum | undefined {
    const sum = this.#open.get(board.plan.id);
    return sum?.name === nameOf(board) ? sum : undefined;
  }

  forget(planId: string): void {
    this.#open.delete(planId);
  }

  /** Takes in what the board knows of the open attempt. */
  async follow(desk: Desk, board: Board): Promise<void> {
    const { current: round, epoch } = board;
    if (!round?.open || round.phase === 'setup' || epoch === undefined || !board.masked(round.number)) return;
    let sum = this.of(board);
    if (sum === undefined) {
      const aggregator = openSum(desk, board, round, epoch);
      sum = new MaskedSum(nameOf(board), aggregator, desk.log);
      this.#open.set(board.plan.id, sum);
    }
    await takeInputs(desk, board, round, sum);
    if (round.phase === 'inputs') return;
    sum.closeInputs(board.course.plan.quorum);
    const { number, attempt } = round;
    for (const message of board.step('agreement', number, attempt).values()) {
      if (sum.isNew('agreement', message.site)) sum.agreement(message);
    }
    for (const message of board.step('reveal', number, attempt).values()) {
      if (sum.isNew('reveal', message.site)) sum.reveal(message);
    }
  }
}

/** While inputs are open, all that came; afterwards those that were written down as survivors. */
async function takeInputs(desk: Desk, board: Board, round: RoundRow, sum: MaskedSum): Promise<void> {
  const { number, attempt, members, survivors, phase } = round;
  const updates = board.step('update', number, attempt);
  const came = phase === 'inputs' ? members.filter((site) => updates.get(site)?.refused === false) : survivors;
  const news = came.filter((site) => sum.isNew('inputs', site));
  if (news.length === 0) return;
  for (const [site, packed] of await desk.vectors.inputs(board, number, attempt, news)) sum.input(site, packed);
}

function openSum(desk: Desk, board: Board, round: RoundRow, epoch: EpochRow): SumAggregator {
  const { number, attempt, slot, members, stateHash } = round;
  return new SumAggregator(contextOf(desk, board, epoch), advertisements(board, epoch), {
    ...{ round: number, attempt, slot, members },
    stateHash: new Uint8Array(Buffer.from(stateHash, 'hex')),
    dimension: board.course.dimension(number),
    bits: board.course.ringBits(number),
    logHead: NO_HEAD,
  });
}

function nameOf(board: Board): string {
  return `${board.plan.id}/${board.plan.round}/${board.current?.attempt ?? 0}`;
}

function bodyOf(message: KeptMessage): Uint8Array {
  // Safe: kept messages of these kinds have their envelopes.
  return envelopeFrom(message.envelope as Uint8Array).body;
}
