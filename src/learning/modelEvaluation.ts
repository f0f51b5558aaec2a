/**
 * The evaluation of a federated model, as the aggregator signs it with the model: what was measured, over whom, how
 * noisy, and the noisy histogram itself, from which anyone can compute the measures again.
 *
 * Format `veilrisk-evaluation/1`, RFC 8785 on the wire. Limit: it is as true as the histograms the sites sent and as the
 * aggregator's sum of them; a site that wants to know more evaluates on its own data.
 */
import { z } from 'zod';
import { LearningError } from '../errors.ts';
import { approximately, rationalText } from '../privacy/rational.ts';
import { type FederatedPlan, statementOf } from './federatedPlan.ts';
import type { ScoreScale } from './scoreCalibration.ts';
import { estimate } from './scoreEstimate.ts';
import { DENSE_GRID, SCORE_BINS, SCORE_CELLS, SCORECARD_GRID } from './scoreHistogram.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/, { error: 'must be 64 lower-case hexadecimal digits' });
const measure = z.strictObject({ estimate: z.number(), low: z.number(), high: z.number() }).nullable();

const schema = z
  .strictObject({
    format: z.literal('veilrisk-evaluation/1'),
    planHash: digest,
    modelHash: digest,
    /** Share of each site's customers who trained nothing and evaluate. */
    holdout: z.number().gt(0).max(0.5),
    bins: z.literal(SCORE_BINS),
    /** Sigma of the noise each site adds to each cell, as num/den. */
    sigma: z.string().regex(/^\d+\/\d+$/),
    /** Rate of every interval. */
    confidence: z.literal(0.95),
    /** Null when the evaluation round failed; then code and reason say why, else they are empty. */
    result: z
      .strictObject({
        /** Who sent a histogram, in roster order. */
        sites: z.array(z.string()).min(1).max(100),
        /** Of each cell of the sum. */
        noiseVariance: z.number().positive(),
        /** 64 cells of negatives, then 64 of positives; may be negative. */
        histogram: z.array(z.int()).length(SCORE_CELLS),
        measures: z.strictObject({
          records: measure,
          baseRate: measure,
          auc: measure,
          ks: measure,
          calibration: z.strictObject({
            inTheLarge: measure,
            slope: measure,
            groups: z.array(
              z.strictObject({ from: z.number(), to: z.number(), predicted: z.number(), observed: measure }),
            ),
          }),
        }),
      })
      .nullable(),
    code: z.string().max(64),
    reason: z.string().max(500),
  })
  .refine(({ result, code }) => (result === null) === (code !== ''), {
    path: ['code'],
    error: 'must be there exactly when there is no result',
  });

export type ModelEvaluation = z.infer<typeof schema>;

/** The round that evaluates: the one after the last gradient; null when the plan has none. */
export function evaluationRound(plan: Pick<FederatedPlan, 'rounds' | 'evaluation'>): number | null {
  return plan.evaluation === null ? null : plan.rounds + 1;
}

/** What a finished model of a plan is called and where its grid lies. */
export interface Evaluated {
  readonly plan: FederatedPlan;
  readonly planHash: string;
  readonly modelHash: string;
  /** Of a scorecard; of a dense model its `scoreCentre`. */
  readonly intercept: number;
}

/** @param sum of the noisy score histograms of `sites`. @throws LearningError TRAINING_INPUT when it is not one. */
export function evaluateModel(subject: Evaluated, sum: Float64Array, sites: readonly string[]): ModelEvaluation {
  const { intercept } = subject;
  const { plan, header, variance } = about(subject);
  // Every site adds its own noise.
  const noiseVariance = variance * sites.length;
  const { maxRecordsPerSubject } = plan;
  const measures = estimate(sum, { ...scaleOf(plan, intercept), noiseVariance, maxRecordsPerSubject });
  const result = { sites: [...sites], noiseVariance, histogram: Array.from(sum), measures };
  return { ...header, result, code: '', reason: '' };
}

