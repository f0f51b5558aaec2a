/**
 * The privacy statement of a plan: what each bank releases, how noisy it is and what it costs, before anything runs.
 *
 * One record sets one bin in each of K fields, so it moves the counts by sqrt(K) in L2 and, its residual being an
 * integer of magnitude at most L_t, the gradient of round t by at most sqrt(K) L_t; it is one entry of the evaluation
 * histogram. A customer has at most m records: times m. All losses add up, as mu^2, to at most muFor(epsilon, delta)^2,
 * every sigma rounded up.
 *
 * Mode `site`: one bank's message carries the whole noise. Mode `sum`: the sum does, as long as S - c - d honest sites
 * are in it, so each adds its share of the variance; the loss of a sum is that of gaussianSum.ts.
 *
 * GUARANTEES.md: "Scorecard training"
 */
import { MAX_TOTAL_BINS } from '../contract/schema.ts';
import { PrivacyError } from '../errors.ts';
import { type NoiseLevel, noiseFor } from '../privacy/gaussianMechanism.ts';
import { sumLossOf } from '../privacy/gaussianSum.ts';
import { gdpEpsilon, muFor, roundUp, sumUp } from '../privacy/gdp.ts';
import { approximately, type Rational } from '../privacy/rational.ts';
import { residualGrid, type TrainingPlan } from './plan.ts';
import { unitOf } from './resolution.ts';
import { ringLimit, shiftedSensitivitySquared } from './ring.ts';
import { chargedAgainst, readersOfSums, statementText } from './statementText.ts';

export const GUARANTEE = 'Scorecard training';

/** One release of one bank, as the ledger books it. */
export interface Release {
  /** `counts`, `round-1`, `round-2`, ..., `evaluation`. */
  name: string;
  /** Charged: loss against the aggregator and, in mode `sum`, the tolerated colluders, rounded up; losses add. */
  muSquared: number;
  /** Loss against readers of the model, who see nothing but sums over the contributing banks; rounded up. */
  readersMuSquared: number;
}

/** What a plan costs one customer of one bank, all releases together. */
export interface Loss {
  mu: number;
  muSquared: number;
  /** At the plan's delta, rounded up. */
  epsilon: number;
  /** Against whom, in a sentence. */
  against: string;
}

/** What the statement of a plan of any family says, which is what ledger, review and readers need. */
export interface PlanStatement {
  /** Loss of the whole plan, rounded up: that of `losses.aggregator`. */
  mu: number;
  /** In the order of the rounds, the first round's first. */
  releases: Release[];
  losses: { aggregator: Loss; readers: Loss };
  /** Sum of the releases as charged, rounded up. */
  muSquaredTotal: number;
  /** Epsilon at the plan's delta that follows from mu, rounded up; at most the plan's epsilon. */
  epsilon: number;
  /** The noise EACH BANK adds to each cell of the evaluation's histogram, and its exact square; null without one. */
  sigmaEvaluation: Rational | null;
  sigmaEvaluationSquared: Rational | null;
  text: string[];
}

export interface PrivacyStatement extends PlanStatement {
  /** The noise EACH BANK adds, in the units of the released integers, and its exact square for the sampler. */
  sigmaCount: Rational;
  sigmaCountSquared: Rational;
  sigmaRound: Rational;
  sigmaRoundSquared: Rational;
}

// Asked for in every round, and once a release by who states them all. Safe: only ever the value of a pure function of a
// document that is not changed.
const known = new WeakMap<TrainingPlan, PrivacyStatement>();

export function privacyStatement(plan: TrainingPlan): PrivacyStatement {
  const statement = known.get(plan) ?? computeStatement(plan);
  known.set(plan, statement);
  return statement;
}

