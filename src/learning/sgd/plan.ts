/**
 * The training plan of a dense family (logistic regression or MLP) between banks: the public document that fixes,
 * before anything runs, what is released and how noisy it is.
 *
 * Identity is SHA-256 of the RFC 8785 form. Everything in it comes from public facts; nothing in it may be tuned on
 * private data. Every record is in every step: the loss of a sampled step is no mu, which is what a ledger adds up.
 * Limit: no Poisson sampling.
 *
 * Strategies: FedAvg (McMahan et al. 2017, arXiv 1602.05629), FedProx (Li et al. 2020, arXiv 1812.06127), FedAdam
 * (Reddi et al. 2021, arXiv 2003.00295).
 */
import { z } from 'zod';
import { canonicalHash } from '../../canonical.ts';
import { type Contract, contractHash } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';
import { muFor } from '../../privacy/gdp.ts';
import { MAX_ROTATED, windowOf } from '../encoding/rotation.ts';
import { type PlanFacts, thresholdOf } from '../plan.ts';
import { checkMembers, planMembers, readPlan } from '../planMembers.ts';
import { encodingOf, featureMapOf } from './features.ts';
import { networkOf } from './network.ts';

const denseSchema = z
  .strictObject({
    ...planMembers,
    family: z.enum(['logistic', 'mlp']),
    rounds: z.int().min(1).max(500),
    /** Outputs of each hidden layer; none for logistic regression. */
    hidden: z.array(z.int().min(1).max(1024)).max(4),
    /** Weights of the model under the contract: numbers of an update. */
    dimension: z.int().min(2).max(MAX_ROTATED),
    /**
     * Records of all banks together that train, as publicly known. Sums are divided by it; the true number is private
     * and not used.
     */
    rows: z.int().min(1).max(1e9),
    /** C: the L2 norm to which the gradient of one record is shortened; see settings.ts. */
    clippingNorm: z.number().min(0.02).max(1e6),
    strategy: z.strictObject({
      /**
       * What the aggregator makes of the mean update: `fedavg` and `fedprox` a step along it, `fedadam` a step of Adam.
       */
      kind: z.enum(['fedavg', 'fedprox', 'fedadam']),
      /** Gradient steps of a bank between two rounds; each is a release. 1 in mode `sum`. */
      localSteps: z.int().min(1).max(50),
      /** Of a bank's steps; of the only step where localSteps is 1. */
      learningRate: z.number().min(1e-6).max(100),
      /** Of the aggregator: 1 takes the banks' mean as it is; for `fedadam` the size of a step. */
      serverLearningRate: z.number().min(1e-6).max(100),
      /** `fedprox`: pull of a bank's steps back to the weights of the round; else 0. */
      proximal: z.number().min(0).max(100),
    }),
    encoding: z.strictObject({
      rotation: z.literal('hadamard'),
      /** Bits of a number on the wire; in mode `sum` those of the ring. */
      bits: z.int().min(16).max(32),
      /** Encoded integers that stand for the gradient of one record, of norm C. */
      scale: z.number().min(1e-3).max(1e9),
    }),
  })
  .superRefine(checkMembers)
  .refine((plan) => (plan.family === 'logistic') === (plan.hidden.length === 0), {
    path: ['hidden'],
    error: 'must be empty for logistic regression and not empty for an MLP',
  })
  .refine((plan) => plan.mode === 'site' || plan.strategy.localSteps === 1, {
    path: ['strategy', 'localSteps'],
    error: "must be 1 in mode sum: a bank's second step would see its own gradient without the others' noise",
  })
  .refine((plan) => plan.mode === 'site' || plan.ringBits === plan.encoding.bits, {
    path: ['ringBits'],
    error: 'must be the bits of the encoding in mode sum',
  })
  .refine((plan) => (plan.strategy.kind === 'fedprox') === plan.strategy.proximal > 0, {
    path: ['strategy', 'proximal'],
    error: 'must be positive for fedprox and 0 for the others',
  })
  .refine((plan) => plan.strategy.kind !== 'fedprox' || plan.strategy.localSteps > 1, {
    path: ['strategy', 'localSteps'],
    error: 'must be at least 2 for fedprox, whose term is zero in the first step',
  });

export type DensePlan = z.infer<typeof denseSchema>;
export type StrategyKind = DensePlan['strategy']['kind'];

/** Reads a plan from outside. @throws LearningError TRAINING_INPUT with one issue per rule broken. */
export function parseDensePlan(json: unknown): DensePlan {
  return readPlan(denseSchema, json, 'src/learning/sgd/plan.ts');
}

/** Weights of a network over the features of a contract. */
export function denseDimension(contract: Pick<Contract, 'fields'>, hidden: readonly number[]): number {
  return networkOf(featureMapOf(encodingOf(contract)).width, hidden).parameters;
}

/** @throws LearningError TRAINING_INPUT when plan and contract do not fit each other. */
export function requireDenseContract(plan: DensePlan, contract: Contract): void {
  const wrong =
    plan.contractHash !== contractHash(contract)
      ? 'contractHash'
      : plan.dimension !== denseDimension(contract, plan.hidden)
        ? 'dimension'
        : plan.maxRecordsPerSubject !== contract.maxRecordsPerSubject
          ? 'maxRecordsPerSubject'
          : null;
  if (wrong === null) return;
  throw new LearningError('TRAINING_INPUT', 'the plan belongs to another contract', { where: wrong });
}

