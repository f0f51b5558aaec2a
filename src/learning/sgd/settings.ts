/**
 * The settings of one DP-SGD training: the public document that fixes, before anything runs, what is released.
 *
 * Identity is SHA-256 of the RFC 8785 form. Every default follows from public facts (contract, promised loss, number
 * of records as publicly known, number of banks); nothing in it may be tuned on private data.
 */
import { z } from 'zod';
import { canonicalHash } from '../../canonical.ts';
import { type Contract, contractHash } from '../../contract/contract.ts';
import { LearningError } from '../../errors.ts';

const settingsSchema = z
  .strictObject({
    format: z.literal('veilrisk-sgd/1'),
    contractHash: z.string().regex(/^[0-9a-f]{64}$/, { error: 'must be 64 lower-case hexadecimal digits' }),
    family: z.enum(['logistic', 'mlp']),
    /** Outputs of each hidden layer; none for logistic regression. */
    hidden: z.array(z.int().min(1).max(1024)).max(4),
    /** Expected passes over the records: steps = epochs rows / batch. */
    epochs: z.number().min(0.01).max(10_000),
    /** Expected records in a batch, over all banks; each record is in it with probability batch / rows. */
    batch: z.int().min(1),
    /** Records of all banks together, as publicly known. The true number is private and never used. */
    rows: z.int().min(1).max(1e9),
    learningRate: z.number().min(1e-6).max(100),
    /**
     * C: the L2 norm to which the gradient of one record is shortened. Not below 0.02: what squares too small for a
     * double leave out of a norm would then count.
     */
    clippingNorm: z.number().min(0.02).max(1e6),
    /** Loss per bank and customer of the whole training. */
    epsilon: z.number().min(0.01).max(100),
    delta: z.number().min(1e-12).max(1e-2),
    maxRecordsPerSubject: z.int().min(1).max(1000),
    sites: z.int().min(1).max(100),
    /** `site`: each bank's sum is private by itself; `sum`: only the sum over the banks is. */
    mode: z.enum(['site', 'sum']),
    /** Banks that may collude with the aggregator, and banks whose sums may be missing; 0 in mode `site`. */
    colluders: z.int().min(0).max(99),
    dropouts: z.int().min(0).max(99),
  })
  .refine((settings) => settings.mode === 'sum' || settings.colluders + settings.dropouts === 0, {
    path: ['colluders'],
    error: 'must be 0, like dropouts, in mode site, whose promise needs no other bank',
  })
  .refine((settings) => settings.colluders + settings.dropouts < settings.sites, {
    path: ['colluders'],
    error: 'must leave, with dropouts, at least one bank that adds noise',
  })
  .refine((settings) => settings.batch <= settings.rows, { path: ['batch'], error: 'must not exceed rows' })
  .refine((settings) => (settings.family === 'logistic') === (settings.hidden.length === 0), {
    path: ['hidden'],
    error: 'must be empty for logistic regression and not empty for an MLP',
  });

export type SgdSettings = z.infer<typeof settingsSchema>;

/** Reads settings from outside. @throws LearningError TRAINING_INPUT with one issue per rule broken. */
export function parseSgd(json: unknown): SgdSettings {
  const parsed = settingsSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({
    field: issue.path.length === 0 ? '(document)' : issue.path.map(String).join('.'),
    rule: issue.message,
  }));
  throw new LearningError('TRAINING_INPUT', `The settings are not valid: ${issues[0].field}: ${issues[0].rule}`, {
    where: issues[0].field,
    fix: 'Correct the settings; every field is described in src/learning/sgd/settings.ts.',
    issues,
  });
}

/** SHA-256 of the RFC 8785 form, 64 lower-case hexadecimal digits. */
export function settingsHash(settings: SgdSettings): string {
  return canonicalHash(settings);
}

export interface SgdFacts {
  contract: Contract;
  family: 'logistic' | 'mlp';
  epsilon: number;
  delta: number;
  /** Rough number of records of all banks together, as publicly known. */
  rows: number;
  sites: number;
  mode: 'site' | 'sum';
  /** Mode `sum` only; 0 when left out. */
  colluders?: number;
  dropouts?: number;
}

// The promise of a step depends on sigma and the sampling rate alone, and noise weighs least on large batches, so the
// default batch is everything; the cap bounds the time of a step where records are many and noise matters little.
const LARGEST_BATCH = 50_000;

// Fixed once on public data sets. The noise in a gradient grows with the square root of the number of weights: one hidden
// layer of 32 is worth more than 64-32 until data is plentiful.
const DEFAULTS = {
  logistic: { hidden: [], steps: 50, learningRate: 0.2, clippingNorm: 2.5 },
  mlp: { hidden: [32], steps: 50, learningRate: 0.06, clippingNorm: 1.5 },
} as const;

/** Settings that follow from public facts by fixed rules. @throws LearningError TRAINING_INPUT. */
export function defaultSgd(facts: SgdFacts): SgdSettings {
  const { contract, family, epsilon, delta, rows, sites, mode } = facts;
  const { hidden, steps, learningRate, clippingNorm } = DEFAULTS[family];
  const batch = Math.min(rows, LARGEST_BATCH);
  return parseSgd({
    format: 'veilrisk-sgd/1',
    contractHash: contractHash(contract),
    family,
    hidden: [...hidden],
    epochs: (steps * batch) / rows,
    batch,
    rows,
    learningRate,
    clippingNorm,
    epsilon,
    delta,
    maxRecordsPerSubject: contract.maxRecordsPerSubject,
    sites,
    mode,
    colluders: facts.colluders ?? 0,
    dropouts: facts.dropouts ?? 0,
  });
}
