/**
 * The privacy statement of a dense plan: what each bank releases in a round, how noisy it is and what it costs, before
 * anything runs. Every record is in every step, so a release is mu-GDP and losses add as mu^2, as a ledger needs it.
 *
 * One step a round (`localSteps` 1): the bank's clipped gradient sum, rotated and encoded, each coordinate drawn around
 * its real value (encoding/gradientCode.ts). Mode `site` puts the whole noise into one bank's message, mode `sum` into
 * the sum of the honest banks' messages.
 *
 * Several steps: each is a gradient sum on the integer grid with the bank's whole noise, seen by nobody but the bank,
 * whose next steps and message are made of it. What leaves is post-processing of all of them and charged as all of
 * them. Sums of such messages are no sums of noisy gradients, so readers of the model are charged in full.
 *
 * The evaluation, where there is one, is a score histogram with noise of its own, summed in a ring of its own where the
 * plan's is too narrow for counts.
 *
 * GUARANTEES.md: "Rotated gradient sums", "Federated evaluation"
 */
import { PrivacyError } from '../../errors.ts';
import { LARGEST_CENTRED_VARIANCE } from '../../privacy/discreteGaussian.ts';
import { type NoiseLevel, noiseFor } from '../../privacy/gaussianMechanism.ts';
import { muFor, roundUp } from '../../privacy/gdp.ts';
import { approximately, type Rational } from '../../privacy/rational.ts';
import { encodedSensitivitySquared } from '../encoding/gradientCode.ts';
import { updateBytes } from '../encoding/updateBytes.ts';
import { ringLimit } from '../ring.ts';
import { SCORE_CELLS } from '../scoreHistogram.ts';
import {
  evaluationSensitivitySquared,
  lossAgainst,
  noiseSharers,
  type PlanStatement,
  type Release,
  sharedLoss,
} from '../statement.ts';
import { chargedAgainst, evaluationText, figure, figureUp, readersOfSums } from '../statementText.ts';
import { recordSensitivity } from './gradient.ts';
import type { DensePlan } from './plan.ts';
import { GRID_BITS } from './statement.ts';

export const GUARANTEE = 'Rotated gradient sums';

export interface DenseStatement extends PlanStatement {
  /** L2 sensitivity of a release to one customer, squared, in the units of its integers. */
  sensitivitySquared: number;
  /** Of the noise EACH BANK adds, in the same units, and its exact square for the sampler. */
  sigma: Rational;
  sigmaSquared: Rational;
  /** Such releases in a round. */
  steps: number;
  /** Largest magnitude of an encoded coordinate before noise. */
  limit: number;
}

// Statements are asked for in every round. Safe: only ever the value of a pure function of a document that is not
// changed.
const known = new WeakMap<DensePlan, DenseStatement>();

/** @throws PrivacyError PRIVACY_PARAMETER when no noise that can be drawn, or that fits the ring, keeps the promise. */
export function denseStatement(plan: DensePlan): DenseStatement {
  const statement = known.get(plan) ?? computeStatement(plan);
  known.set(plan, statement);
  return statement;
}

function computeStatement(plan: DensePlan): DenseStatement {
  const { rounds, dimension, maxRecordsPerSubject: m, strategy } = plan;
  const steps = strategy.localSteps;
  const mu = muFor(plan.epsilon, plan.delta);
  // 10^-9 of the loss is left unused, so that sums rounded up still fit a budget of the same epsilon and delta.
  const available = mu * mu * (1 - 1e-9);
  const evaluation = evaluationNoise(plan, available * (plan.evaluation?.share ?? 0));
  const perStep = (available * (1 - (plan.evaluation?.share ?? 0))) / (rounds * steps);
  const sharers = steps === 1 ? noiseSharers(plan) : { charged: 1, readers: 1 };
  const exact = m * recordSensitivity({ gridBits: GRID_BITS });
  const sensitivitySquared = steps === 1 ? encodedSensitivitySquared(exact, dimension, unitScale(plan)) : exact * exact;
  const noise = noiseFor(sensitivitySquared, perStep * sharers.charged);
  if (steps === 1) requireDrawable(noise.sigmaSquared);
  const limit = limitOf(plan, steps === 1 ? approximately(noise.sigma) : 0);
  // Rounded up: a small multiple of a number that is rounded up already.
  const lossOf = (banks: number) => {
    const one = sharedLoss(sensitivitySquared, noise, banks, dimension);
    return steps === 1 ? one : roundUp(one * steps);
  };
  const [muSquared, readersMuSquared] = [lossOf(sharers.charged), lossOf(sharers.readers)];
  const releases = Array.from({ length: rounds }, (_, t): Release => {
    return { name: `round-${t + 1}`, muSquared, readersMuSquared };
  });
  if (evaluation !== null) releases.push(evaluation.release);
  const losses = {
    aggregator: lossAgainst(
      plan,
      releases.map((release) => release.muSquared),
      chargedAgainst(plan),
    ),
    readers: lossAgainst(
      plan,
      releases.map((release) => release.readersMuSquared),
      steps === 1 ? readersOfSums(sharers.readers) : 'readers of the model, to whom steps of one bank show through',
    ),
  };
  const { mu: total, muSquared: muSquaredTotal, epsilon } = losses.aggregator;
  return {
    ...{ mu: total, muSquaredTotal, epsilon, losses, releases },
    ...{ sensitivitySquared, sigma: noise.sigma, sigmaSquared: noise.sigmaSquared, steps, limit },
    sigmaEvaluation: evaluation?.noise.sigma ?? null,
    sigmaEvaluationSquared: evaluation?.noise.sigmaSquared ?? null,
    text: statementText(plan, losses, {
      sensitivity: Math.sqrt(sensitivitySquared),
      sigma: approximately(noise.sigma),
      evaluation: evaluation === null ? null : approximately(evaluation.noise.sigma),
    }),
  };
}

