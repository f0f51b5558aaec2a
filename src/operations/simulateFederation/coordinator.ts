/**
 * The aggregator in the simulation: which step is open, whom it waits for, and what happens at a deadline.
 *
 * The policy is that of PROTOCOL.md: a round closes when all who are expected have answered, or at its deadline with the
 * quorum; masked sums below a threshold are attempted again with another slot, at most three times, and so is a step
 * below quorum. Every wait has a deadline and every repetition a bound, so a run always ends.
 * Limit: one plan, one process at a time, no database; the engine of `federated/aggregator` has those.
 */
import { decodeHistogram } from '../../../federated/protocol/histogram.ts';
import { stateHash } from '../../../federated/protocol/weights.ts';
import { VeilriskError } from '../../errors.ts';
import { sumOf } from '../../learning/train.ts';
import type { CoordinatorOptions } from './coordination.ts';
import { Attempt, type EpochRecord, newEpoch } from './desk.ts';
import { type Message, open, type Phase, type TaskInit } from './messages.ts';
import { type Step, Steps } from './steps.ts';
import { agreementTask, epochTask, keysTask, revealTask, roundTask, sharesTask } from './tasks.ts';

/** How often a step below quorum is opened again, and a masked sum is attempted again. */
const MAX_REPETITIONS = 3;

