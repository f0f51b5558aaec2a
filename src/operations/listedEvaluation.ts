/** The federated evaluation of a stored model, as a node lists it. */
import { readEvaluation } from '../learning/modelEvaluation.ts';
import type { ScoreEstimates } from '../learning/scoreEstimate.ts';

/** Measures with 95 % intervals; each is null where the noise hides it. */
export type ListedEvaluation = ScoreEstimates & {
  /** Share of the customers who trained nothing and evaluate. */
  holdout: number;
  /** How many sites sent a histogram. */
  sites: number;
};

/** @param evidence as `adoptModel` stored it, after it was checked. */
export function evaluationIn(evidence: Uint8Array | null): ListedEvaluation | null {
  if (evidence === null) return null;
  // Safe: operations/training.ts writes the evidence of a plan's model as JSON; the member is checked before use.
  const { evaluation } = JSON.parse(new TextDecoder().decode(evidence)) as { evaluation?: unknown };
  if (evaluation === undefined || evaluation === null) return null;
  const { result, holdout } = readEvaluation(evaluation);
  return result === null ? null : { ...result.measures, holdout, sites: result.sites.length };
}
