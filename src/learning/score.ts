/**
 * From logit to probability and to the score people read.
 *
 * Points to double the odds: the usual scaling of credit scorecards (Siddiqi, Credit Risk Scorecards, 2006, ch. 6),
 * pointing upward with risk. Pure and small because callers use it on decrypted logits too.
 *
 * A training that clips residuals at c < 1 learns a logit whose sigmoid p is not the probability q: its optimum solves
 * q min(c, 1 - p) = (1 - q) min(c, p), a proper composite loss with another link (Reid, Williamson, JMLR 2010). The link
 * is strictly increasing and known, so ranking is kept and the probability recovered: `calibratedLogit`.
 */
import { LearningError } from '../errors.ts';

export interface Scaling {
  /** Logit that scores `anchorScore`: the private base rate of the portfolio, as a logit. */
  readonly anchorLogit: number;
  readonly anchorScore: number;
  /** Points by which the score rises when the odds double. */
  readonly pointsToDouble: number;
  /** c, at which training clipped the residuals, in [1/2, 1]; absent when it clipped none. */
  readonly residualBound?: number | undefined;
}

/** Log-odds of the positive label, from the logit of a model trained with that residual bound. */
export function calibratedLogit(logit: number, residualBound = 1): number {
  requireFinite(logit);
  // p < 1 - c: the residual of a positive is clipped, q / (1 - q) = p / c. By symmetry for p > c.
  const kink = Math.log((1 - residualBound) / residualBound);
  if (logit < kink) return logit - Math.log1p(Math.exp(logit)) - Math.log(residualBound);
  if (logit > -kink) return logit + Math.log1p(Math.exp(-logit)) + Math.log(residualBound);
  return logit;
}

/** The inverse of `calibratedLogit`: the logit that such a training learns where the label has this rate, in (0, 1). */
export function learntLogit(rate: number, residualBound = 1): number {
  const odds = rate / (1 - rate);
  const rarer = Math.min(odds, 1 / odds);
  const p = rarer <= (1 - residualBound) / residualBound ? residualBound * rarer : rarer / (1 + rarer);
  const logit = Math.log(p / (1 - p));
  return odds <= 1 ? logit : -logit;
}

/** Probability of the positive label, in (0, 1) up to rounding; `logit` finite. */
export function probabilityOf(logit: number, residualBound = 1): number {
  const calibrated = calibratedLogit(logit, residualBound);
  if (calibrated >= 0) return 1 / (1 + Math.exp(-calibrated));
  const odds = Math.exp(calibrated);
  return odds / (1 + odds);
}

/** Whole points in [0, 1000], higher is riskier; clamped at both ends. */
export function scoreOf(scaling: Scaling, logit: number): number {
  const calibrated = calibratedLogit(logit, scaling.residualBound);
  const points = scaling.anchorScore + ((calibrated - scaling.anchorLogit) / Math.LN2) * scaling.pointsToDouble;
  return Math.round(Math.min(1000, Math.max(0, points)));
}

function requireFinite(logit: number): void {
  if (!Number.isFinite(logit)) {
    throw new LearningError('MODEL_INVALID', 'the logit is not a finite number', { where: 'logit' });
  }
}
