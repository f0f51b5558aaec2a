/**
 * `veilrisk privacy-audit`: attacks the mechanisms of this installation and compares what the attack proves with what
 * they promise.
 *
 * The promise is contradicted when a lower bound on the loss exceeds it. Two bounds are computed from two thresholds, each
 * at half of the allowed error, so a sound mechanism is accused with probability at most 1 - confidence:
 * - epsilon, by Clopper-Pearson: contradicts (epsilon, delta) whatever the mechanism is. At delta 10^-6 it is loose.
 * - what is booked: mu-GDP, from which epsilon at every delta is computed, or for DP-SGD the curve of deltas. A
 *   contradiction assumes nothing either. The epsilon that a proved mu is shown as does: that the mechanism is Gaussian.
 *
 * Limit: finding nothing proves nothing. The bound is about one customer, one data set and one attacker.
 */
import { availableParallelism } from 'node:os';
import { RequestError } from '../errors.ts';
import {
  attack,
  closestTo,
  epsilonLowerBound,
  type Finding,
  type Measure,
  muLowerBound,
  type PrivacyCurve,
  shareOf,
  type Trials,
} from '../privacy/canary.ts';
import { gdpEpsilon } from '../privacy/gdp.ts';
import { openAuditPool } from '../workers/audit/auditPool.ts';
import {
  type About,
  FAULTS,
  type Fault,
  MECHANISMS,
  type MechanismName,
  type Promised,
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

export interface AuditReport extends Verdict {
  readonly mechanism: MechanismName;
  readonly broken: Fault;
  readonly about: About;
  readonly promised: Pick<Promised, 'epsilon' | 'delta'>;
  readonly trials: number;
  readonly confidence: number;
  readonly seconds: number;
}

/** What the trials of a mechanism prove. */
export interface Verdict {
  /** Assumes nothing about the mechanism. */
  readonly epsilonLowerBound: number;
  readonly epsilonAttack: Finding;
  /** Against what is booked; a proved loss above the promised one contradicts it. */
  readonly booked: BookedMu | BookedCurve;
  readonly bookedAttack: Finding;
  readonly contradicts: readonly ('epsilon' | 'mu' | 'curve')[];
}

export interface BookedMu {
  readonly kind: 'mu';
  readonly promised: number;
  readonly proved: number;
  /** Epsilon at the promise's delta of a Gaussian mechanism of the proved mu. */
  readonly epsilonIfGaussian: number;
}

/** At the epsilon of the promised curve that comes closest, or is contradicted most: deltas. */
export interface BookedCurve {
  readonly kind: 'curve';
  readonly epsilon: number;
  readonly promised: number;
  readonly proved: number;
}

export const DEFAULTS: AuditOptions = { epsilon: 1, delta: 1e-6, trials: 100_000, confidence: 0.999_999 };

const MOST_TRIALS = 10_000_000;
const FEWEST_TRIALS = 1_000;

/** Pure. @param confidence that no bound of the verdict exceeds the truth. */
export function judge(
  { epsilon: promised, delta, booked: book }: Promised,
  trials: Trials,
  confidence: number,
): Verdict {
  const alpha = (1 - confidence) / 2;
  const epsilonAttack = attack(trials, (rates) => epsilonLowerBound(rates, delta), alpha);
  const epsilon = epsilonLowerBound(epsilonAttack.rates, delta);
  const bookedAttack = attack(trials, 'mu' in book ? muLowerBound : gapTo(book.curve), alpha);
  const booked = 'mu' in book ? muOf(book.mu, delta, bookedAttack) : curveOf(book.curve, bookedAttack);
  const contradicts: ('epsilon' | 'mu' | 'curve')[] = [];
  if (epsilon > promised) contradicts.push('epsilon');
  if (booked.proved > booked.promised) contradicts.push(booked.kind);
  return { epsilonLowerBound: epsilon, epsilonAttack, booked, bookedAttack, contradicts };
}

function muOf(promised: number, delta: number, { rates }: Finding): BookedMu {
  const proved = muLowerBound(rates);
  return { kind: 'mu', promised, proved, epsilonIfGaussian: gdpEpsilon(proved, delta) };
}

function curveOf(curve: PrivacyCurve, { rates }: Finding): BookedCurve {
  return { kind: 'curve', ...closestTo(curve, rates) };
}

function gapTo(curve: PrivacyCurve): Measure {
  return (rates) => shareOf(closestTo(curve, rates));
}

/**
 * Audits mechanisms one after the other.
 *
 * @param onProgress called with the name under audit and the share of all trials done, in [0, 1].
 * @throws RequestError USAGE for options out of range; PrivacyError PRIVACY_PARAMETER for a promise no mechanism can make;
 *   WorkerError WORKER_FAILED.
 */
export async function auditMechanisms(
  wanted: readonly { mechanism: MechanismName; broken: Fault }[],
  options: AuditOptions,
  onProgress?: (what: string, share: number) => void,
): Promise<AuditReport[]> {
  requireOptions(options);
  const { epsilon, delta, confidence } = options;
  const each = Math.ceil(options.trials / 2);
  const pool = openAuditPool(Math.min(2, availableParallelism()));
  try {
    const reports: AuditReport[] = [];
    for (const [i, { mechanism, broken }] of wanted.entries()) {
      const started = performance.now();
      const name = broken === 'none' ? mechanism : `${mechanism}, broken ${broken}`;
      const progress = (share: number) => onProgress?.(name, (i + share) / wanted.length);
      progress(0);
      const setting = { mechanism, broken, epsilon, delta };
      const { about, promised } = await pool.describe(setting);
      const trials = await pool.run(setting, each, (done) => progress(done / each));
      reports.push({
        ...{ mechanism, broken, about, promised: { epsilon: promised.epsilon, delta } },
        ...{ trials: 2 * each, confidence, ...judge(promised, trials, confidence) },
        seconds: (performance.now() - started) / 1000,
      });
    }
    return reports;
  } finally {
    await pool.close();
  }
}

function requireOptions({ trials, confidence }: AuditOptions): void {
  if (!(trials >= FEWEST_TRIALS && trials <= MOST_TRIALS)) {
    throw new RequestError('USAGE', `The number of trials must lie in [${FEWEST_TRIALS}, ${MOST_TRIALS}].`, {
      where: '--trials',
      fix: 'The default, 100000, finds every fault that `--self-test` puts in.',
    });
  }
  if (!(confidence >= 0.5 && confidence <= 1 - 1e-12)) {
    throw new RequestError('USAGE', 'The confidence must lie in [0.5, 1 - 1e-12].', {
      where: '--confidence',
      fix: 'The default is 0.999999: one false accusation in a million runs.',
    });
  }
}
