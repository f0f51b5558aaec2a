/**
 * The decision policy: which risk scores are approved, reviewed and declined. Versioned JSON with a hash, so that a
 * decision in the audit log names the very thresholds it was made by.
 *
 * A score is an integer 0 to 1000, higher is riskier. Limit: thresholds on the score only; rules on single fields are
 * not part of a policy, because they would decide on what the model's reasons do not explain.
 */
import { z } from 'zod';
import { canonicalHash } from '../canonical.ts';
import { RequestError } from '../errors.ts';

const policySchema = z
  .strictObject({
    format: z.literal('veilrisk-policy/1'),
    name: z.string().min(1).max(100),
    version: z.int().min(1),
    /** Lowest score that a person has to look at; below it the transaction is approved. */
    reviewFrom: z.int().min(0).max(1000),
    /** Lowest score that is declined; equal to `reviewFrom` when nothing is reviewed. */
    declineFrom: z.int().min(0).max(1001),
  })
  .refine(({ reviewFrom, declineFrom }) => reviewFrom <= declineFrom, {
    path: ['declineFrom'],
    message: 'must not be below reviewFrom',
  });

export type DecisionPolicy = Readonly<z.infer<typeof policySchema>>;
export type Decision = 'approve' | 'review' | 'decline';
export const DECISIONS = ['approve', 'review', 'decline'] as const satisfies readonly Decision[];

/**
 * The policy of a node that was given none. The score is 500 at the training data's average risk and 50 points double
 * the odds: review starts at 4 times, decline at 16 times the average odds.
 */
export function defaultPolicy(): DecisionPolicy {
  return { format: 'veilrisk-policy/1', name: 'default', version: 1, reviewFrom: 600, declineFrom: 700 };
}

/** Throws RequestError CONFIGURATION with one issue a wrong field. */
export function parsePolicy(json: unknown): DecisionPolicy {
  const parsed = policySchema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new RequestError('CONFIGURATION', 'The decision policy is not valid.', {
    where: 'policy',
    fix: 'Compare it with the default: {"format":"veilrisk-policy/1","name":"default","version":1,"reviewFrom":600,"declineFrom":700}.',
    issues: parsed.error.issues.map((issue) => ({ field: issue.path.join('.') || 'policy', rule: issue.message })),
  });
}

/** 64 hexadecimal digits: SHA-256 of the RFC 8785 form. */
export function policyHash(policy: DecisionPolicy): string {
  return canonicalHash(policy);
}

/** @param score integer 0 to 1000 */
export function decide(policy: DecisionPolicy, score: number): Decision {
  if (score >= policy.declineFrom) return 'decline';
  return score >= policy.reviewFrom ? 'review' : 'approve';
}
