/** A whole epoch and its sums in one process, for tests: every message goes through, unless a test says otherwise. */

import { SumAggregator } from '../../federated/secagg/aggregator.ts';
import { type Advertisement, type EpochContext, keyListHash, type SealedShare } from '../../federated/secagg/epoch.ts';
import { EpochParticipant } from '../../federated/secagg/participant.ts';
import type { SumContext } from '../../federated/secagg/sum.ts';
import { thresholdOf } from '../../src/learning/plan.ts';
import type { RandomSource } from '../../src/random.ts';
import { systemRandom } from '../../src/random.ts';

export function siteNames(count: number): string[] {
  return Array.from({ length: count }, (_, at) => `bank-${String(at + 1).padStart(3, '0')}`);
}

export function epochOf(sites: number, changes: Partial<EpochContext> = {}): EpochContext {
  const threshold = changes.threshold ?? thresholdOf(sites, 'lying');
  return {
    rosterHash: new Uint8Array(32).fill(0xab),
    planHash: 'cd'.repeat(32),
    epoch: 1,
    threshold,
    minimum: Math.min(3, threshold),
    slots: 2,
    roster: siteNames(sites),
    ...changes,
  };
}

/** What a site does in an epoch, honest or careless. */
export type Site = Pick<EpochParticipant, 'advertise' | 'seal' | 'accept' | 'mask' | 'agree' | 'agreeOnAll' | 'reveal'>;

export interface Epoch {
  context: EpochContext;
  list: Advertisement[];
  listHash: Uint8Array;
  /** Site -> its state machine; a test may replace one. */
  sites: Map<string, Site>;
}

/** @param silent sites that advertise keys and are lost before they seal shares. */
export async function setUp(
  context: EpochContext,
  random: RandomSource = systemRandom(),
  silent: readonly string[] = [],
  make: (name: string) => Site = (name) => new EpochParticipant(context, name, random),
): Promise<Epoch> {
  const sites = new Map(context.roster.map((name) => [name, make(name)]));
  const list = [...sites.values()].map((site) => site.advertise());
  for (const site of silent) sites.delete(site);
  await deliver(sites, list);
  return { context, list, listHash: keyListHash(list, context), sites };
}

/** Seals at every site and hands every share to its receiver. */
export async function deliver(sites: ReadonlyMap<string, Site>, list: readonly Advertisement[]) {
  const boxes = new Map<string, SealedShare[]>([...sites.keys()].map((site) => [site, []]));
  for (const [from, site] of sites) {
    for (const { site: to, sealed } of (await site.seal(list)).shares) boxes.get(to)?.push({ site: from, sealed });
  }
  for (const [to, site] of sites) site.accept(boxes.get(to) ?? []);
}

export function sumOf(epoch: Epoch, changes: Partial<SumContext> = {}): SumContext {
  return {
    round: 1,
    attempt: 0,
    slot: 0,
    stateHash: new Uint8Array(32).fill(7),
    members: [...epoch.sites.keys()],
    dimension: 5,
    bits: 32,
    logHead: new Uint8Array(32),
    ...changes,
  };
}

export function site(epoch: Epoch, name: string): Site {
  const found = epoch.sites.get(name);
  if (found === undefined) throw new TypeError(`no site ${name}`);
  return found;
}

/** Values of a site that differ from every other site's, small enough for any ring of the tests. */
export function valuesOf(name: string, dimension: number): Float64Array {
  const start = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0) * 7, 0);
  return Float64Array.from({ length: dimension }, (_, at) => ((start * 31 + at * 17) % 401) - 200);
}

export function plainSum(names: readonly string[], dimension: number): Float64Array {
  const total = new Float64Array(dimension);
  for (const name of names) {
    const values = valuesOf(name, dimension);
    for (let at = 0; at < dimension; at++) total[at] += values[at];
  }
  return total;
}

export interface Losses {
  /** Members whose input never comes. */
  inputs?: readonly string[];
  /** Survivors lost after the inputs: they neither agree nor open anything. */
  later?: readonly string[];
}

/** Runs one sum honestly. @returns the aggregator, ready to unmask unless too many were lost. */
export function runSum(epoch: Epoch, sum: SumContext, lost: Losses = {}): SumAggregator {
  const aggregator = new SumAggregator(epoch.context, epoch.list, sum);
  for (const name of sum.members) {
    if (!lost.inputs?.includes(name))
      aggregator.input(name, site(epoch, name).mask(sum, valuesOf(name, sum.dimension)));
  }
  const survivors = aggregator.closeInputs(epoch.context.minimum);
  const present = survivors.filter((name) => !lost.later?.includes(name));
  for (const name of present) {
    aggregator.agreement(name, site(epoch, name).agree(sum, survivors, epoch.context.minimum));
  }
  const own = present.map((name) => ({ name, agreement: site(epoch, name).agree(sum, survivors, 1) }));
  const agreements = own.filter(({ name }) => aggregator.agreed().includes(name));
  for (const name of present) {
    aggregator.reveal(
      name,
      site(epoch, name).reveal(
        sum,
        agreements.map(({ name, agreement }) => ({ site: name, agreement })),
      ),
    );
  }
  return aggregator;
}
