/**
 * The privacy ledger of a node, for people and reports: budget, what was spent of it and on what, what is left, and what
 * was refused. The JSON of `veilrisk privacy ledger` is an array of `Ledger`; members are added, never renamed.
 *
 * Losses are mu squared and add; epsilons follow from them at the budget's delta, rounded against the bank (spent up,
 * left down), and do not add. Limit: refused plans are listed under the data set they would have used.
 */
import type { Json } from '../audit/entry.ts';
import { type FederatedPlan, mechanismIn, releaseIn } from '../learning/federatedPlan.ts';
import type { PlanStatement } from '../learning/statement.ts';
import { epsilonOf } from '../privacy/budget.ts';
import { muFor, sumUp } from '../privacy/gdp.ts';
import { rationalText } from '../privacy/rational.ts';
import type { ReleaseRow } from '../store/ledger.ts';
import type { PlanRow } from '../store/plans.ts';
import type { NodeContext } from './context.ts';

export interface LedgerLine {
  planId: string;
  /** `counts`, `round-N` or `evaluation`. */
  release: string;
  /** 0 is the count round. */
  round: number;
  attempt: number;
  /** reserved, committed and lost all count as spent; refused spent nothing. */
  state: 'reserved' | 'committed' | 'lost' | 'refused';
  /** Charged: against the aggregator (and tolerated colluders). */
  muSquared: number;
  /** Against readers of the model; null where the release states none. */
  readersMuSquared: number | null;
  /** Noise this bank adds, `numerator/denominator` in units of the released integers; null where none is stated. */
  sigma: string | null;
  /** L2 sensitivity to one customer in the same units, squared; null where none is stated. */
  sensitivitySquared: number | null;
  /** Most records of a customer that count, m; null where none is stated. */
  maxRecordsPerSubject: number | null;
  /** Trust mode; null where none is stated. */
  mode: string | null;
  /** RFC 3339. */
  reservedAt: string;
  /** When it was committed or lost, else null. */
  settledAt: string | null;
}

export interface PlanLine {
  planId: string;
  /** State of the plan at this node; null when the plan itself is not known. */
  state: string | null;
  /** Trust mode, `site` or `sum`; null where no release states one. */
  mode: string | null;
  /** Attempts by state. */
  committed: number;
  reserved: number;
  lost: number;
  refused: number;
  /** Names of the refused releases, with how often. */
  refusedReleases: Record<string, number>;
  /** Of all attempts that count. */
  muSquared: number;
  epsilon: number;
  /** Null unless every release that counts states it. */
  readersMuSquared: number | null;
  readersEpsilon: number | null;
  /** Noise by kind of release, as in LedgerLine. */
  sigma: Record<string, string>;
  firstAt: string;
  lastAt: string;
}

export interface RefusedPlan {
  planId: string;
  /** Error code. */
  code: string;
  reason: string;
  at: string;
}

export interface Ledger {
  dataset: string;
  contractHash: string;
  budget: { epsilon: number; delta: number; muSquared: number };
  /** Of the budget, as mu squared; spent is the sum of the other three. */
  spentMuSquared: number;
  committedMuSquared: number;
  reservedMuSquared: number;
  lostMuSquared: number;
  /** Upper bound on the loss so far at the budget's delta. */
  spentEpsilon: number;
  leftMuSquared: number;
  /** Epsilon at the budget's delta of one further plan that still fits: the whole budget, or rounded down to 10^-6. */
  leftEpsilon: number;
  /** Refused releases; they cost nothing. */
  refusals: number;
  /** Plans this node did not take part in. */
  refusedPlans: RefusedPlan[];
  /** In the order of their first release. */
  plans: PlanLine[];
  /** In the order they were recorded. */
  releases: LedgerLine[];
}

/** One ledger a data set, oldest first. */
export async function readLedger({ store }: Pick<NodeContext, 'store'>): Promise<Ledger[]> {
  const ledgers: Ledger[] = [];
  const plans = await store.plans.list();
  for (const { id, name, contractHash } of await store.datasets.list()) {
    const totals = await store.ledger.totals(id);
    if (totals === null) continue;
    const { budget, spent, committed, reserved, lost, refusals } = totals;
    const releases = (await store.ledger.releases(id)).map(lineOf);
    const leftMuSquared = Math.max(0, budget.muSquared - spent);
    ledgers.push({
      ...{ dataset: name, contractHash, budget },
      ...{ spentMuSquared: spent, committedMuSquared: committed, reservedMuSquared: reserved, lostMuSquared: lost },
      spentEpsilon: epsilonOf(spent, budget.delta),
      leftMuSquared,
      leftEpsilon: budgetLeft(budget, spent),
      refusals,
      refusedPlans: plans.filter(({ datasetId, state }) => datasetId === id && state === 'refused').map(refusedPlan),
      plans: byPlan(releases, plans, budget.delta),
      releases,
    });
  }
  return ledgers;
}

