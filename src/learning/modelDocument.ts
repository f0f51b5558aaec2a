/**
 * What every model document has in common when it comes from outside: it fits its schema and belongs to the contract.
 *
 * Limit: whether its weights fit the contract's bins is for each format to check.
 */
import type { z } from 'zod';
import { type Contract, contractHash } from '../contract/contract.ts';
import { LearningError } from '../errors.ts';

/** @throws LearningError MODEL_INVALID, or MODEL_CONTRACT_MISMATCH when it was trained under another contract. */
export function readModel<T extends { contractHash: string }>(
  schema: z.ZodType<T>,
  json: unknown,
  contract: Contract,
): T {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issues = parsed.error.issues.map((issue) => ({
      field: issue.path.map(String).join('.'),
      rule: issue.message,
    }));
    throw new LearningError('MODEL_INVALID', `The model is not valid: ${issues[0].field}: ${issues[0].rule}`, {
      where: issues[0].field || '(document)',
      issues,
    });
  }
  const model = parsed.data;
  if (model.contractHash !== contractHash(contract)) {
    throw new LearningError('MODEL_CONTRACT_MISMATCH', 'the model was trained under another contract', {
      where: 'contractHash',
      fix: `use the model that belongs to contract ${contract.name}, version ${contract.version}`,
    });
  }
  return model;
}
