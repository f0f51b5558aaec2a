/**
 * From logit to probability and to the score people read.
 *
 * Points to double the odds: the usual scaling of credit scorecards (Siddiqi, Credit Risk Scorecards, 2006, ch. 6),
 * pointing upward with risk. Pure and small because callers use it on decrypted logits too.
 */
import { LearningError } from '../errors.ts';

export interface Scaling {
  /** Logit that scores `anchorScore`: the private base rate of the portfolio, as a logit. */
  readonly anchorLogit: number;
  readonly anchorScore: number;
  /** Points by which the score rises when the odds double. */
  readonly pointsToDouble: number;
}

/** Probability of the positive label, in (0, 1) up to rounding; `logit` finite. */
export function probabilityOf(logit: number): number {
  requireFinite(logit);
  if (logit >= 0) return 1 / (1 + Math.exp(-logit));
  const odds = Math.exp(logit);
  return odds / (1 + odds);
}

/** Whole points in [0, 1000], higher is riskier; clamped at both ends. */
export function scoreOf(scaling: Scaling, logit: number): number {
  requireFinite(logit);
  const points = scaling.anchorScore + ((logit - scaling.anchorLogit) / Math.LN2) * scaling.pointsToDouble;
  return Math.round(Math.min(1000, Math.max(0, points)));
}

function requireFinite(logit: number): void {
  if (!Number.isFinite(logit)) {
    throw new LearningError('MODEL_INVALID', 'the logit is not a finite number', { where: 'logit' });
  }
}
