/**
 * Random operations on a whole consortium: steps of a round with requests and replies lost, doubled, delayed and reordered,
 * and restarts of any party. After every operation: what each site answers and what the aggregator takes are as a small
 * model says, and the unmasked sum is the plain sum, or there are too few openings and nothing comes out. At the end one more
 * attempt, undisturbed, must succeed exactly when enough sites are left for it.
 */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SumAggregator } from '../../federated/secagg/aggregator.ts';
import type { Reveal, SumContext } from '../../federated/secagg/sum.ts';
import { SecaggError } from '../../src/errors.ts';
import { type Epoch, epochOf, plainSum, type Site, setUp, siteNames, sumOf, valuesOf } from './epoch.ts';

const SITES = 4;
const THRESHOLD = 3;
const ATTEMPTS = 3;
const names = siteNames(SITES);

type Step = 'input' | 'agreement' | 'reveal';
type Fate = 'well' | 'requestLost' | 'replyLost' | 'twice' | 'requestLate' | 'replyLate';

/** An attempt of the round as the aggregator's database has it; what is here survives its restarts. */
interface Stored {
  readonly sum: SumContext;
  readonly inputs: Map<string, Uint8Array>;
  /** What came with the inputs: that the sum is over all members. */
  readonly early: Map<string, Uint8Array>;
  survivors: string[] | undefined;
  readonly agreements: Map<string, Uint8Array>;
  readonly reveals: Map<string, Reveal>;
}

interface Real {
  readonly epoch: Epoch;
  /** Without those that restarted: their secrets are gone. */
  readonly sites: Map<string, Site>;
  readonly attempts: { stored: Stored; aggregator: SumAggregator }[];
  /** Messages on their way: delivering one does what is left of it. */
  readonly late: (() => void)[];
  /** Everything that ever left a site, whether it arrived or not. */
  readonly left: { site: string; attempt: number; reveal: Reveal }[];
}

/** What must be so. */
interface Model {
  readonly alive: Set<string>;
  readonly attempts: {
    masked: Set<string>;
    agreed: Set<string>;
    inputs: Set<string>;
    survivors: string[] | undefined;
    agreements: Set<string>;
    reveals: Set<string>;
  }[];
  /** Site -> the attempt it opened. */
  readonly opened: Map<string, number>;
}

const reached = { sums: 0, failures: 0, second: 0, revived: 0 };

function open(model: Model, real: Real): void {
  const slot = real.attempts.length;
  const sum = sumOf(real.epoch, { slot, attempt: slot });
  const aggregator = new SumAggregator(real.epoch.context, real.epoch.list, sum);
  const stored = {
    sum,
    inputs: new Map(),
    early: new Map(),
    survivors: undefined,
    agreements: new Map(),
    reveals: new Map(),
  };
  real.attempts.push({ stored, aggregator });
  const sets = { masked: new Set<string>(), agreed: new Set<string>(), inputs: new Set<string>() };
  model.attempts.push({ ...sets, survivors: undefined, agreements: new Set(), reveals: new Set() });
}

/** The result, or undefined when our own code refused. */
function refusable<Result>(step: () => Result): Result | undefined {
  try {
    return step();
  } catch (error) {
    if (error instanceof SecaggError) return undefined;
    throw error;
  }
}

/** A site does a step: its message, or undefined. Checked against the model. */
function answer(step: Step, name: string, attempt: number, told: Told, model: Model, real: Real) {
  const { stored } = real.attempts[attempt];
  const expected = model.attempts[attempt];
  const site = real.sites.get(name);
  const opened = model.opened.get(name);
  const elsewhere = opened !== undefined && opened !== attempt;
  const may =
    model.alive.has(name) &&
    !elsewhere &&
    (step === 'input'
      ? opened === undefined
      : step === 'agreement'
        ? expected.masked.has(name)
        : expected.agreed.has(name) || (expected.masked.has(name) && told.survivors.length === SITES));
  const message = refusable(() => {
    if (site === undefined) return undefined;
    if (step === 'input') {
      const packed = site.mask(stored.sum, valuesOf(name, stored.sum.dimension));
      if (!expected.agreed.has(name)) stored.early.set(name, site.agreeOnAll(stored.sum));
      return packed;
    }
    if (step === 'agreement') return site.agree(stored.sum, told.survivors, THRESHOLD);
    const reveal = site.reveal(stored.sum, told.agreements);
    real.left.push({ site: name, attempt, reveal });
    return reveal;
  });
  expect(message !== undefined).toBe(may);
  if (message === undefined) return undefined;
  if (step === 'input') expected.masked.add(name);
  if (step === 'agreement') expected.agreed.add(name);
  if (step === 'reveal') model.opened.set(name, attempt);
  return message;
}