export class Coordinator {
  readonly #options: CoordinatorOptions;
  #round: number;
  #attempt = 0;
  #epochs = 0;
  #epoch: EpochRecord | null = null;
  #sum: Attempt | null = null;
  readonly #steps: Steps;
  #ended = false;
  /** Noised counts of round 0 of each site, and the histograms of the open plain round. */
  readonly #counts = new Map<string, Float64Array>();
  #plain = new Map<string, Float64Array>();
  /** Sites that missed the last deadline they were waited for at, and have not been heard of since. */
  readonly #absent = new Set<string>();
  /** Sites that have opened shares of, or declined, the open round. */
  #out = new Set<string>();
  readonly #incarnations = new Map<string, string>();
  #numbered = 0;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    this.#round = options.work.firstRound;
    for (const site of options.sites) this.#incarnations.set(site, '0');
    this.#steps = new Steps({
      ...{ clock: options.clock, deadlineMs: options.work.terms.deadlineMs },
      send: (site, phase, tasks) => this.#send(site, phase, tasks),
      onDeadline: () => this.#close(true),
    });
  }

  start(): void {
    this.#openRound(this.#options.work.firstRound);
  }

  /** The process is started anew: memory is gone, deadlines run in full again. */
  restart(): void {
    this.#sum?.forget();
    if (this.#steps.open !== null) this.#steps.again();
  }

  /** @throws VeilriskError where a message is not one the protocol allows. */
  async receive(message: Message): Promise<void> {
    if (this.#ended) return;
    switch (message.kind) {
      case 'listen':
        return this.#connected(open('listen', message));
      case 'update':
        return this.#update(open('update', message));
      case 'keys':
        return this.#keys(message);
      case 'shares':
        return this.#shares(open('shares', message));
      case 'agreement':
        return this.#agreement(message);
      case 'reveal':
        return this.#reveal(open('reveal', message));
      case 'task':
        return;
    }
  }

  #openRound(round: number): void {
    this.#round = round;
    this.#attempt = 0;
    this.#epochs = 0;
    this.#out = new Set();
    this.#plain = new Map();
    if (this.#options.work.ringBits(round) === 0) this.#openPlain();
    else this.#openAttempt();
  }

  #openPlain(): void {
    const round = this.#round;
    this.#steps.enter('plain', this.#options.sites, (site) => {
      const needsCounts = this.#lacksCounts(site);
      return needsCounts && round !== 0 ? [this.#plainTask(0), this.#plainTask(round)] : [this.#plainTask(round)];
    });
  }

  #plainTask(round: number): TaskInit {
    return roundTask(this.#options.work, round, 0);
  }

  #lacksCounts(site: string): boolean {
    const { work } = this.#options;
    return work.needsCounts(this.#round) && work.ringBits(0) === 0 && !this.#counts.has(site);
  }

  #openAttempt(): void {
    const { slots, sites } = this.#options;
    this.#sum = null;
    for (const site of sites) if (this.#lacksCounts(site)) this.#send(site, 'plain', [this.#plainTask(0)]);
    const epoch = this.#epoch;
    const isWhole = epoch !== null && sites.every((site) => this.#absent.has(site) || this.#isLive(epoch, site));
    if (epoch !== null && isWhole && epoch.nextSlot < slots) this.#openInputs(epoch);
    else this.#openEpoch();
  }

  /** Whether the site's process still holds its secrets of the epoch. */
  #isLive(epoch: EpochRecord, site: string): boolean {
    return epoch.holders.includes(site) && epoch.keys.get(site)?.incarnation === this.#incarnations.get(site);
  }

  #openEpoch(): void {
    const { sites, slots, work } = this.#options;
    const epoch = newEpoch(this.#numbered++);
    this.#epoch = epoch;
    this.#epochs++;
    this.#steps.enter('keys', sites, () => [keysTask(work, epoch, slots)]);
  }

  #openInputs(epoch: EpochRecord): void {
    const { epochContext, work } = this.#options;
    const { quorum, threshold } = work.terms;
    const members = epoch.holders.filter(
      (site) => this.#isLive(epoch, site) && !this.#out.has(site) && !this.#lacksCounts(site),
    );
    if (members.length < Math.max(quorum, threshold)) {
      this.#again();
      return;
    }
    const round = this.#round;
    const bits = work.ringBits(round);
    const slot = epoch.nextSlot++;
    const sum = {
      ...{ round, attempt: this.#attempt, slot, members, bits, dimension: work.dimension(round) },
      stateHash: stateHash(work.weights(round)),
      logHead: new Uint8Array(32),
    };
    this.#sum = new Attempt(epochContext(epoch.number), quorum, epoch, sum);
    const task = roundTask(work, round, sum.attempt, { epoch: epoch.number, slot, members, bits });
    this.#steps.enter('inputs', members, (site) =>
      epoch.seated.has(site) ? [task] : [epochTask(work, epoch, site), task],
    );
  }

  #send(site: string, phase: Phase, tasks: TaskInit[]): void {
    for (const task of tasks) this.#options.send(site, phase, task);
  }

  #connected({ signer: site, body }: { signer: string; body: { incarnation: string } }): Promise<void> | void {
    this.#absent.delete(site);
    const isAnew = this.#incarnations.get(site) !== body.incarnation;
    this.#incarnations.set(site, body.incarnation);
    const step = this.#steps.open;
    if (step === null) return;
    // Its secrets are gone; who holds shares of them can still open what has to be opened.
    if (isAnew && step.phase !== 'plain' && step.phase !== 'keys') step.expected.delete(site);
    if (isAnew && step.phase === 'keys') this.#epoch?.keys.delete(site);
    if (isAnew && step.phase === 'keys') step.answered.delete(site);
    if (this.#lacksCounts(site) && step.phase !== 'plain') this.#send(site, 'plain', [this.#plainTask(0)]);
    this.#steps.ask(site);
    return this.#closeIfComplete();
  }

  #answered(site: string, phase: Phase): Promise<void> | void {
    this.#absent.delete(site);
    const step = this.#steps.open;
    if (step === null || step.phase !== phase || !step.expected.has(site)) return;
    step.answered.add(site);
    return this.#closeIfComplete();
  }

  #closeIfComplete(): Promise<void> | void {
    const step = this.#steps.open;
    // Below what is needed, who is away may come back until the deadline.
    if (step === null || !this.#isEnough(step)) return;
    // The shares of a few are enough, and nobody gains by more.
    if (step.phase === 'reveal') return this.#close(false);
    for (const site of step.expected) if (!step.answered.has(site) && !this.#absent.has(site)) return;
    return this.#close(false);
  }

  #update({ signer: site, body }: ReturnType<typeof open<'update'>>): Promise<void> | void {
    const { round, attempt, outcome } = body;
    const { work } = this.#options;
    if (outcome.case === 'refusal') {
      if (round === this.#round) this.#out.add(site);
      this.#steps.open?.expected.delete(site);
      return this.#closeIfComplete();
    }
    if (outcome.case === 'masked') {
      if (round !== this.#round || attempt !== this.#attempt || this.#steps.open?.phase !== 'inputs') return;
      this.#sum?.input(site, outcome.value.values);
      this.#epoch?.seated.add(site);
      return this.#answered(site, 'inputs');
    }
    if (outcome.case !== 'histogram') return;
    const values = decodeHistogram(outcome.value.values, work.dimension(round));
    if (round === 0) this.#counts.set(site, values);
    if (this.#steps.open?.phase !== 'plain') return;
    if (round === this.#round) this.#plain.set(site, values);
    // Counts may come late, and after the histogram that needs them.
    return this.#plain.has(site) && !this.#lacksCounts(site) ? this.#answered(site, 'plain') : undefined;
  }

  #keys(message: Message): Promise<void> | void {
    const { signer: site, body } = open('keys', message);
    const { epoch: number, channelKey, maskKeys, incarnation } = body;
    const epoch = this.#epoch;
    if (epoch === null || epoch.number !== number || this.#steps.open?.phase !== 'keys') return;
    // From a process that is no more: what it made is gone.
    if (incarnation !== this.#incarnations.get(site)) return;
    epoch.keys.set(site, { advertisement: { site, channelKey, maskKeys }, message, incarnation });
    return this.#answered(site, 'keys');
  }

  #shares({ signer: site, body }: ReturnType<typeof open<'shares'>>): Promise<void> | void {
    const epoch = this.#epoch;
    if (epoch === null || epoch.number !== body.epoch || this.#steps.open?.phase !== 'shares') return;
    epoch.shares.set(site, new Map(body.shares.map(({ site: to, sealed }) => [to, sealed])));
    return this.#answered(site, 'shares');
  }

  #agreement(message: Message): Promise<void> | void {
    const { signer: site, body } = open('agreement', message);
    if (!this.#isOpen(body) || this.#steps.open?.phase !== 'agreement') return;
    this.#sum?.agreement(site, body.agreement, message);
    return this.#answered(site, 'agreement');
  }

  #reveal({ signer: site, body }: ReturnType<typeof open<'reveal'>>): Promise<void> | void {
    if (body.round === this.#round) this.#out.add(site);
    if (!this.#isOpen(body) || this.#steps.open?.phase !== 'reveal') return;
    const { selfShares, keyShares } = body;
    this.#sum?.reveal(site, { selfShares, keyShares });
    return this.#answered(site, 'reveal');
  }

  #isOpen({ round, attempt }: { round: number; attempt: number }): boolean {
    return round === this.#round && attempt === this.#attempt;
  }

  /** The step has all it waits for, or its time is over. */
  async #close(deadlineOver: boolean): Promise<void> {
    const step = this.#steps.open;
    if (step === null) return;
    if (deadlineOver) for (const site of step.expected) if (!step.answered.has(site)) this.#absent.add(site);
    const isEnough = this.#isEnough(step);
    switch (step.phase) {
      case 'plain':
        return isEnough ? this.#closePlain(step) : this.#repeat(step);
      case 'keys':
        return isEnough ? this.#closeKeys(step) : this.#repeat(step);
      case 'shares':
        return isEnough ? this.#closeShares(step) : this.#again();
      case 'inputs':
        return isEnough ? this.#closeInputs() : this.#again();
      case 'agreement':
        return isEnough ? this.#closeAgreement(step) : this.#again();
      case 'reveal':
        return isEnough ? this.#closeReveal() : this.#repeat(step);
    }
  }

  #isEnough({ phase, answered }: Step): boolean {
    const { quorum, threshold } = this.#options.work.terms;
    if (phase === 'plain') return answered.size >= quorum;
    if (phase === 'agreement') return answered.size >= threshold;
    if (phase === 'reveal') return this.#sum?.canUnmask() ?? false;
    return answered.size >= Math.max(quorum, threshold);
  }

  /** Opens a step again with everything received kept. */
  #repeat(step: Step): void {
    if (step.repeated++ >= MAX_REPETITIONS) {
      // Shares of this attempt are out, so its members can take part in no other: this ends the plan below quorum.
      if (step.phase === 'reveal') this.#again();
      else this.#end('QUORUM_LOST');
      return;
    }
    this.#steps.again();
  }

  /** Nothing of this attempt was opened: another one, with masks of its own. */
  #again(): void {
    if (this.#attempt++ < MAX_REPETITIONS) this.#openAttempt();
    else this.#end('QUORUM_LOST');
  }

  #closeKeys(step: Step): void {
    const { sites, work } = this.#options;
    // Safe: `openEpoch` made the epoch whose keys these are, and the list holds sites that have sent them.
    const epoch = this.#epoch!;
    epoch.list = sites.filter((site) => step.answered.has(site));
    const task = sharesTask(work, epoch);
    this.#steps.enter('shares', epoch.list, () => [task]);
  }

  #closeShares(step: Step): void {
    // Safe: as in `closeKeys`.
    const epoch = this.#epoch!;
    epoch.holders = epoch.list.filter((site) => step.answered.has(site));
    this.#openInputs(epoch);
  }

  #closeInputs(): void {
    // Safe: this step is entered with a sum only.
    const survivors = this.#sum!.closeInputs();
    const task = agreementTask(this.#options.work, this.#round, this.#attempt, survivors);
    this.#steps.enter('agreement', survivors, () => [task]);
  }

  #closeAgreement(step: Step): void {
    // Safe: as in `closeInputs`.
    const agreements = [...this.#sum!.agreements.values()].map(({ message }) => message);
    const task = revealTask(this.#options.work, this.#round, this.#attempt, agreements);
    this.#steps.enter('reveal', [...step.answered], () => [task]);
  }

  async #closeReveal(): Promise<void> {
    // Safe: as in `closeInputs`.
    const sum = this.#sum!;
    this.#steps.leave();
    const { observer, work } = this.#options;
    const total = await sum.unmask();
    const exact = observer.summed(this.#round, sum.survivors, work.terms.quorum, total);
    if (this.#round === 0) this.#closeCounts(total, sum.survivors);
    this.#closeRound(total, sum.survivors, true, exact);
  }

  /** Counts that came as one sum over all sites; each round of the plan is over all of them then. */
  #closeCounts(total: Float64Array, sites: readonly string[]): void {
    for (const [at, site] of sites.entries()) this.#counts.set(site, at === 0 ? total : new Float64Array(total.length));
  }

  #closePlain(step: Step): void {
    const { sites, observer, work } = this.#options;
    const contributors = sites.filter((site) => step.answered.has(site));
    // Safe: who has answered has a histogram.
    const total = sumOf(contributors.map((site) => this.#plain.get(site)!));
    const exact = observer.summed(this.#round, contributors, work.terms.quorum, total);
    this.#closeRound(total, contributors, false, exact);
  }

  #closeRound(total: Float64Array, contributors: string[], masked: boolean, exact: boolean): void {
    this.#steps.leave();
    const { work, onRound } = this.#options;
    const round = this.#round;
    try {
      // Safe: only sites with counts take part in a round that needs them.
      const counts = work.needsCounts(round) ? sumOf(contributors.map((site) => this.#counts.get(site)!)) : null;
      work.absorb(round, total, counts, contributors.length);
    } catch (error) {
      if (!(error instanceof VeilriskError)) throw error;
      this.#end(error.code);
      return;
    }
    const attempts = this.#attempt + 1;
    onRound({ round, masked, contributors: [...contributors], attempts, epochs: this.#epochs, exact });
    if (round === work.lastRound) this.#end('');
    else this.#openRound(round + 1);
  }

  #end(code: string): void {
    this.#steps.leave();
    this.#ended = true;
    this.#options.onEnd(code);
  }
}
