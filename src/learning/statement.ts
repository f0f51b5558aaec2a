/**
 * The privacy statement of a plan: what each bank releases, how noisy it is and what it costs, before anything runs.
 *
 * One record sets one bin in each of K fields, so it moves the counts by sqrt(K) in L2 and, its residual being an
 * integer of magnitude at most 2^p, a gradient by at most sqrt(K) 2^p. A customer has at most m records: times m.
 * mu_total^2 = mu_count^2 + sum of mu_t^2 <= muFor(epsilon, delta)^2, every sigma rounded up.
 *
 * GUARANTEES.md: "Scorecard training"
 */
import { type NoiseLevel, noiseFor } from '../privacy/gaussianMechanism.ts';
import { gdpEpsilon, muFor, roundUp, sumUp } from '../privacy/gdp.ts';
import { approximately, type Rational } from '../privacy/rational.ts';
import type { TrainingPlan } from './plan.ts';

export const GUARANTEE = 'Scorecard training';

/** One release of one bank, as the ledger books it. */
export interface Release {
  /** `counts`, `round-1`, `round-2`, ... */
  name: string;
  /** Loss, rounded up; losses of a plan add. */
  muSquared: number;
}

export interface PrivacyStatement {
  /** Loss of the whole plan, rounded up. */
  mu: number;
  muCount: number;
  muRound: number;
  /** Noise parameters in the units of the released integers, and their exact squares for the sampler. */
  sigmaCount: Rational;
  sigmaRound: Rational;
  sigmaCountSquared: Rational;
  sigmaRoundSquared: Rational;
  releases: Release[];
  /** Sum of the releases, rounded up. */
  muSquaredTotal: number;
  /** Epsilon at the plan's delta that follows from mu, rounded up; at most the plan's epsilon. */
  epsilon: number;
  text: string[];
}

export function privacyStatement(plan: TrainingPlan): PrivacyStatement {
  const mu = muFor(plan.epsilon, plan.delta);
  // 10^-9 of the loss is left unused, so that sums rounded up still fit a budget of the same epsilon and delta.
  const available = mu * mu * (1 - 1e-9);
  const count = countNoise(plan, available * plan.countShare);
  const round = roundNoise(plan, (available * (1 - plan.countShare)) / plan.rounds);
  const releases: Release[] = [{ name: 'counts', muSquared: count.muSquared }];
  for (let t = 1; t <= plan.rounds; t++) releases.push({ name: `round-${t}`, muSquared: round.muSquared });
  const muSquaredTotal = sumUp(releases.map((release) => release.muSquared));
  const total = roundUp(Math.sqrt(muSquaredTotal));
  return {
    mu: total,
    muCount: roundUp(Math.sqrt(count.muSquared)),
    muRound: roundUp(Math.sqrt(round.muSquared)),
    sigmaCount: count.sigma,
    sigmaRound: round.sigma,
    sigmaCountSquared: count.sigmaSquared,
    sigmaRoundSquared: round.sigmaSquared,
    releases,
    muSquaredTotal,
    epsilon: gdpEpsilon(total, plan.delta),
    text: statementText(plan, total, count, round),
  };
}

/** Square of the L2 sensitivity of the bin counts to one customer. */
export function countSensitivitySquared(plan: TrainingPlan): number {
  return plan.maxRecordsPerSubject ** 2 * plan.fields;
}

/** Square of the L2 sensitivity of a gradient on the integer grid to one customer. */
export function roundSensitivitySquared(plan: TrainingPlan): number {
  return countSensitivitySquared(plan) * 4 ** plan.residualBits;
}

function countNoise(plan: TrainingPlan, muSquared: number): NoiseLevel {
  return noiseFor(countSensitivitySquared(plan), muSquared);
}

function roundNoise(plan: TrainingPlan, muSquared: number): NoiseLevel {
  return noiseFor(roundSensitivitySquared(plan), muSquared);
}

function statementText(plan: TrainingPlan, mu: number, count: NoiseLevel, round: NoiseLevel): string[] {
  const m = plan.maxRecordsPerSubject;
  const grid = 2 ** plan.residualBits;
  return [
    `Plan ${plan.id}: one customer of one bank is protected with epsilon ${plan.epsilon} at delta ${plan.delta} ` +
      `(${mu.toPrecision(6)}-GDP, add or remove all records of the customer, at most ${m} used).`,
    `Counts: ${plan.fields} fields, L2 sensitivity ${figure(m * Math.sqrt(plan.fields))}, discrete Gaussian noise of ` +
      `sigma ${figure(approximately(count.sigma))} in every bin.`,
    `Rounds: ${plan.rounds} gradients on the grid 1/${grid}, L2 sensitivity ` +
      `${figure(m * Math.sqrt(plan.fields))} in units of records, discrete Gaussian noise of sigma ` +
      `${figure(approximately(round.sigma) / grid)} records in every bin.`,
    'Trust mode site: every bank adds all of this noise itself, so the promise holds against the aggregator, the ' +
      'other banks and every reader of the model, even together.',
    'A person who is a customer of several banks is protected by each bank separately: for j banks mu grows by ' +
      'sqrt(j).',
  ];
}

function figure(value: number): string {
  return String(Number(value.toPrecision(5)));
}