export interface DensePlanFacts extends Omit<PlanFacts, 'ringBits'> {
  family: DensePlan['family'];
  /** Default `fedadam`. */
  strategy?: StrategyKind | undefined;
  /** Default 1, for `fedprox` 4. */
  localSteps?: number | undefined;
  rounds?: number | undefined;
  /** Default: the fewest of 16, 20, 24, 28 and 32 that hold the noise of a bank well. */
  bits?: number | undefined;
}

/** A plan whose every setting follows from public facts by fixed rules. @throws LearningError TRAINING_INPUT. */
export function defaultDensePlan(facts: DensePlanFacts): DensePlan {
  const { contract, family, epsilon, delta, sites, quorum, expectedRows } = facts;
  const kind = facts.strategy ?? 'fedadam';
  const mode = facts.mode ?? 'site';
  const dropouts = facts.dropouts ?? (mode === 'sum' ? sites - quorum : 0);
  const localSteps = facts.localSteps ?? (kind === 'fedprox' ? 4 : 1);
  const rounds = facts.rounds ?? Math.max(1, Math.round(STEPS / localSteps));
  const { hidden, clippingNorm, fedadam, ascent } = DEFAULTS[family];
  const dimension = denseDimension(contract, hidden);
  const honest = mode === 'sum' ? Math.max(1, sites - (facts.colluders ?? 0) - dropouts) : 1;
  const evaluation = facts.evaluation ?? null;
  const rows = Math.max(1, Math.round(expectedRows * (1 - (evaluation?.holdout ?? 0))));
  const releases = (rounds * localSteps) / (1 - (evaluation?.share ?? 0));
  // Noise of a bank over one record's gradient, where a customer has m of them.
  const noise = (contract.maxRecordsPerSubject * Math.sqrt(releases / honest)) / muFor(epsilon, delta);
  const scaleAt = (bits: number) => scaleOf({ bits, mode, sites, rows, dimension, noise });
  const bits = facts.bits ?? [16, 20, 24, 28].find((each) => scaleAt(each) * noise >= LEAST_SIGMA) ?? 32;
  const settings = {
    format: 'veilrisk-plan/3',
    contractHash: contractHash(contract),
    ...{ family, mode, sites, quorum, colluders: facts.colluders ?? 0, dropouts },
    threshold: mode === 'sum' ? thresholdOf(sites, facts.aggregator ?? 'lying') : 0,
    ringBits: mode === 'sum' ? bits : 0,
    ...{ rounds, epsilon, delta, maxRecordsPerSubject: contract.maxRecordsPerSubject },
    ...{ hidden: [...hidden], dimension, rows, clippingNorm },
    strategy: {
      ...{ kind, localSteps, learningRate: ascent, proximal: kind === 'fedprox' ? PROXIMAL : 0 },
      serverLearningRate: kind === 'fedadam' ? fedadam : 1,
    },
    encoding: { rotation: 'hadamard', bits, scale: scaleAt(bits) },
    evaluation,
    roundDeadlineMs: facts.roundDeadlineMs ?? 30_000,
  };
  return parseDensePlan({
    ...settings,
    id: facts.id ?? `${contract.name.slice(0, 32)}-${canonicalHash(settings).slice(0, 16)}`,
  });
}

// As for DP-SGD in one process (settings.ts): a step's noise grows with the square root of their number.
const STEPS = 50;
const DEFAULTS = {
  logistic: { hidden: [], clippingNorm: 2.5, fedadam: 0.2, ascent: 2 },
  mlp: { hidden: [32], clippingNorm: 1.5, fedadam: 0.06, ascent: 4 },
} as const;
const PROXIMAL = 0.1;
// At 16 units of noise a bank the 4 that a draw's discreteness costs are 1.6 % of its variance.
const LEAST_SIGMA = 16;
// Half of what can be drawn around real values; finer than any need.
const LARGEST_SIGMA = 2 ** 25;
/** Standard deviations of a rotated sum, and of the noise, that fit the ring. */
const SIGNAL_ROOM = 4;
const NOISE_ROOM = 20;

/**
 * As fine as the bits allow: a sum in which all records pull in one direction fits with four standard deviations of its
 * rotated coordinates, as long as no bank has several times its part of the records, and the noise of all banks as
 * well.
 */
function scaleOf(facts: {
  bits: number;
  mode: DensePlan['mode'];
  sites: number;
  rows: number;
  dimension: number;
  noise: number;
}): number {
  const { bits, mode, sites, rows, dimension, noise } = facts;
  const parties = mode === 'sum' ? sites : 1;
  const signal = (SIGNAL_ROOM * rows * parties) / sites / Math.sqrt(windowOf(dimension));
  const scale = (2 ** (bits - 1) - 1) / (signal + NOISE_ROOM * noise * Math.sqrt(parties) + 1);
  return Number(Math.max(1e-3, Math.min(scale, LARGEST_SIGMA / noise)).toPrecision(3));
}
