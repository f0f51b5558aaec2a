/**
 * The training plan: the public document that fixes, before anything runs, what is released and how noisy it is.
 *
 * Identity is SHA-256 of the RFC 8785 form. Everything in it comes from public facts (contract, consortium, promised
 * loss); nothing in it may be tuned on private data. Limit: family `scorecard`; sgd/plan.ts has the others.
 */
import { z } from 'zod';
import { canonicalHash } from '../canonical.ts';
import { type Contract, contractHash } from '../contract/contract.ts';
import { LearningError } from '../errors.ts';
import { muFor } from '../privacy/gdp.ts';
import { checkMembers, planMembers, readPlan } from './planMembers.ts';
import { unitOf } from './resolution.ts';
import type { DensePlan } from './sgd/plan.ts';

const planSchema = z
  .strictObject({
    ...planMembers,
    family: z.literal('scorecard'),
    /** Mode `sum`: exact gradient sums are divided by 2^ringShift and rounded, so that they fit the ring; else 0. */
    ringShift: z.int().min(0).max(16),
    /** Gradient rounds after the count round. */
    rounds: z.int().min(1).max(500),
    /** Fields of the contract, K: each record sets exactly one bin of each. */
    fields: z.int().min(1).max(4096),
    /** p of the residual grid 2^-p. */
    residualBits: z.int().min(12).max(16),
    /** Residuals y - p are clipped to [-residualBound, residualBound]; 1 clips nothing. */
    residualBound: z.number().min(0.5).max(1),
    /** Numeric fields of at least twice as many bins are released and learnt at so many knots; 0: at every bin. */
    knots: z.union([z.literal(0), z.int().min(2).max(1024)]),
    /** Share of mu^2 spent on the bin counts; what counts and evaluation leave is split evenly over the rounds. */
    countShare: z.number().min(0.001).max(0.5),
  })
  .superRefine(checkMembers)
  .refine((plan) => plan.mode === 'sum' || plan.ringShift === 0, {
    path: ['ringShift'],
    error: 'is for mode sum only',
  });

export type TrainingPlan = z.infer<typeof planSchema>;

/** Reads a plan from outside. @throws LearningError TRAINING_INPUT with one issue per rule broken. */
export function parsePlan(json: unknown): TrainingPlan {
  return readPlan(planSchema, json, 'src/learning/plan.ts');
}

/** How residuals become integers: round(r 2^residualBits), clipped to [-residualLimit, residualLimit]. */
export interface ResidualGrid {
  readonly residualBits: number;
  /** Largest magnitude of a residual in grid units; the sensitivity rests on it. */
  readonly residualLimit: number;
}

/**
 * The grid of a round, 1 to `plan.rounds`.
 *
 * Round 1 is taken at w = 0, where every p is 1/2 and every residual +-1/2: its limit is 1/2 whatever the plan's is.
 */
export function residualGrid(plan: Pick<TrainingPlan, 'residualBits' | 'residualBound'>, round: number): ResidualGrid {
  const bound = round === 1 ? 0.5 : plan.residualBound;
  return { residualBits: plan.residualBits, residualLimit: Math.floor(bound * 2 ** plan.residualBits) };
}

/** SHA-256 of the RFC 8785 form, 64 lower-case hexadecimal digits. */
export function planHash(plan: TrainingPlan | DensePlan): string {
  return canonicalHash(plan);
}

export interface PlanFacts {
  contract: Contract;
  epsilon: number;
  delta: number;
  sites: number;
  quorum: number;
  /** Default `site`. */
  mode?: TrainingPlan['mode'];
  /** Mode `sum`, default 0. */
  colluders?: number;
  /** Mode `sum`, default sites - quorum. */
  dropouts?: number;
  /** Mode `sum`, default 32. */
  ringBits?: number;
  /** Mode `sum`: against an aggregator that lies (default), or only one that watches. */
  aggregator?: Aggregator;
  /** Default none. */
  evaluation?: TrainingPlan['evaluation'];
  /** Rough number of records of all banks together, as publicly known; it decides only the number of rounds. */
  expectedRows: number;
  /** Name of this run. By default derived from the other facts, so a second run of the same plan needs its own. */
  id?: string;
  roundDeadlineMs?: number;
}

/** What a site takes the aggregator to be capable of. */
export type Aggregator = 'lying' | 'watching';

/**
 * Shares that reveal a secret. Against an aggregator that lies, two groups of so many sites have a third of all in
 * common, so it cannot have one sum opened by one group and another by a second (Bonawitz et al., CCS 2017, section 6.2).
 */
