/**
 * The privacy statement in sentences, for operators and auditors. Figures are rounded, losses up; decisions rest on
 * statement.ts.
 */
import type { NoiseLevel } from '../privacy/gaussianMechanism.ts';
import { approximately } from '../privacy/rational.ts';
import type { TrainingPlan } from './plan.ts';
import { unitOf } from './resolution.ts';
import type { Loss } from './statement.ts';

export function statementText(
  plan: TrainingPlan,
  losses: { aggregator: Loss; readers: Loss },
  noise: { count: NoiseLevel; round: NoiseLevel; evaluation: NoiseLevel | null },
): string[] {
  const m = plan.maxRecordsPerSubject;
  const unit = unitOf(plan.knots);
  const grid = 2 ** (plan.residualBits - plan.ringShift);
  const sensitivity = m * Math.sqrt(plan.fields);
  const number = plan.knots === 0 ? 'bin' : `bin, or knot where a field has at least ${2 * plan.knots} bins`;
  const lines = [
    `Plan ${plan.id}: one customer of one bank is protected with epsilon ${plan.epsilon} at delta ${plan.delta.toExponential()} ` +
      `(${figureUp(losses.aggregator.mu)}-GDP, add or remove all records of the customer, at most ${m} used).`,
    `Counts: ${plan.fields} fields, L2 sensitivity ${figure(sensitivity)}, each bank adds discrete Gaussian noise of ` +
      `sigma ${figure(approximately(noise.count.sigma) / unit)} to every ${number}.`,
    `Rounds: ${plan.rounds} gradients on the grid 1/${grid}, residuals clipped to ${plan.residualBound} (1/2 in round ` +
      `1), L2 sensitivity ${figure(sensitivity * plan.residualBound)} in units of records, each bank adds discrete ` +
      `Gaussian noise of sigma ${figure(approximately(noise.round.sigma) / (grid * unit))} records to every ${number}.`,
  ];
  lines.push(
    ...evaluationText(plan, noise.evaluation && approximately(noise.evaluation.sigma)),
    plan.mode === 'site'
      ? 'Trust mode site: every bank adds all of this noise itself, so the promise holds against the aggregator, the ' +
          'other banks and every reader of the model, even together.'
      : `Trust mode sum: the noise of ${plan.sites - plan.colluders - plan.dropouts} honest banks together keeps the ` +
          "promise. It holds only while nobody sees a single bank's message, which is what secure aggregation is for, " +
          `while at most ${plan.colluders} of the banks collude and at most ${plan.dropouts} are absent.`,
    `Loss against ${losses.aggregator.against}: epsilon ${figureUp(losses.aggregator.epsilon)}.`,
    `Loss against ${losses.readers.against}: epsilon ${figureUp(losses.readers.epsilon)}.`,
    'A person who is a customer of several banks is protected by each bank separately: for j banks mu grows by ' +
      'sqrt(j).',
  );
  return lines;
}

/** What an evaluation releases, in a sentence; nothing without one. @param sigma of each bank's noise in a bin. */
export function evaluationText(
  { evaluation, maxRecordsPerSubject }: Pick<TrainingPlan, 'evaluation' | 'maxRecordsPerSubject'>,
  sigma: number | null,
): string[] {
  if (evaluation === null || sigma === null) return [];
  return [
    `Evaluation: a histogram of ${evaluation.bins} score bins per label of the ${figure(100 * evaluation.holdout)} % of ` +
      `the customers who train nothing, L2 sensitivity ${maxRecordsPerSubject}, each bank adds discrete Gaussian noise ` +
      `of sigma ${figure(sigma)} to every bin.`,
  ];
}

/** Five significant digits. */
export function figure(value: number): string {
  return String(Number(value.toPrecision(5)));
}

/** Five significant digits, rounded up: a loss that is shown is never below the one that is meant. */
export function figureUp(value: number): string {
  const nearest = Number(figure(value));
  if (nearest >= value) return String(nearest);
  return figure(nearest + 10 ** (Math.floor(Math.log10(nearest)) - 4));
}

/** Whom mode `sum` charges a loss against. */
export function aggregatorAnd(colluders: number): string {
  if (colluders === 0) return 'the aggregator, as long as no bank colludes with it';
  return `the aggregator together with ${colluders} colluding ${colluders === 1 ? 'bank' : 'banks'}`;
}

/** Whom a plan charges its loss against. */
export function chargedAgainst({ mode, colluders }: Pick<TrainingPlan, 'mode' | 'colluders'>): string {
  return mode === 'site'
    ? 'whoever reads the message of the bank: aggregator, other banks, readers of the model, even together'
    : aggregatorAnd(colluders);
}

/** Who sees nothing but sums over at least so many banks. */
export function readersOfSums(banks: number): string {
  return `readers of the model, who see only sums with the noise of at least ${banks} ${banks === 1 ? 'bank' : 'banks'}`;
}