/** Where the grid of a plan's model lies. Dense families clip gradients, not residuals: their logits are log-odds. */
function scaleOf(plan: FederatedPlan, intercept: number): ScoreScale {
  return plan.family === 'scorecard'
    ? { intercept, residualBound: plan.residualBound, grid: SCORECARD_GRID }
    : { intercept, residualBound: 1, grid: DENSE_GRID };
}

/** The document of an evaluation that did not come about. */
export function missingEvaluation(subject: Evaluated, code: string, reason: string): ModelEvaluation {
  return { ...about(subject).header, result: null, code, reason: reason.slice(0, 500) };
}

// Noise of one cell moves the AUC of P positives by about this many times its sigma over P: 2.7 on Adult, Taiwan and Telco,
// 4.3 on ULB, whose event is rare; of dense models 3.2 to 3.8 on all four.
const AUC_PER_CELL = 4;

/**
 * About how many positives all sites together have to hold out, so that the noise alone leaves the AUC known to within
 * `halfWidth` at 95 %, where negatives are several times as many; null without an evaluation. From public facts, before anything runs.
 */
export function positivesNeeded(plan: FederatedPlan, halfWidth: number): number | null {
  const { sigmaEvaluationSquared } = statementOf(plan);
  if (sigmaEvaluationSquared === null) return null;
  return Math.ceil((1.96 * AUC_PER_CELL * Math.sqrt(plan.sites * approximately(sigmaEvaluationSquared))) / halfWidth);
}

/** Reads an evaluation whose plan is not at hand. @throws LearningError MODEL_INVALID. */
export function readEvaluation(json: unknown): ModelEvaluation {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) => ({ field: path.map(String).join('.'), rule: message }));
  throw invalid(issues[0].field || 'evaluation', issues);
}

/**
 * Reads an evaluation from outside that must be of this plan and model.
 *
 * @param json null where none was sent. @returns null exactly when the plan asks for none.
 * @throws LearningError MODEL_INVALID.
 */
export function parseEvaluation(json: unknown, subject: Omit<Evaluated, 'intercept'>): ModelEvaluation | null {
  const { plan, planHash, modelHash } = subject;
  if (plan.evaluation === null) {
    if (json === null) return null;
    throw invalid('evaluation');
  }
  const evaluation = readEvaluation(json);
  const { header } = about(subject);
  const wrong = (Object.keys(header) as (keyof typeof header)[]).find((name) => evaluation[name] !== header[name]);
  if (wrong !== undefined || evaluation.planHash !== planHash || evaluation.modelHash !== modelHash) {
    throw invalid(wrong ?? 'evaluation');
  }
  const contributors = evaluation.result?.sites.length;
  if (contributors !== undefined && (contributors < plan.quorum || contributors > plan.sites)) {
    throw invalid('result.sites');
  }
  return evaluation;
}

function about({ plan, planHash, modelHash }: Omit<Evaluated, 'intercept'>) {
  const { sigmaEvaluation, sigmaEvaluationSquared } = statementOf(plan);
  if (plan.evaluation === null || sigmaEvaluation === null || sigmaEvaluationSquared === null) {
    throw new LearningError('TRAINING_INPUT', 'the plan has no evaluation', { where: 'evaluation' });
  }
  const header = {
    format: 'veilrisk-evaluation/1' as const,
    ...{ planHash, modelHash, holdout: plan.evaluation.holdout, bins: plan.evaluation.bins },
    sigma: rationalText(sigmaEvaluation),
    confidence: 0.95 as const,
  };
  return { plan, header, variance: approximately(sigmaEvaluationSquared) };
}

function invalid(where: string, issues?: { field: string; rule: string }[]): LearningError {
  return new LearningError('MODEL_INVALID', 'The evaluation that came with the model is not one of its plan.', {
    where,
    fix: 'Ask the aggregator for the model and evaluation of the plan that was accepted.',
    ...(issues === undefined ? {} : { issues }),
  });
}
