/**
 * The privacy statement of a DP-SGD training: what each bank releases in a step, how noisy it is, what all steps cost.
 *
 * A step is a Poisson-subsampled Gaussian release of an integer vector to which one record adds at most 2^16 in L2
 * (gradient.ts). A customer has up to m records, each drawn by its own coin of probability q. With probability
 * (1 - q)^m none is in the batch; otherwise the vector moves by at most m 2^16. So a step is charged as ONE subsampled
 * release of sensitivity m 2^16 and rate q' = 1 - (1 - q)^m; the proof is in GUARANTEES.md, "DP-SGD".
 *
 * Rounding: q' up, sigma up, epsilon up. Limit: a step's loss is not mu-GDP for any useful mu unless q = 1, so what is
 * stated is epsilon at the settings' delta.
 *
 * GUARANTEES.md: "DP-SGD"
 */
import { composedEpsilon, type PrivacyEvent } from '../../privacy/accountant.ts';
import { noiseMultiplierFor } from '../../privacy/calibration.ts';
import { noiseForMultiplier } from '../../privacy/gaussianMechanism.ts';
import type { Rational } from '../../privacy/rational.ts';
import { aggregatorAnd, figure, figureUp } from '../statementText.ts';
import { recordSensitivity } from './gradient.ts';
import { exactRate } from './sampling.ts';
import { type SgdSettings, settingsHash } from './settings.ts';

/** Bits of the gradient grid: one unit is C / 2^16. */
export const GRID_BITS = 16;

/** What a training costs one customer of one bank, all steps together. */
export interface SgdLoss {
  /** Noise over sensitivity that this reader faces in each step. */
  noiseMultiplier: number;
  /** At the settings' delta, rounded up. */
  epsilon: number;
  /** Against whom, in a sentence. */
  against: string;
}

export interface SgdStatement {
  /** Noise over sensitivity of a step, as charged. */
  noiseMultiplier: number;
  /** Probability that a record is in a batch, a multiple of 2^-32. */
  samplingRate: number;
  /** Probability that a customer has a record in a batch, rounded up: the rate that is charged. */
  customerRate: number;
  steps: number;
  /** L2 sensitivity of a bank's integer sum to one customer. */
  sensitivity: number;
  /** Variance of the discrete Gaussian noise that EACH BANK adds to every coordinate. */
  sigmaSquared: Rational;
  sigma: Rational;
  /** Of all steps at the settings' delta, rounded up; at most the settings' epsilon. */
  epsilon: number;
  losses: { aggregator: SgdLoss; readers: SgdLoss };
  text: string[];
}

// Calibration takes a good part of a second when batches are sampled. Safe: only ever the value of a pure function.
let latest: { hash: string; statement: SgdStatement } | null = null;

/** @throws PrivacyError PRIVACY_PARAMETER when no noise that can be drawn keeps the promise. */
export function sgdStatement(settings: SgdSettings): SgdStatement {
  const hash = settingsHash(settings);
  if (latest?.hash !== hash) latest = { hash, statement: computeStatement(settings) };
  return latest.statement;
}

function computeStatement(settings: SgdSettings): SgdStatement {
  const { epsilon, delta, sites, mode, colluders, dropouts, maxRecordsPerSubject: m } = settings;
  const samplingRate = exactRate(settings.batch / settings.rows);
  const steps = stepsOf(settings);
  const rate = customerRate(samplingRate, m);
  const noiseMultiplier = noiseMultiplierFor({ samplingRate: rate, times: steps, epsilon, delta });
  const sensitivity = m * recordSensitivity({ gridBits: GRID_BITS });
  // Variances less 4 of several banks add up (GUARANTEES.md), so in mode `sum` each adds one honest bank's part.
  const charged = mode === 'site' ? 1 : sites - colluders - dropouts;
  const readers = sites - dropouts;
  const noise = noiseForMultiplier(sensitivity ** 2, noiseMultiplier / Math.sqrt(charged));
  const lossAt = (multiplier: number, against: string): SgdLoss => {
    const event: PrivacyEvent = {
      kind: 'subsampledGaussian',
      noiseMultiplier: multiplier,
      samplingRate: rate,
      times: steps,
    };
    return { noiseMultiplier: multiplier, epsilon: composedEpsilon([event], delta), against };
  };
  const losses = {
    aggregator: lossAt(
      noiseMultiplier,
      mode === 'site'
        ? 'whoever reads the sums of the bank: aggregator, other banks, readers of the model, even together'
        : aggregatorAnd(colluders),
    ),
    readers: lossAt(
      // A step down covers the rounding of square root, quotient and product.
      readers === charged ? noiseMultiplier : noiseMultiplier * Math.sqrt(readers / charged) * (1 - 2 ** -50),
      `readers of the model, who see only sums with the noise of at least ${readers} ${readers === 1 ? 'bank' : 'banks'}`,
    ),
  };
  const partial = { noiseMultiplier, samplingRate, customerRate: rate, steps, sensitivity, ...noise };
  return {
    ...partial,
    epsilon: losses.aggregator.epsilon,
    losses,
    text: statementText(settings, partial, losses),
  };
}

/** Gradient steps of the training, at least 1. */
export function stepsOf(settings: Pick<SgdSettings, 'epochs' | 'rows' | 'batch'>): number {
  return Math.max(1, Math.round((settings.epochs * settings.rows) / settings.batch));
}

/** 1 - (1 - q)^m, rounded up and at most 1; q itself for m = 1. */
export function customerRate(samplingRate: number, records: number): number {
  if (records === 1 || samplingRate === 1) return samplingRate;
  return Math.min(1, -Math.expm1(records * Math.log1p(-samplingRate)) * (1 + 2 ** -40));
}

function statementText(
  settings: SgdSettings,
  { noiseMultiplier, samplingRate, steps }: Pick<SgdStatement, 'noiseMultiplier' | 'samplingRate' | 'steps'>,
  losses: SgdStatement['losses'],
): string[] {
  const { family, epsilon, delta, maxRecordsPerSubject: m, clippingNorm, mode, sites, colluders, dropouts } = settings;
  const what = family === 'mlp' ? `MLP ${settings.hidden.join('-')}` : 'Logistic regression';
  return [
    `${what} by DP-SGD: one customer of one bank is protected with epsilon ${epsilon} at delta ${delta} (add or ` +
      `remove all records of the customer, at most ${m} used).`,
    `Releases: ${steps} gradient sums; each record is in each with probability ${figure(samplingRate)}, its gradient ` +
      `shortened to L2 norm ${figure(clippingNorm)} on the grid ${figure(clippingNorm)}/${2 ** GRID_BITS}, so that a ` +
      `customer moves a sum by at most ${figure(m * clippingNorm)}.`,
    `Noise: discrete Gaussian, ${figure(noiseMultiplier)} times that in every coordinate, ` +
      (mode === 'site'
        ? 'by each bank itself.'
        : `by ${sites - colluders - dropouts} of the ${sites} banks together (${colluders} may collude, ${dropouts} ` +
          'may drop out).'),
    `Loss: epsilon ${figureUp(losses.aggregator.epsilon)} against ${losses.aggregator.against}.`,
    `Loss: epsilon ${figureUp(losses.readers.epsilon)} against ${losses.readers.against}.`,
    'The number of records in a batch is private and used nowhere; sums are divided by the public expected number.',
  ];
}
