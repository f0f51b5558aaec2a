/**
 * The scorecard's releases under attack: bin counts and gradients of one bank, exactly as a node makes them.
 *
 * Worst case of every choice the promise leaves open. The attacker knows all other records and every bin of the
 * customer; it sends, as an aggregator could, models that predict the customer's label wrong with certainty, so that
 * every residual is at its bound; and it holds the likelihood ratio of all outputs together. That of the discrete Gaussian
 * with known shift d and noise sigma is linear in the output, <output - known, d> / sigma^2, so nothing is lost to a
 * choice of statistic. In mode `sum` it sees the sum and knows the noise of the colluding banks, whose share is therefore
 * left out.
 *
 * GUARANTEES.md: "Privacy audit"
 */
import { PrivacyError } from '../../errors.ts';
import { type BinnedData, checkBinned, selectRows } from '../../learning/binned.ts';
import { parsePlan, residualGrid, type TrainingPlan } from '../../learning/plan.ts';
import { type AdditiveModel, addNoise, siteCounts, siteGradient } from '../../learning/site.ts';
import { privacyStatement } from '../../learning/statement.ts';
import { sumOf } from '../../learning/train.ts';
import { boundContributions } from '../../privacy/contributions.ts';
import { gdpEpsilon, roundUp, sumUp } from '../../privacy/gdp.ts';
import { approximately, type Rational } from '../../privacy/rational.ts';
import type { AuditSetting, Canary } from './setting.ts';

// Four fields of few bins: long vectors cost time and tell the attacker nothing more.
const SIZES = [3, 2, 4, 3];
const RECORDS = 2;
const CUSTOMER = [1, 0, 3, 2];
const OTHERS = 6;
// Mode `sum`: eight banks, of which three collude and three may be absent, so two banks' noise keeps the promise.
const CONSORTIUM = { mode: 'sum', sites: 8, quorum: 5, colluders: 3, dropouts: 3 } as const;
const ALONE = { mode: 'site', sites: 1, quorum: 1, colluders: 0, dropouts: 0 } as const;

export type ScorecardPart = 'scorecard' | 'sum' | 'counts' | 'round';

/** One release: the exact vector with and without the customer, made anew in every trial, and its noise. */
interface Step {
  readonly exact: (data: BinnedData) => Float64Array;
  readonly sigmaSquared: Rational;
}

export function openScorecardCanary(setting: AuditSetting & { mechanism: ScorecardPart }): Canary {
  const { mechanism } = setting;
  const plan = planFor(setting);
  const { releases } = privacyStatement(plan);
  const isAudited = (_: unknown, round: number) => inPart(mechanism, releases[round].name);
  const mu = roundUp(Math.sqrt(sumUp(releases.filter(isAudited).map(({ muSquared }) => muSquared))));
  const steps = stepsOf(plan, setting).filter(isAudited);
  const without = trainingRows(plan, false);
  const present = trainingRows(plan, true);
  const honest = plan.sites - plan.colluders - plan.dropouts;

  // What the attacker computes beforehand: the outputs it expects, and the direction in which the customer moves them.
  const known = steps.map(({ exact }) => exact(without));
  const directions = steps.map(({ exact, sigmaSquared }, i) => {
    const variance = approximately(sigmaSquared) * honest;
    return exact(present).map((value, j) => (value - known[i][j]) / variance);
  });
  const nothing = known.map((vector) => new Float64Array(vector.length));

  return {
    about: aboutOf(setting, plan),
    promise: { epsilon: gdpEpsilon(mu, plan.delta), delta: plan.delta, mu },
    trial(isPresent, random) {
      const data = isPresent ? present : without;
      let statistic = 0;
      for (const [i, { exact, sigmaSquared }] of steps.entries()) {
        const messages = [addNoise(exact(data), sigmaSquared, random)];
        // The other honest banks: their exact sums are known to the attacker, their noise is not.
        for (let bank = 1; bank < honest; bank++) messages.push(addNoise(nothing[i], sigmaSquared, random));
        const seen = sumOf(messages);
        for (let j = 0; j < seen.length; j++) statistic += (seen[j] - known[i][j]) * directions[i][j];
      }
      return statistic;
    },
  };
}

function inPart(part: ScorecardPart, release: string): boolean {
  if (part === 'counts') return release === 'counts';
  if (part === 'round') return release === 'round-2';
  return true;
}

