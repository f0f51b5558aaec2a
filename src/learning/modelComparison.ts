/**
 * Which of several evaluated models to prefer, and whether the noise allows to say so.
 *
 * From signed evaluations alone, so it costs no privacy. A difference of two measures gets its interval from those of the
 * two (MOVER: Zou, Donner, Statistics in Medicine 2008, section 2), which may be asymmetric. Each other model is compared
 * with the best at a rate of 1 - .05 / (m - 1), so that all m - 1 statements hold together with 95 % (Bonferroni); models
 * that may still be the best are those the comparison does not rule out (Hsu, Annals of Statistics 1981).
 *
 * Limits: errors of two evaluations are taken as independent. Plans over the same banks hold out the same customers, so
 * their sampling errors go the same way and the true interval is narrower: it errs toward "undecided". Widths are
 * scaled between rates as a normal's. The best of several noisy figures is flattered by being chosen; its interval is not
 * widened for that, the differences are.
 */
import { LearningError } from '../errors.ts';
import { upperQuantile } from '../privacy/canary.ts';
import type { ModelEvaluation } from './modelEvaluation.ts';
import type { Measure } from './ratioInterval.ts';

export interface Candidate {
  readonly planId: string;
  readonly contractHash: string;
  readonly evaluation: ModelEvaluation;
}

/** What a measure of the best model is above that of another; null where noise hides one of the two. */
export interface Difference {
  readonly auc: Measure;
  readonly ks: Measure;
}

export interface ComparedModel {
  readonly planId: string;
  readonly modelHash: string;
  readonly auc: Measure;
  readonly ks: Measure;
  readonly inTheLarge: Measure;
  readonly slope: Measure;
  /** Whether both calibration intervals hold 1; null where noise hides one. */
  readonly calibrated: boolean | null;
  /** Best minus this one, at the rate of all comparisons together; null for the best itself. */
  readonly behind: Difference | null;
  /** Whether this one may still be the best by AUC. */
  readonly mayBeBest: boolean;
}

export interface ModelComparison {
  readonly format: 'veilrisk-comparison/1';
  readonly confidence: 0.95;
  /** Highest AUC first; hidden ones last. */
  readonly models: ComparedModel[];
  /** The model to prefer; null when no AUC is known. */
  readonly preferred: string | null;
  /** Whether all others are worse beyond noise. */
  readonly decided: boolean;
  /** What the reader has to know before he goes by it. */
  readonly cautions: string[];
}

const CONFIDENCE = 0.95;
const Z = upperQuantile((1 - CONFIDENCE) / 2);

/** @param candidates two or more, of different plans. @throws LearningError TRAINING_INPUT. */
export function compareModels(candidates: readonly Candidate[]): ModelComparison {
  if (candidates.length < 2 || new Set(candidates.map(({ planId }) => planId)).size !== candidates.length) {
    throw new LearningError('TRAINING_INPUT', 'A comparison needs two or more models, of different plans.', {
      where: 'plans',
    });
  }
  const ranked = candidates
    .map((candidate) => ({ ...candidate, measures: candidate.evaluation.result?.measures ?? null }))
    .sort((a, b) => (b.measures?.auc?.estimate ?? -1) - (a.measures?.auc?.estimate ?? -1));
  const best = ranked[0].measures;
  const z = upperQuantile((1 - CONFIDENCE) / 2 / (candidates.length - 1));
  const models = ranked.map(({ planId, evaluation, measures }, place): ComparedModel => {
    const isBest = place === 0;
    const behind = isBest
      ? null
      : {
          auc: differenceOf(best?.auc ?? null, measures?.auc ?? null, z / Z),
          ks: differenceOf(best?.ks ?? null, measures?.ks ?? null, z / Z),
        };
    const inTheLarge = measures?.calibration.inTheLarge ?? null;
    const slope = measures?.calibration.slope ?? null;
    return {
      ...{ planId, modelHash: evaluation.modelHash, inTheLarge, slope, behind },
      ...{ auc: measures?.auc ?? null, ks: measures?.ks ?? null },
      calibrated: inTheLarge === null || slope === null ? null : holdsOne(inTheLarge) && holdsOne(slope),
      mayBeBest: isBest || behind === null || behind.auc === null || behind.auc.low <= 0,
    };
  });
  const isKnown = best?.auc != null;
  return {
    ...{ format: 'veilrisk-comparison/1', confidence: CONFIDENCE, models },
    preferred: isKnown ? models[0].planId : null,
    decided: isKnown && models.every(({ mayBeBest }, place) => place === 0 || !mayBeBest),
    cautions: cautionsOf(ranked),
  };
}

/** a - b. @param scale widens each interval, as from 95 % to another rate. */
export function differenceOf(a: Measure, b: Measure, scale = 1): Measure {
  if (a === null || b === null) return null;
  const estimate = a.estimate - b.estimate;
  const below = scale * Math.hypot(a.estimate - a.low, b.high - b.estimate);
  const above = scale * Math.hypot(a.high - a.estimate, b.estimate - b.low);
  return { estimate, low: estimate - below, high: estimate + above };
}

const holdsOne = ({ low, high }: NonNullable<Measure>): boolean => low <= 1 && high >= 1;

function cautionsOf(candidates: readonly Candidate[]): string[] {
  const cautions: string[] = [];
  const differ = (of: (candidate: Candidate) => string) => new Set(candidates.map(of)).size > 1;
  if (differ(({ contractHash }) => contractHash)) {
    cautions.push('The models have different contracts; a difference may be one of the records, not of the models.');
  }
  if (differ(({ evaluation }) => (evaluation.result?.sites ?? []).join())) {
    cautions.push('The models were evaluated by different sites, so on different customers.');
  }
  if (differ(({ evaluation }) => String(evaluation.holdout))) {
    cautions.push(
      'The plans hold out different shares of the customers: one trained on some of those who evaluate the other.',
    );
  }
  const hidden = candidates.filter(({ evaluation }) => evaluation.result?.measures.auc == null);
  for (const { planId, evaluation } of hidden) {
    const why = evaluation.code === '' ? 'the noise hides its AUC' : evaluation.code;
    cautions.push(`The model of plan ${planId} cannot be compared: ${why}.`);
  }
  return cautions;
}
