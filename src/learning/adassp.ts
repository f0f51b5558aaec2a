/**
 * AdaSSP: linear regression from one noisy release of its sufficient statistics, for tiny privacy budgets.
 *
 * Source: Wang, "Revisiting differentially private linear regression", UAI 2018 (arXiv 1803.02596), algorithm 2. A record
 * is the one-hot vector x of its bins with y = -1/2 or +1/2. Each bank releases once, as exact integers with exact
 * discrete noise: the diagonal of X^T X (the bin counts), 2 X^T y, and the blocks of X^T X above the diagonal over a few
 * public groups of bins (the cross table of every two fields). The rest, the adaptive penalty included, is
 * post-processing (adasspSolve.ts), and the result is an additive model over bins like a scorecard.
 *
 * Different from the paper: no third of the budget for lambda_min, because the penalty follows from the noise, which is
 * public; and the other entries of X^T X need no release, since a record never has two bins of one field.
 * Limit: least squares; from epsilon 0.5 on, several rounds of the scorecard rank better.
 *
 * GUARANTEES.md: "AdaSSP"
 */
import type { Contract } from '../contract/contract.ts';
import { LearningError } from '../errors.ts';
import { lossOf, type NoiseLevel, noiseFor } from '../privacy/gaussianMechanism.ts';
import { gdpEpsilon, muFor, roundUp, sumUp } from '../privacy/gdp.ts';
import { approximately } from '../privacy/rational.ts';
import type { RandomSource } from '../random.ts';
import { type Groups, groupsOf, solve } from './adasspSolve.ts';
import { type BinnedData, checkBinned, offsetsOf, shapeOf } from './binned.ts';
import { type AdditiveModel, addNoise, siteCounts } from './site.ts';
import { sumOf } from './train.ts';

export const GUARANTEE = 'AdaSSP';

export interface AdaSspFacts {
  /** Loss of one customer of one bank, of everything this training releases. */
  readonly epsilon: number;
  readonly delta: number;
  readonly mode: 'site' | 'sum';
  /** Mode `sum`: colluding banks and drop-outs the noise allows for, default 0. */
  readonly colluders?: number;
  readonly dropouts?: number;
}

/** What one bank releases; un-noised it must not leave the bank. */
export interface Statistics {
  /** Diagonal of X^T X: records in each bin, one-hot order. */
  readonly counts: Float64Array;
  /** 2 X^T y: positive minus negative records in each bin, one-hot order. */
  readonly labels: Float64Array;
  /** Records in each pair of groups of two fields (`Groups` has the order); empty when no cross tables are released. */
  readonly crosses: Float64Array;
}

/** One of the three parts of the release. */
export interface AdaSspRelease {
  readonly name: 'counts' | 'labels' | 'crosses';
  readonly sensitivitySquared: number;
  /** Noise EACH BANK adds. */
  readonly noise: NoiseLevel;
  /** Charged, and against readers of the model; rounded up. */
  readonly muSquared: number;
  readonly readersMuSquared: number;
}

/** The noise EACH BANK adds, and what one customer loses. */
export interface AdaSspStatement {
  readonly releases: readonly AdaSspRelease[];
  readonly counts: NoiseLevel;
  readonly labels: NoiseLevel;
  /** Null when no cross tables are released. */
  readonly crosses: NoiseLevel | null;
  /** Sum of the three losses, rounded up. */
  readonly muSquared: number;
  /** At the given delta, rounded up; at most the epsilon asked for. */
  readonly epsilon: number;
}

// Counts enter the estimate times the mean of y, labels times 1: shares in that proportion for a rare label, which is
// also close to the best for a common one. Cross tables matter only when noise is small, so they get what hurts nobody.
const COUNT_SHARE = 0.35;
const CROSS_SHARE = 0.05;