function computeStatement(plan: TrainingPlan): PrivacyStatement {
  const mu = muFor(plan.epsilon, plan.delta);
  // 10^-9 of the loss is left unused, so that sums rounded up still fit a budget of the same epsilon and delta.
  const available = mu * mu * (1 - 1e-9);
  const evaluationShare = plan.evaluation?.share ?? 0;
  const sharers = noiseSharers(plan);
  const { charged } = sharers;
  // The noisy counts of a bank enter every round, summed over whoever is in it. Two such sums over different banks can
  // isolate the counts of one; so unless nobody may be absent, everybody is taken to know them.
  const countSharers = plan.quorum < plan.sites ? { charged: 1, readers: 1 } : sharers;
  const rounds = Array.from({ length: plan.rounds }, (_, t) => roundSensitivitySquared(plan, t + 1));

  const count = noiseFor(countSensitivitySquared(plan), available * plan.countShare * countSharers.charged);
  // One sigma for all rounds; a round of smaller sensitivity costs less.
  const round = noiseFor(
    rounds.reduce((sum, squared) => sum + squared, 0),
    available * (1 - plan.countShare - evaluationShare) * charged,
  );
  const evaluation =
    plan.evaluation === null
      ? null
      : noiseFor(evaluationSensitivitySquared(plan), available * evaluationShare * charged);

  if (plan.mode === 'sum') {
    for (const noise of [count, round, evaluation]) if (noise !== null) ringLimit(plan, approximately(noise.sigma));
  }

  const release = (name: string, sensitivitySquared: number, noise: NoiseLevel, by = sharers): Release => ({
    name,
    muSquared: sharedLoss(sensitivitySquared, noise, by.charged),
    readersMuSquared: sharedLoss(sensitivitySquared, noise, by.readers),
  });
  const releases = [release('counts', countSensitivitySquared(plan), count, countSharers)];
  for (const [t, squared] of rounds.entries()) releases.push(release(`round-${t + 1}`, squared, round));
  if (evaluation !== null) releases.push(release('evaluation', evaluationSensitivitySquared(plan), evaluation));

  const losses = {
    aggregator: lossAgainst(
      plan,
      releases.map((part) => part.muSquared),
      chargedAgainst(plan),
    ),
    readers: lossAgainst(
      plan,
      releases.map((part) => part.readersMuSquared),
      readersOfSums(sharers.readers),
    ),
  };
  const { muSquared: muSquaredTotal, epsilon, mu: total } = losses.aggregator;
  return {
    mu: total,
    sigmaCount: count.sigma,
    sigmaCountSquared: count.sigmaSquared,
    sigmaRound: round.sigma,
    sigmaRoundSquared: round.sigmaSquared,
    sigmaEvaluation: evaluation?.sigma ?? null,
    sigmaEvaluationSquared: evaluation?.sigmaSquared ?? null,
    releases,
    losses,
    muSquaredTotal,
    epsilon,
    text: statementText(plan, losses, { count, round, evaluation }),
  };
}

/** Square of the L2 sensitivity of the counts to one customer, in the units of the release (resolution.ts). */
export function countSensitivitySquared(plan: TrainingPlan): number {
  return plan.maxRecordsPerSubject ** 2 * plan.fields * unitOf(plan.knots) ** 2;
}

/** Square of the L2 sensitivity of the gradient of a round, 1 to `plan.rounds`, to one customer, in released units. */
export function roundSensitivitySquared(plan: TrainingPlan, round: number): number {
  const exact = countSensitivitySquared(plan) * residualGrid(plan, round).residualLimit ** 2;
  // A record is in one bin of each field, or between two knots.
  const touched = plan.maxRecordsPerSubject * plan.fields * (plan.knots === 0 ? 1 : 2);
  return shiftedSensitivitySquared(exact, plan.ringShift, touched);
}

/** Square of the L2 sensitivity of the evaluation histogram: all m records may fall into one bin. */
export function evaluationSensitivitySquared(plan: Pick<TrainingPlan, 'maxRecordsPerSubject'>): number {
  return plan.maxRecordsPerSubject ** 2;
}

/** How many banks' noise an observer cannot subtract: the one who is charged for, and a reader of the model. */
export function noiseSharers(plan: Pick<TrainingPlan, 'mode' | 'quorum' | 'sites' | 'colluders' | 'dropouts'>): {
  charged: number;
  readers: number;
} {
  if (plan.mode === 'site') return { charged: 1, readers: plan.quorum };
  return { charged: plan.sites - plan.colluders - plan.dropouts, readers: plan.sites - plan.dropouts };
}

// What all releases of the longest plan together may add to epsilon beyond their mu; the unused part of the loss covers it.
const MOST_SLACK = 1e-13;
const MOST_RELEASES = 502;

/**
 * Loss of one release whose noise is a sum over `banks`, rounded up. @param coordinates of the release, at most.
 * @throws PrivacyError where it has no such bound.
 */
export function sharedLoss(
  sensitivitySquared: number,
  noise: Pick<NoiseLevel, 'sigmaSquared'>,
  banks: number,
  coordinates = MAX_TOTAL_BINS,
): number {
  const { muSquared, epsilonSlack } = sumLossOf(sensitivitySquared, noise.sigmaSquared, banks, coordinates);
  if (epsilonSlack * MOST_RELEASES <= MOST_SLACK) return muSquared;
  throw new PrivacyError('PRIVACY_PARAMETER', 'the share of the noise that each bank adds is too small to be summed', {
    where: 'sigmaSquared',
    fix: 'use a smaller epsilon or fewer banks',
  });
}

export function lossAgainst(plan: Pick<TrainingPlan, 'delta'>, muSquared: readonly number[], against: string): Loss {
  const total = sumUp(muSquared);
  const mu = roundUp(Math.sqrt(total));
  return { mu, muSquared: total, epsilon: gdpEpsilon(mu, plan.delta), against };
}
