/**
 * What every plan of banks has, whatever its family: who takes part, whom it trusts, what it may lose, how long it
 * waits.
 */
import { z } from 'zod';
import { LearningError } from '../errors.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/, { error: 'must be 64 lower-case hexadecimal digits' });

export const planMembers = {
  format: z.literal('veilrisk-plan/3', { error: 'must be veilrisk-plan/3; no other format is read' }),
  /** Names this run; the ledger accepts the releases of one id once. */
  id: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, { error: 'must be 1 to 64 of a-z, 0-9, dot, dash, underscore' }),
  contractHash: digest,
  /** `site`: each bank's message is differentially private by itself, whoever reads it. `sum`: only the sum is. */
  mode: z.enum(['site', 'sum']),
  sites: z.int().min(1).max(100),
  /** Fewest banks whose messages make a round. */
  quorum: z.int().min(1).max(100),
  /** Mode `sum`: how many sites may show the aggregator their own noise without breaking the promise; else 0. */
  colluders: z.int().min(0).max(99),
  /** Mode `sum`: how many sites may be absent from a round; else 0. */
  dropouts: z.int().min(0).max(99),
  /** Mode `sum`: shares that reveal a secret of secure aggregation, and sites that must agree on a sum; else 0. */
  threshold: z.int().min(0).max(100),
  /** Mode `sum`: sums are made in the integers modulo 2^ringBits; else 0. */
  ringBits: z.union([z.literal(0), z.int().min(16).max(32)]),
  /** Loss per bank and customer of the whole plan. */
  epsilon: z.number().min(0.01).max(100),
  delta: z.number().min(1e-12).max(1e-2),
  maxRecordsPerSubject: z.int().min(1).max(1000),
  roundDeadlineMs: z.int().min(100).max(86_400_000),
  /** One more release after training: a histogram of the scores of customers kept out of it; null for none. */
  evaluation: z
    .strictObject({
      /** Share of the customers, by the node's keyed hash, that train nothing and evaluate the model. */
      holdout: z.number().gt(0).max(0.5),
      /** Share of mu^2 spent on it. */
      share: z.number().min(0.001).max(0.5),
      /** Score bins per label. */
      bins: z.literal(64),
    })
    .nullable(),
};

type CommonPlan = z.infer<z.ZodObject<typeof planMembers>>;

const RULES: readonly { path: keyof CommonPlan; error: string; holds: (plan: CommonPlan) => boolean }[] = [
  { path: 'quorum', error: 'must not exceed sites', holds: ({ quorum, sites }) => quorum <= sites },
  {
    path: 'colluders',
    error: 'is for mode sum only',
    holds: ({ mode, colluders }) => mode === 'sum' || colluders === 0,
  },
  { path: 'dropouts', error: 'is for mode sum only', holds: ({ mode, dropouts }) => mode === 'sum' || dropouts === 0 },
  {
    path: 'colluders',
    error: 'must leave at least one site whose noise is there and secret: colluders + dropouts < sites',
    holds: ({ colluders, dropouts, sites }) => colluders + dropouts < sites,
  },
  {
    // With fewer the sum would carry less noise than planned; with more no site could be absent.
    path: 'quorum',
    error: 'must be sites - dropouts in mode sum',
    holds: ({ mode, quorum, sites, dropouts }) => mode === 'site' || quorum === sites - dropouts,
  },
  {
    path: 'threshold',
    error: 'is, like ringBits, for mode sum only',
    holds: ({ mode, threshold, ringBits }) => mode === 'sum' || (threshold === 0 && ringBits === 0),
  },
  {
    path: 'threshold',
    error: 'must be more than half of the sites in mode sum',
    holds: ({ mode, threshold, sites }) => mode === 'site' || (threshold >= 2 && threshold > Math.floor(sites / 2)),
  },
  {
    path: 'threshold',
    error: 'must not exceed the quorum: with fewer sites nothing could be unmasked',
    holds: ({ threshold, quorum }) => threshold <= quorum,
  },
  {
    path: 'colluders',
    error: 'must be below the threshold: so many together open every secret',
    holds: ({ mode, colluders, threshold }) => mode === 'site' || colluders < threshold,
  },
  {
    path: 'ringBits',
    error: 'must be 16 to 32',
    holds: ({ mode, ringBits }) => mode === 'site' || ringBits >= 16,
  },
];

/** For `superRefine`: one issue for each rule between members that is broken. */
export function checkMembers(plan: CommonPlan, context: z.RefinementCtx): void {
  for (const { path, error, holds } of RULES) {
    if (!holds(plan)) context.addIssue({ code: 'custom', path: [path], message: error });
  }
}

/**
 * @throws LearningError TRAINING_INPUT with one issue per rule broken. @param described the file that says what each
 * field means.
 */
export function readPlan<T>(schema: z.ZodType<T>, json: unknown, described: string): T {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({
    field: issue.path.length === 0 ? '(document)' : issue.path.map(String).join('.'),
    rule: issue.message,
  }));
  throw new LearningError('TRAINING_INPUT', `The training plan is not valid: ${issues[0].field}: ${issues[0].rule}`, {
    where: issues[0].field,
    fix: `Correct the plan document; every field is described in ${described}.`,
    issues,
  });
}
