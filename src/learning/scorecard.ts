/**
 * The scorecard document: a finished model, its identity, its scores and its reasons.
 *
 * Format `veilrisk-scorecard/1`; identity is SHA-256 over the RFC 8785 form. Weights are centred: the mean
 * contribution of each field over the portfolio, by the released noisy counts, is zero, and the intercept holds the
 * rest. A weight is therefore how far that bin moves the logit from the average record, which is what a reason says.
 * Fields that the contract calls monotone are made so first (monotone.ts).
 * Limit: the mean is over the noisy counts, so a reason is relative to a slightly blurred portfolio.
 */
import { z } from 'zod';
import { canonicalHash } from '../canonical.ts';
import { type Contract, contractHash, layoutOf } from '../contract/contract.ts';
import { LearningError } from '../errors.ts';
import { offsetsOf } from './binned.ts';
import { readModel } from './modelDocument.ts';
import { monotoneFit } from './monotone.ts';
import { planHash } from './plan.ts';
import { resolutionOf } from './resolution.ts';
import { scoreOf } from './score.ts';
import type { TrainerState } from './trainer.ts';

export { probabilityOf } from './score.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/, { error: 'must be 64 lower-case hexadecimal digits' });
// Far beyond any real log-odds; keeps every sum of weights finite.
const weight = z.number().min(-1e6).max(1e6);

const scorecardSchema = z.strictObject({
  format: z.literal('veilrisk-scorecard/1'),
  contractHash: digest,
  intercept: weight,
  /** weights[k][bin]: how far the bin moves the logit from the average record. */
  weights: z.array(z.array(weight).min(1)).min(1),
  /**
   * Standard error of each weight that comes from the noise of the training: an upper bound, before shrinkage and without
   * the sampling of records. 1.96 of it either way is a band that the noise leaves in at most 5 % of trainings.
   */
  standardErrors: z.array(z.array(z.number().min(0).max(1e6)).min(1)).optional(),
  scaling: z.strictObject({
    anchorLogit: z.number().min(-50).max(50),
    anchorScore: z.literal(500),
    pointsToDouble: z.literal(50),
    /** Absent when training clipped no residual. */
    residualBound: z.number().min(0.5).lt(1).optional(),
  }),
  training: z.strictObject({
    planHash: digest,
    mode: z.enum(['site', 'sum']),
    sites: z.int().min(1),
    rounds: z.int().min(1),
    epsilon: z.number().positive(),
    delta: z.number().positive().max(1),
    unit: z.literal('customer'),
  }),
});

export type Scorecard = z.infer<typeof scorecardSchema>;

/**
 * Reads a model from outside and checks that it belongs to the contract.
 *
 * @throws LearningError MODEL_INVALID, or MODEL_CONTRACT_MISMATCH when it was trained under another contract.
 */
export function parseScorecard(json: unknown, contract: Contract): Scorecard {
  const model = readModel(scorecardSchema, json, contract);
  const { sizes } = layoutOf(contract);
  const fits = (fields: readonly (readonly number[])[]) =>
    fields.length === sizes.length && fields.every((field, k) => field.length === sizes[k]);
  if (!fits(model.weights) || !fits(model.standardErrors ?? model.weights)) {
    throw new LearningError('MODEL_INVALID', 'the weights do not match the bins of the contract', { where: 'weights' });
  }
  return model;
}

/** 64 lower-case hexadecimal digits, the model's identity. */
export function modelHash(model: Scorecard): string {
  return canonicalHash(model);
}