const MICRO = 1e6;

/** What one further plan at the budget's delta can have after `spent` (mu squared): all of it, or as `epsilonLeft`. */
export function budgetLeft({ epsilon, delta, muSquared }: Ledger['budget'], spent: number): number {
  return spent === 0 ? epsilon : epsilonLeft(Math.max(0, muSquared - spent), delta);
}

/** The largest epsilon, in steps of 10^-6, that a plan at `delta` can have within `muSquared`. */
export function epsilonLeft(muSquared: number, delta: number): number {
  if (muSquared === 0) return 0;
  let steps = Math.floor(epsilonOf(muSquared, delta) * MICRO);
  // The conversion rounds up, so the step below may be the last one that fits.
  while (steps > 0 && muFor(steps / MICRO, delta) ** 2 > muSquared * (1 - 1e-9)) steps--;
  return steps / MICRO;
}

function lineOf({
  planId,
  round,
  attempt,
  state,
  muSquared,
  statement,
  reservedAt,
  settledAt,
}: ReleaseRow): LedgerLine {
  // Safe: the column is a JSON object that `releaseFacts` wrote; a member of another type counts as not stated.
  const facts = (statement ?? {}) as Record<string, unknown>;
  const text = (value: unknown) => (typeof value === 'string' ? value : null);
  const number = (value: unknown) => (typeof value === 'number' ? value : null);
  return {
    planId,
    release: text(facts.release) ?? (round === 0 ? 'counts' : `round-${round}`),
    ...{ round, attempt, state, muSquared },
    readersMuSquared: number(facts.readersMuSquared),
    sigma: text(facts.sigma),
    sensitivitySquared: number(facts.sensitivitySquared),
    maxRecordsPerSubject: number(facts.maxRecordsPerSubject),
    mode: text(facts.mode),
    reservedAt: reservedAt.toISOString(),
    settledAt: settledAt?.toISOString() ?? null,
  };
}

function byPlan(lines: readonly LedgerLine[], plans: readonly PlanRow[], delta: number): PlanLine[] {
  const states = new Map(plans.map(({ id, state }) => [id, state]));
  return [...Map.groupBy(lines, ({ planId }) => planId)].map(([planId, all]): PlanLine => {
    const counts = all.filter(({ state }) => state !== 'refused');
    const muSquared = sumUp(counts.map((line) => line.muSquared));
    const readers = counts.flatMap((line) => line.readersMuSquared ?? []);
    const readersMuSquared = readers.length === counts.length ? sumUp(readers) : null;
    const how = (state: LedgerLine['state']) => all.filter((line) => line.state === state);
    const refused = Map.groupBy(how('refused'), ({ release }) => release);
    return {
      ...{ planId, state: states.get(planId) ?? null, mode: all[0].mode },
      ...{ committed: how('committed').length, reserved: how('reserved').length, lost: how('lost').length },
      refused: how('refused').length,
      refusedReleases: Object.fromEntries([...refused].map(([release, each]) => [release, each.length])),
      ...{ muSquared, epsilon: epsilonOf(muSquared, delta) },
      ...{ readersMuSquared, readersEpsilon: readersMuSquared === null ? null : epsilonOf(readersMuSquared, delta) },
      sigma: Object.fromEntries(
        all.flatMap(({ release, sigma }) => (sigma === null ? [] : [[kindOf(release), sigma]])),
      ),
      ...{ firstAt: all[0].reservedAt, lastAt: all[all.length - 1].settledAt ?? all[all.length - 1].reservedAt },
    };
  });
}

/** `round-7` is a release of the kind `rounds`. */
const kindOf = (release: string): string => (/^round-\d+$/.test(release) ? 'rounds' : release);

function refusedPlan({ id, reason, createdAt }: PlanRow): RefusedPlan {
  // training.ts stores code, colon, sentence.
  const [code, ...rest] = (reason ?? '').split(': ');
  return { planId: id, code, reason: rest.join(': '), at: createdAt.toISOString() };
}

/** What the ledger and the audit log keep about a release, beside its loss and what it was computed at. */
export function releaseFacts(
  plan: FederatedPlan,
  statement: PlanStatement,
  round: number,
): { readonly [name: string]: Json } {
  const { name, readersMuSquared } = releaseIn(plan, statement, round);
  const { sensitivitySquared, sigma, times } = mechanismIn(plan, round);
  return {
    ...{ release: name, mode: plan.mode, unit: 'customer', maxRecordsPerSubject: plan.maxRecordsPerSubject },
    // In units of the released integers; sigma is that of the noise this bank adds.
    ...{ sensitivitySquared, sigma: sigma === null ? null : rationalText(sigma), readersMuSquared },
    ...(times === 1 ? {} : { times }),
  };
}