/** The aggregator takes a message, stores it if it did, and answers the same to the same. */
function take(step: Step, name: string, attempt: number, message: Uint8Array | Reveal, model: Model, real: Real): void {
  const { stored, aggregator } = real.attempts[attempt];
  const expected = model.attempts[attempt];
  const taken = refusable(() => {
    if (message instanceof Uint8Array) {
      if (step === 'input') aggregator.input(name, message);
      else aggregator.agreement(name, message);
    } else aggregator.reveal(name, message);
    return true;
  });
  const late = step === 'input' && expected.survivors !== undefined && !expected.inputs.has(name);
  expect(taken === true).toBe(!late);
  if (late) return;
  if (message instanceof Uint8Array) stored[step === 'input' ? 'inputs' : 'agreements'].set(name, message);
  else stored.reveals.set(name, message);
  expected[step === 'input' ? 'inputs' : step === 'agreement' ? 'agreements' : 'reveals'].add(name);
}

/** What a request says besides which step it asks for; fixed when it is sent. */
interface Told {
  survivors: string[];
  agreements: { site: string; agreement: Uint8Array }[];
}

/** The aggregator asks every member for what its newest attempt waits for; each exchange has its own fate. */
class Ask implements fc.AsyncCommand<Model, Real> {
  readonly fates: Fate[];
  readonly order: number[];
  /** Opens at once when nobody is missing. */
  readonly early: boolean;
  constructor(fates: Fate[], order: number[], early: boolean) {
    this.fates = fates;
    this.order = order;
    this.early = early;
  }
  check = () => true;
  async run(model: Model, real: Real): Promise<void> {
    const attempt = real.attempts.length - 1;
    const { stored, aggregator } = real.attempts[attempt];
    const agreed = stored.survivors === undefined ? [] : aggregator.agreed();
    const whole = this.early && stored.survivors?.length === SITES;
    const enough = whole || agreed.length >= THRESHOLD;
    const step = stored.survivors === undefined ? 'input' : enough ? 'reveal' : 'agreement';
    const early = [...stored.early].map(([site, agreement]) => ({ site, agreement })).slice(0, THRESHOLD);
    const told: Told = {
      survivors: stored.survivors ?? [],
      agreements: whole ? early : agreed.map((site) => ({ site, agreement: stored.agreements.get(site)! })),
    };
    for (const place of this.order) {
      const name = names[place];
      if (step !== 'input' && !told.survivors.includes(name)) continue;
      const fate = this.fates[place];
      const reply = () => answer(step, name, attempt, told, model, real);
      const receive = (message: Uint8Array | Reveal | undefined) => {
        if (message !== undefined) take(step, name, attempt, message, model, real);
      };
      if (fate === 'requestLost') continue;
      if (fate === 'requestLate') real.late.push(() => receive(reply()));
      else if (fate === 'replyLost') reply();
      else if (fate === 'replyLate') {
        const message = reply();
        real.late.push(() => receive(message));
      } else {
        const message = reply();
        receive(message);
        if (fate === 'twice') {
          receive(message);
          receive(reply());
        }
      }
    }
  }
  toString = () => `${this.early ? 'early ' : ''}ask(${this.order.map((place) => `${place}:${this.fates[place]}`)})`;
}

class Deliver implements fc.AsyncCommand<Model, Real> {
  readonly place: number;
  constructor(place: number) {
    this.place = place;
  }
  check = () => true;
  async run(_: Model, real: Real): Promise<void> {
    if (real.late.length > 0) for (const deliver of real.late.splice(this.place % real.late.length, 1)) deliver();
  }
  toString = () => `deliver(${this.place})`;
}

class Close implements fc.AsyncCommand<Model, Real> {
  check = () => true;
  async run(model: Model, real: Real): Promise<void> {
    const { stored, aggregator } = real.attempts[real.attempts.length - 1];
    const expected = model.attempts[model.attempts.length - 1];
    const survivors = refusable(() => aggregator.closeInputs(THRESHOLD));
    expect(survivors).toEqual(
      expected.inputs.size < THRESHOLD ? undefined : names.filter((name) => expected.inputs.has(name)),
    );
    if (survivors === undefined) return;
    stored.survivors = survivors;
    expected.survivors = survivors;
  }
  toString = () => 'close';
}

class RestartSite implements fc.AsyncCommand<Model, Real> {
  readonly place: number;
  constructor(place: number) {
    this.place = place;
  }
  check = () => true;
  async run(model: Model, real: Real): Promise<void> {
    real.sites.delete(names[this.place]);
    model.alive.delete(names[this.place]);
  }
  toString = () => `restart(${names[this.place]})`;
}

class RestartAggregator implements fc.AsyncCommand<Model, Real> {
  check = () => true;
  async run(_: Model, real: Real): Promise<void> {
    for (const attempt of real.attempts) {
      const { sum, inputs, survivors, agreements, reveals } = attempt.stored;
      attempt.aggregator = new SumAggregator(real.epoch.context, real.epoch.list, sum);
      // As a database may give them back: in another order than they came.
      for (const [name, packed] of [...inputs].reverse()) attempt.aggregator.input(name, packed);
      if (survivors === undefined) continue;
      expect(attempt.aggregator.closeInputs(THRESHOLD)).toEqual(survivors);
      for (const [name, reveal] of reveals) attempt.aggregator.reveal(name, reveal);
      for (const [name, agreement] of [...agreements].reverse()) attempt.aggregator.agreement(name, agreement);
    }
  }
  toString = () => 'restart(aggregator)';
}