export function thresholdOf(sites: number, aggregator: Aggregator): number {
  return aggregator === 'lying' ? Math.floor((2 * sites) / 3) + 1 : Math.floor(sites / 2) + 1;
}

/** A plan whose every setting follows from public facts by fixed rules. */
export function defaultPlan(facts: PlanFacts): TrainingPlan {
  const { contract, epsilon, delta, sites, quorum, expectedRows } = facts;
  if (!(expectedRows >= 1)) {
    throw new LearningError('TRAINING_INPUT', 'the expected number of records must be at least 1', {
      where: 'expectedRows',
    });
  }
  const mode = facts.mode ?? 'site';
  const dropouts = facts.dropouts ?? (mode === 'sum' ? sites - quorum : 0);
  const ringBits = mode === 'sum' ? (facts.ringBits ?? 32) : 0;
  const knots = defaultKnots(facts, dropouts);
  const settings = {
    format: 'veilrisk-plan/3',
    contractHash: contractHash(contract),
    family: 'scorecard',
    mode,
    sites,
    quorum,
    colluders: facts.colluders ?? 0,
    dropouts,
    threshold: mode === 'sum' ? thresholdOf(sites, facts.aggregator ?? 'lying') : 0,
    ringBits,
    ringShift: ringBits === 0 ? 0 : defaultShift(ringBits, expectedRows, unitOf(knots)),
    rounds: (expectedRows * epsilon) / Math.sqrt(noisyBanks(facts, dropouts)) >= STRONG_SIGNAL ? 50 : 30,
    epsilon,
    delta,
    maxRecordsPerSubject: contract.maxRecordsPerSubject,
    fields: contract.fields.length,
    residualBits: DEFAULT_RESIDUAL_BITS,
    residualBound: DEFAULT_RESIDUAL_BOUND,
    knots,
    countShare: DEFAULT_COUNT_SHARE,
    evaluation: facts.evaluation ?? null,
    roundDeadlineMs: facts.roundDeadlineMs ?? 30_000,
  };
  return parsePlan({
    ...settings,
    id: facts.id ?? `${contract.name.slice(0, 32)}-${canonicalHash(settings).slice(0, 16)}`,
  });
}

// Rounds cost no privacy, but each is a round trip between all banks. Weak signals are learnt in 30; where noise is
// small against the data, penalties are small too and the fit still improves up to 50.
const STRONG_SIGNAL = 200_000;
// Clipped at c a residual costs c times the sensitivity and little of the signal: labels other than the expected one have
// residuals near 1 and lose no more than the noise does. Below 1/2 the link would not be monotone.
const DEFAULT_RESIDUAL_BOUND = 0.6;
const DEFAULT_RESIDUAL_BITS = 14;
// The counts only set step sizes, baselines and the mean contribution of a field.
const DEFAULT_COUNT_SHARE = 0.02;

// No bin is cut off as long as no bank has four times its part of the records, whatever they are: ring.ts.
const RING_HEADROOM = 4;

/** The least division after which the gradient of all expected records, in one bin, fills a quarter of the ring's half. */
function defaultShift(ringBits: number, expectedRows: number, unit: number): number {
  const largest = RING_HEADROOM * expectedRows * unit * DEFAULT_RESIDUAL_BOUND * 2 ** DEFAULT_RESIDUAL_BITS;
  // Half of what is there: the rest is for the noise.
  return Math.min(16, Math.max(0, Math.ceil(Math.log2(largest) - (ringBits - 2))));
}

/**
 * Knots of a field of many bins: more where there is more signal against the noise of one number, mu n / sqrt(K).
 *
 * The power is small because the signal of a rare event, whose frequency is private, is far below that of n records.
 * Odd, so that a field with symmetric bounds has a knot in their middle, where standardised values are.
 */
function defaultKnots(facts: PlanFacts, dropouts: number): number {
  const { contract, epsilon, delta, expectedRows } = facts;
  const variances = contract.fields.length * noisyBanks(facts, dropouts);
  const signal = (muFor(epsilon, delta) * expectedRows) / Math.sqrt(variances);
  const pairs = Math.floor((8 * (signal / 1000) ** 0.2 - 1) / 2);
  return 2 * Math.min(15, Math.max(3, pairs)) + 1;
}

/** Variance of the noise in a sum over all banks, in units of what one bank alone would add. */
function noisyBanks({ mode, sites, colluders = 0 }: PlanFacts, dropouts: number): number {
  return mode === 'sum' ? sites / Math.max(1, sites - colluders - dropouts) : sites;
}