/** Bits in which score histograms are summed under masks: counts of records need more than encoded gradients. */
export const EVALUATION_RING_BITS = 32;

/** The noise of each bank's histogram, and what it costs. @param muSquared to be spent on it. */
function evaluationNoise(plan: DensePlan, muSquared: number): { noise: NoiseLevel; release: Release } | null {
  if (plan.evaluation === null) return null;
  const { charged, readers } = noiseSharers(plan);
  const squared = evaluationSensitivitySquared(plan);
  const noise = noiseFor(squared, muSquared * charged);
  if (plan.mode === 'sum') {
    ringLimit({ ringBits: EVALUATION_RING_BITS, sites: plan.sites }, approximately(noise.sigma));
  }
  const lossOf = (banks: number) => sharedLoss(squared, noise, banks, SCORE_CELLS);
  return { noise, release: { name: 'evaluation', muSquared: lossOf(charged), readersMuSquared: lossOf(readers) } };
}

/** Encoded integers for one unit of the exact gradient sum. */
export function unitScale({ encoding }: Pick<DensePlan, 'encoding'>): number {
  // Exact: a division by a power of two.
  return encoding.scale / 2 ** GRID_BITS;
}

/** Noise that cannot be drawn is refused before anything is paid for it. */
function requireDrawable({ num, den }: Rational): void {
  if (num <= LARGEST_CENTRED_VARIANCE * den) return;
  throw new PrivacyError('PRIVACY_PARAMETER', 'the noise is larger than can be drawn around real values', {
    where: 'encoding.scale',
    fix: 'use a coarser scale, which fewer bits have',
  });
}

/** @param sigma of the noise that is drawn around encoded coordinates; 0 where none is. */
function limitOf({ mode, sites, encoding }: DensePlan, sigma: number): number {
  const limit = ringLimit({ ringBits: encoding.bits, sites: mode === 'sum' ? sites : 1 }, sigma);
  // Centres of draws are below 2^32.
  if (limit < 2 ** 31) return limit;
  throw new PrivacyError('PRIVACY_PARAMETER', 'the encoding has too many bits', { where: 'encoding.bits' });
}

function statementText(
  plan: DensePlan,
  losses: DenseStatement['losses'],
  { sensitivity, sigma, evaluation }: { sensitivity: number; sigma: number; evaluation: number | null },
): string[] {
  const { id, family, hidden, rounds, dimension, strategy, encoding, maxRecordsPerSubject: m } = plan;
  const what = family === 'mlp' ? `MLP ${hidden.join('-')}` : 'logistic regression';
  const { localSteps, kind } = strategy;
  const bytes = updateBytes(dimension);
  return [
    `Plan ${id}: one customer of one bank is protected with epsilon ${plan.epsilon} at delta ${plan.delta.toExponential()} ` +
      `(${figureUp(losses.aggregator.mu)}-GDP, add or remove all records of the customer, at most ${m} used).`,
    `Releases: ${what} of ${dimension} weights by ${NAMES[kind]}, ${rounds} rounds of ${localSteps} gradient ` +
      `${localSteps === 1 ? 'sum' : 'sums'} over all records, each record's gradient shortened to L2 norm ` +
      `${figure(plan.clippingNorm)}.`,
    localSteps === 1
      ? `Noise: rotated, ${figure(encoding.scale)} integers a record, L2 sensitivity ${figure(sensitivity)}; each bank draws ` +
        `every coordinate from a discrete Gaussian of sigma ${figure(sigma)} around its real value.`
      : `Noise: L2 sensitivity ${figure(sensitivity)} on the grid ${figure(plan.clippingNorm)}/${2 ** GRID_BITS}; each bank adds ` +
        `discrete Gaussian noise of sigma ${figure(sigma)} in each of its steps, before the next is taken.`,
    ...evaluationText(plan, evaluation),
    plan.mode === 'site'
      ? 'Trust mode site: every bank adds all of this noise itself, so the promise holds against the aggregator, the ' +
        'other banks and every reader of the model, even together.'
      : `Trust mode sum: the noise of ${plan.sites - plan.colluders - plan.dropouts} honest banks together keeps the ` +
        `promise, while nobody sees a single bank's message, with up to ${plan.colluders} colluding and up to ` +
        `${plan.dropouts} absent.`,
    `Loss against ${losses.aggregator.against}: epsilon ${figureUp(losses.aggregator.epsilon)}.`,
    `Loss against ${losses.readers.against}: epsilon ${figureUp(losses.readers.epsilon)}.`,
    `One update: ${bytes.float32} bytes as float32, ${bytes.bits20} at 20 bits, ${bytes.bits16} at 16, ${bytes.bits1} at 1; ` +
      `this plan uses ${encoding.bits}.`,
    'A person who is a customer of several banks is protected by each bank separately: for j banks mu grows by sqrt(j).',
  ];
}

const NAMES = { fedavg: 'FedAvg', fedprox: 'FedProx', fedadam: 'FedAdam' } as const;
