/**
 * The plans that banks train together, whatever the family of their model.
 */
import { parsePlan, type TrainingPlan } from './plan.ts';

export type FederatedPlan = TrainingPlan;

/** Reads a plan of any family from outside. @throws LearningError TRAINING_INPUT with one issue per rule broken. */
export function parseFederatedPlan(json: unknown): FederatedPlan {
  return parsePlan(json);
}