/** The finished model. @throws LearningError TRAINING_INPUT before the last round. */
export function toModel(state: TrainerState, contract: Contract): Scorecard {
  const { plan, counts, baseRate } = state;
  if (state.round < plan.rounds) throw new LearningError('TRAINING_INPUT', 'rounds of the plan are still missing');
  if (plan.contractHash !== contractHash(contract)) {
    throw new LearningError('MODEL_CONTRACT_MISMATCH', 'the plan belongs to another contract', {
      where: 'contractHash',
    });
  }
  const { shape, expand } = resolutionOf(state.shape, plan.knots);
  const { offsets } = offsetsOf(shape.sizes);
  let { intercept } = state.model;
  const weights = state.model.weights.map((learnt, k) => {
    const mine = learnt.map((_, j) => Math.max(0, counts[offsets[k] + j]));
    const field = monotoneField(contract.fields[k], learnt, mine, shape.ordered[k]);
    let sum = 0;
    let mass = 0;
    field.forEach((value, j) => {
      sum += mine[j] * value;
      mass += mine[j];
    });
    const mean = mass === 0 ? 0 : sum / mass;
    intercept += mean;
    return field.map((value) => value - mean + 0);
  });
  return parseScorecard(
    {
      format: 'veilrisk-scorecard/1',
      contractHash: plan.contractHash,
      intercept,
      weights: expand(weights),
      // Of a value between two knots that is at most the error of their interpolation, whatever their correlation.
      standardErrors: expand(state.noiseVariance.map((field) => field.map(Math.sqrt))),
      scaling: {
        ...{ anchorLogit: Math.log(baseRate / (1 - baseRate)), anchorScore: 500, pointsToDouble: 50 },
        ...(plan.residualBound < 1 && { residualBound: plan.residualBound }),
      },
      training: {
        planHash: planHash(plan),
        mode: plan.mode,
        sites: plan.sites,
        rounds: plan.rounds,
        epsilon: plan.epsilon,
        delta: plan.delta,
        unit: 'customer',
      },
    },
    contract,
  );
}

/** `missing`, the last entry, has no place in the order. */
function monotoneField(
  field: Contract['fields'][number],
  weights: readonly number[],
  counts: readonly number[],
  ordered: number,
): readonly number[] {
  if (field.kind !== 'numeric' || field.monotone === undefined) return weights;
  // A bin that noise left without records still counts for a little, or its weight would be anything.
  const mass = counts.slice(0, ordered).map((count) => Math.max(count, 1));
  return [...monotoneFit(weights.slice(0, ordered), mass, field.monotone), ...weights.slice(ordered)];
}

/** logit of a record. @param bins one bin per field, as binRecord gives. */
export function logitOf(model: Pick<Scorecard, 'intercept' | 'weights'>, bins: ArrayLike<number>): number {
  let logit = model.intercept;
  for (let k = 0; k < model.weights.length; k++) {
    const contribution = model.weights[k][bins[k]];
    if (contribution === undefined) {
      throw new LearningError('MODEL_CONTRACT_MISMATCH', 'the record has a bin that the model does not know', {
        where: `field ${k}`,
      });
    }
    logit += contribution;
  }
  return logit;
}

/** Whole points in [0, 1000]: 500 at the portfolio's base rate, 50 more each time the odds double. */
export function riskScore(model: Pick<Scorecard, 'scaling'>, logit: number): number {
  return scoreOf(model.scaling, logit);
}

export interface ScoreReason {
  code: string;
  text: string;
  field: string;
  /** How far the field moved the logit from the average record; positive raises the risk. */
  contribution: number;
  direction: 'raises' | 'lowers';
}

/** The fields that raised the risk most, most adverse first; when fewer than `most` raise it, the rest lowered it least. */
export function reasonsFor(
  model: Pick<Scorecard, 'weights'>,
  contract: Contract,
  bins: ArrayLike<number>,
  most = 4,
): ScoreReason[] {
  const reasons = contract.fields.map((field, k): ScoreReason => {
    const contribution = model.weights[k]?.[bins[k]];
    if (contribution === undefined) {
      throw new LearningError('MODEL_CONTRACT_MISMATCH', 'the record has a bin that the model does not know', {
        where: field.name,
      });
    }
    const direction = contribution > 0 ? 'raises' : 'lowers';
    return { code: field.reason.code, text: field.reason.text, field: field.name, contribution, direction };
  });
  // Array.sort is stable: equal contributions keep the contract's order.
  return reasons.sort((a, b) => b.contribution - a.contribution).slice(0, most);
}