/** @throws PrivacyError PRIVACY_PARAMETER for a loss outside the range of the accountant. */
export function adaSspStatement(contract: Contract, facts: AdaSspFacts, sites: number): AdaSspStatement {
  const { epsilon, delta } = facts;
  const sensitivity = sensitivitiesSquared(contract.fields.length, contract.maxRecordsPerSubject);
  // As for a plan: 10^-9 of the loss stays unused, so that sums rounded up still fit.
  const available = muFor(epsilon, delta) ** 2 * (1 - 1e-9);
  // Mode `sum`: the noise of that many banks is in every sum and known to nobody.
  const sharers = facts.mode === 'site' ? 1 : sites - (facts.colluders ?? 0) - (facts.dropouts ?? 0);
  if (!(sharers >= 1)) {
    throw new LearningError('TRAINING_INPUT', 'colluders and drop-outs must be fewer than the banks', {
      where: 'colluders',
    });
  }
  const noise = (squared: number, share: number) => noiseFor(squared, available * share * sharers);
  const hasCrosses = sensitivity.crosses > 0;
  const counts = noise(sensitivity.counts, COUNT_SHARE);
  const crosses = hasCrosses ? noise(sensitivity.crosses, CROSS_SHARE) : null;
  const labels = noise(sensitivity.labels, 1 - COUNT_SHARE - (hasCrosses ? CROSS_SHARE : 0));
  const readers = facts.mode === 'site' ? sites : sites - (facts.dropouts ?? 0);
  const release = (name: AdaSspRelease['name'], level: NoiseLevel): AdaSspRelease => {
    const sensitivitySquared = sensitivity[name];
    const loss = (banks: number) => roundUp(lossOf(sensitivitySquared, level.sigmaSquared) / banks);
    return { name, sensitivitySquared, noise: level, muSquared: loss(sharers), readersMuSquared: loss(readers) };
  };
  const releases = [release('counts', counts), release('labels', labels)];
  if (crosses !== null) releases.push(release('crosses', crosses));
  const muSquared = sumUp(releases.map((part) => part.muSquared));
  return { releases, counts, labels, crosses, muSquared, epsilon: gdpEpsilon(roundUp(Math.sqrt(muSquared)), delta) };
}

/**
 * Squares of the L2 sensitivities to one customer of at most m records: a record has one bin in each of K fields, hence
 * K ones in the counts, K times +-1 in the labels, and one one in each of K(K-1)/2 cross tables.
 */
export function sensitivitiesSquared(
  fields: number,
  most: number,
): { counts: number; labels: number; crosses: number } {
  const crosses = fields <= MOST_CROSSED ? (most ** 2 * fields * (fields - 1)) / 2 : 0;
  return { counts: most ** 2 * fields, labels: most ** 2 * fields, crosses };
}

/** Beyond so many fields the cross tables are more noise than they say, and costly; none are released then. */
const MOST_CROSSED = 100;

/** Exact statistics of one bank; un-noised. */
export function siteStatistics(data: BinnedData, groups: Groups): Statistics {
  const { offsets, total } = offsetsOf(data.sizes);
  const fields = offsets.length;
  const labels = new Float64Array(total);
  const crosses = new Float64Array(fields <= MOST_CROSSED ? groups.pairs : 0);
  const { groupOf, sizes, starts } = groups;
  const group = new Int32Array(fields);
  for (let row = 0, at = 0; row < data.rows; row++) {
    const y = data.labels[row] === 1 ? 1 : -1;
    for (let k = 0; k < fields; k++, at++) {
      const bin = offsets[k] + data.bins[at];
      labels[bin] += y;
      group[k] = groupOf[bin];
    }
    if (crosses.length === 0) continue;
    for (let k = 0, pair = 0; k < fields; k++) {
      for (let l = k + 1; l < fields; l++, pair++) crosses[starts[pair] + group[k] * sizes[l] + group[l]]++;
    }
  }
  return { counts: siteCounts(data), labels, crosses };
}

/**
 * One-shot training over several banks, each adding its own noise from its own source.
 *
 * @param sites one data set per bank, at most `contract.maxRecordsPerSubject` records of each customer in it.
 * @param randoms one source per bank.
 * @returns an additive model whose logits are log-odds to first order around the base rate.
 */
export function trainAdaSsp(
  sites: readonly BinnedData[],
  contract: Contract,
  facts: AdaSspFacts,
  randoms: readonly RandomSource[],
): AdditiveModel {
  if (sites.length === 0 || randoms.length !== sites.length) {
    throw new LearningError('TRAINING_INPUT', 'the training needs one data set and one random source for each site');
  }
  sites.forEach(checkBinned);
  const shape = shapeOf(contract);
  const groups = groupsOf(shape);
  const statement = adaSspStatement(contract, facts, sites.length);
  const released = sites.map((data, i) => releaseOf(siteStatistics(data, groups), statement, randoms[i]));
  const spread = (level: NoiseLevel | null) =>
    (level === null ? 0 : approximately(level.sigma)) * Math.sqrt(sites.length);
  return solve(
    {
      counts: sumOf(released.map((each) => each.counts)),
      labels: sumOf(released.map((each) => each.labels)),
      crosses: sumOf(released.map((each) => each.crosses)),
    },
    { counts: spread(statement.counts), labels: spread(statement.labels), crosses: spread(statement.crosses) },
    shape,
    groups,
  );
}

/** The statistics with the noise of the statement: what leaves a bank. */
export function releaseOf(exact: Statistics, statement: AdaSspStatement, random: RandomSource): Statistics {
  return {
    counts: addNoise(exact.counts, statement.counts.sigmaSquared, random),
    labels: addNoise(exact.labels, statement.labels.sigmaSquared, random),
    crosses:
      statement.crosses === null ? exact.crosses : addNoise(exact.crosses, statement.crosses.sigmaSquared, random),
  };
}
