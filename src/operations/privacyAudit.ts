/**
 * `veilrisk privacy-audit`: attacks the mechanisms of this installation and compares what the attack proves with what
 * they promise.
 *
 * The promise is contradicted when a lower bound on the loss exceeds it. Two bounds are computed from two thresholds, each
 * at half of the allowed error, so a sound mechanism is accused with probability at most 1 - confidence:
 * - epsilon, by Clopper-Pearson: contradicts (epsilon, delta) whatever the mechanism is. At delta 10^-6 it is loose.
 * - mu: contradicts mu-GDP, which is what the ledger books and what epsilon is computed from. The epsilon it is shown as
 *   is a lower bound only for a mechanism that is Gaussian; the contradiction of mu needs no such assumption.
 *
 * Limit: finding nothing proves nothing. The bound is about one customer, one data set and one attacker.
 */
import { availableParallelism } from 'node:os';
import { RequestError } from '../errors.ts';
import { attack, epsilonLowerBound, type Finding, muLowerBound, type Trials } from '../privacy/canary.ts';
import { gdpEpsilon } from '../privacy/gdp.ts';
import { type AuditPool, openAuditPool } from '../workers/audit/auditPool.ts';
import { openCanary } from '../workers/audit/canaries.ts';
import {
  type AuditSetting,
  type Canary,
  FAULTS,
  type Fault,
  MECHANISMS,
  type MechanismName,
} from '../workers/audit/setting.ts';

export type { Fault, MechanismName };
export { FAULTS, MECHANISMS };

export interface AuditOptions {
  readonly epsilon: number;
  readonly delta: number;
  /** Half of them with the customer, half without. */
  readonly trials: number;
  /** Of both bounds together, in [0.5, 1 - 10^-12]. */
  readonly confidence: number;
}

export interface AuditReport {
  readonly mechanism: MechanismName;
  readonly broken: Fault;
  readonly about: Canary['about'];
  readonly promised: Canary['promise'];
  readonly trials: number;
  readonly confidence: number;
  /** Assumes nothing. */
  readonly epsilonLowerBound: number;
  readonly epsilonAttack: Finding;
  /** Of a mu-GDP mechanism, and the epsilon at delta that a Gaussian mechanism of this mu has. */
  readonly muLowerBound: number;
  readonly epsilonLowerBoundIfGaussian: number;
  readonly muAttack: Finding;
  readonly contradicts: readonly ('epsilon' | 'mu')[];
  readonly seconds: number;
}

export const DEFAULTS: AuditOptions = { epsilon: 1, delta: 1e-6, trials: 200_000, confidence: 0.999_999 };

const MOST_TRIALS = 20_000_000;
const FEWEST_TRIALS = 1_000;

/** What the trials of a mechanism prove. Pure. */
export function judge(setting: AuditSetting, canary: Canary, trials: Trials, confidence: number) {
  const { promise } = canary;
  const alpha = (1 - confidence) / 2;
  const epsilonAttack = attack(trials, (rates) => epsilonLowerBound(rates, setting.delta), alpha);
  const muAttack = attack(trials, muLowerBound, alpha);
  const epsilon = epsilonLowerBound(epsilonAttack.rates, setting.delta);
  const mu = muLowerBound(muAttack.rates);
  const contradicts: ('epsilon' | 'mu')[] = [];
  if (epsilon > promise.epsilon) contradicts.push('epsilon');
  if (mu > promise.mu) contradicts.push('mu');
  return {
    epsilonLowerBound: epsilon,
    epsilonAttack,
    muLowerBound: mu,
    epsilonLowerBoundIfGaussian: gdpEpsilon(mu, setting.delta),
    muAttack,
    contradicts,
  };
}

/**
 * Audits mechanisms one after the other.
 *
 * @param onProgress called with the name under audit and the share of all trials done, in [0, 1].
 * @throws RequestError USAGE for options out of range; PrivacyError, LearningError for a promise no mechanism can make.
 */
export async function auditMechanisms(
  wanted: readonly { mechanism: MechanismName; broken: Fault }[],
  options: AuditOptions,
  onProgress?: (what: string, share: number) => void,
): Promise<AuditReport[]> {
  requireOptions(options);
  const settings = wanted.map((one): AuditSetting => ({ ...one, epsilon: options.epsilon, delta: options.delta }));
  // Before any thread starts: a promise that cannot be made is refused at once.
  const canaries = settings.map(openCanary);
  const each = Math.ceil(options.trials / 2);
  const pool = openAuditPool(Math.min(2, availableParallelism()));
  try {
    const reports: AuditReport[] = [];
    for (const [i, setting] of settings.entries()) {
      const name = setting.broken === 'none' ? setting.mechanism : `${setting.mechanism}, broken ${setting.broken}`;
      reports.push(
        await auditOne(pool, setting, canaries[i], each, (share) => onProgress?.(name, (i + share) / settings.length)),
      );
    }
    return reports;
  } finally {
    await pool.close();
  }

  async function auditOne(
    pool: AuditPool,
    setting: AuditSetting,
    canary: Canary,
    each: number,
    onShare: (share: number) => void,
  ): Promise<AuditReport> {
    const started = performance.now();
    onShare(0);
    const trials = await pool.run(setting, each, (done) => onShare(done / (2 * each)));
    const { mechanism, broken } = setting;
    const verdict = judge(setting, canary, trials, options.confidence);
    return {
      ...{ mechanism, broken, about: canary.about, promised: canary.promise },
      ...{ trials: 2 * each, confidence: options.confidence, ...verdict },
      seconds: (performance.now() - started) / 1000,
    };
  }
}

function requireOptions({ trials, confidence }: AuditOptions): void {
  if (!(trials >= FEWEST_TRIALS && trials <= MOST_TRIALS)) {
    throw new RequestError('USAGE', `The number of trials must lie in [${FEWEST_TRIALS}, ${MOST_TRIALS}].`, {
      where: '--trials',
    });
  }
  if (!(confidence >= 0.5 && confidence <= 1 - 1e-12)) {
    throw new RequestError('USAGE', 'The confidence must lie in [0.5, 1 - 1e-12].', { where: '--confidence' });
  }
}