class TryAgain implements fc.AsyncCommand<Model, Real> {
  check = (model: Readonly<Model>) => model.attempts.length < ATTEMPTS;
  async run(model: Model, real: Real): Promise<void> {
    open(model, real);
  }
  toString = () => 'try again';
}

class Unmask implements fc.AsyncCommand<Model, Real> {
  check = () => true;
  async run(model: Model, real: Real): Promise<void> {
    await checkSums(model, real);
  }
  toString = () => 'unmask';
}

async function checkSums(model: Model, real: Real): Promise<number> {
  let sums = 0;
  for (const [at, { aggregator, stored }] of real.attempts.entries()) {
    const { survivors, reveals } = model.attempts[at];
    expect(aggregator.canUnmask()).toBe(reveals.size >= THRESHOLD);
    if (reveals.size >= THRESHOLD) {
      expect(await aggregator.unmask()).toEqual(plainSum(survivors!, stored.sum.dimension));
      sums++;
      if (at > 0) reached.second++;
    } else {
      const code = survivors === undefined ? 'SECAGG_CONTEXT' : 'SECAGG_THRESHOLD';
      await expect(aggregator.unmask()).rejects.toMatchObject({ code });
    }
  }
  return sums;
}

/** Over everything that ever left a site. */
function checkOpenings(real: Real): void {
  const attemptOf = new Map<string, number>();
  const kinds = new Map<string, string>();
  for (const { site, attempt, reveal } of real.left) {
    expect(attemptOf.get(site) ?? attempt).toBe(attempt);
    attemptOf.set(site, attempt);
    for (const [kind, opened] of Object.entries(reveal) as [string, Reveal['selfShares']][]) {
      for (const { site: owner } of opened) {
        const key = `${attempt} ${owner}`;
        expect(kinds.get(key) ?? kind).toBe(kind);
        kinds.set(key, kind);
      }
    }
  }
  const counts = real.attempts.map((_, attempt) => [...attemptOf.values()].filter((value) => value === attempt).length);
  // Two openable sums of one round would give away their difference.
  expect(counts.filter((count) => count >= THRESHOLD).length).toBeLessThanOrEqual(1);
}

const fate = fc.oneof(
  { weight: 12, arbitrary: fc.constant<Fate>('well') },
  { weight: 5, arbitrary: fc.constantFrom<Fate>('requestLost', 'replyLost', 'twice', 'requestLate', 'replyLate') },
);
const order = fc.shuffledSubarray([0, 1, 2, 3], { minLength: 3 });
const ask = fc
  .tuple(fc.array(fate, { minLength: SITES, maxLength: SITES }), order, fc.boolean())
  .map(([fates, at, early]) => new Ask(fates, at, early));
const operations = fc.commands(
  [
    ...Array.from({ length: 8 }, () => ask),
    fc.nat(7).map((place) => new Deliver(place)),
    fc.constant(new Close()),
    fc.constant(new Close()),
    fc.constant(new Unmask()),
    fc.constant(new RestartAggregator()),
    fc.nat(SITES - 1).map((place) => new RestartSite(place)),
    fc.constant(new TryAgain()),
  ],
  { maxCommands: 24, size: 'max' },
);

describe('any sequence of operations', () => {
  test('ends in the plain sum, or in nothing at all', async () => {
    await fc.assert(
      fc.asyncProperty(operations, async (commands) => {
        const epoch = await setUp(epochOf(SITES, { threshold: THRESHOLD, slots: ATTEMPTS + 1 }));
        const real: Real = { epoch, sites: new Map(epoch.sites), attempts: [], late: [], left: [] };
        const model: Model = { alive: new Set(names), attempts: [], opened: new Map() };
        open(model, real);
        await fc.asyncModelRun(() => ({ model, real }), commands);
        const sums = await checkSums(model, real);
        reached[sums > 0 ? 'sums' : 'failures']++;
        const left = names.filter((name) => model.alive.has(name) && !model.opened.has(name));
        open(model, real);
        const undisturbed = new Ask(new Array(SITES).fill('well'), [0, 1, 2, 3], false);
        for (const step of [undisturbed, new Close(), undisturbed, undisturbed]) await step.run(model, real);
        expect(real.attempts[real.attempts.length - 1].aggregator.canUnmask()).toBe(left.length >= THRESHOLD);
        if ((await checkSums(model, real)) > sums) reached.revived++;
        checkOpenings(real);
      }),
      { numRuns: 200, seed: 20170917 },
    );
    // The operations are the same at every run (seed): they reach all of these.
    expect(Math.min(...Object.values(reached))).toBeGreaterThan(20);
  });
});