function planFor({ mechanism, epsilon, delta }: AuditSetting): TrainingPlan {
  return parsePlan({
    format: 'veilrisk-plan/2',
    id: `audit-${mechanism}`,
    contractHash: '0'.repeat(64),
    family: 'scorecard',
    ...(mechanism === 'sum' ? CONSORTIUM : ALONE),
    rounds: mechanism === 'round' ? 2 : 4,
    epsilon,
    delta,
    maxRecordsPerSubject: RECORDS,
    fields: SIZES.length,
    residualBits: 14,
    residualBound: mechanism === 'round' ? 0.5 : 1,
    // Where one release is audited alone, most of the plan's loss goes to it.
    countShare: mechanism === 'counts' ? 0.5 : mechanism === 'round' ? 0.001 : 0.1,
    evaluation: null,
    roundDeadlineMs: 1000,
  });
}

/** All releases of the plan in order, sound or with the fault that is to be found. */
function stepsOf(plan: TrainingPlan, { mechanism, broken }: AuditSetting): Step[] {
  const isBroken = broken === 'sensitivity';
  const believed = {
    ...plan,
    ...(isBroken && mechanism === 'scorecard' ? { fields: 1 } : {}),
    ...(isBroken && mechanism === 'counts' ? { maxRecordsPerSubject: 1 } : {}),
    ...(isBroken && mechanism === 'sum' ? { colluders: 0, dropouts: 0 } : {}),
  };
  const { sigmaCountSquared, sigmaRoundSquared } = privacyStatement(believed);
  const noise = ({ num, den }: Rational): Rational => ({ num, den: broken === 'noise' ? den * 100n : den });
  // Certain that the label is 0: every residual of the customer, whose label is 1, is 1 before it is clipped.
  const model: AdditiveModel = { intercept: -1e4, weights: SIZES.map((size) => new Array<number>(size).fill(0)) };
  const steps: Step[] = [{ exact: siteCounts, sigmaSquared: noise(sigmaCountSquared) }];
  for (let round = 1; round <= plan.rounds; round++) {
    const grid = residualGrid(isBroken && mechanism === 'round' ? { ...plan, residualBound: 1 } : plan, round);
    steps.push({ exact: (data) => siteGradient(data, model, grid), sigmaSquared: noise(sigmaRoundSquared) });
  }
  return steps;
}

function aboutOf({ mechanism, broken }: AuditSetting, plan: TrainingPlan): Canary['about'] {
  const what = {
    scorecard: `bin counts and ${plan.rounds} gradients of a scorecard plan, jointly`,
    sum: `the same, of a consortium of ${plan.sites} banks in trust mode sum`,
    counts: 'the bin counts of a scorecard plan',
    round: 'one gradient of a scorecard plan',
  };
  const attacker = 'knows all other records, sends the worst models, holds the likelihood ratio of all outputs';
  const faults = {
    scorecard: 'noise for one field, though a record moves a bin of each of K fields (sqrt(K) forgotten)',
    sum: 'each bank adds its share as though no bank colluded or were absent',
    counts: 'noise for one record of a customer, though m are used (m forgotten)',
    round: 'residuals are not clipped to the bound the noise is made for',
  };
  return {
    mechanism: what[mechanism as ScorecardPart],
    attacker: mechanism === 'sum' ? `${attacker}, and is told the noise of ${plan.colluders} banks` : attacker,
    fault:
      broken === 'none' ? 'none' : broken === 'noise' ? 'a tenth of the noise' : faults[mechanism as ScorecardPart],
  };
}

/**
 * A bank's rows after the bound on contributions, as a node loads them: others, and the customer with a record too many.
 */
function trainingRows(plan: TrainingPlan, isPresent: boolean): BinnedData {
  const customers = isPresent ? RECORDS + 1 : 0;
  const rows = OTHERS + customers;
  const bins = new Uint16Array(rows * SIZES.length);
  const labels = new Uint8Array(rows);
  const subjects: string[] = [];
  for (let row = 0; row < rows; row++) {
    const isCustomer = row >= OTHERS;
    for (let k = 0; k < SIZES.length; k++) bins[row * SIZES.length + k] = isCustomer ? CUSTOMER[k] : row % SIZES[k];
    labels[row] = isCustomer ? 1 : row % 2;
    subjects.push(isCustomer ? 'canary' : `other ${row}`);
  }
  const all = { rows, sizes: SIZES, bins, labels };
  const data = selectRows(all, boundContributions(subjects, new Uint8Array(32), plan.maxRecordsPerSubject));
  checkBinned(data);
  if (data.rows !== OTHERS + (isPresent ? RECORDS : 0)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'the contribution bound kept another number of records than it says');
  }
  return data;
}
