/** The course of a stored plan: parsed and checked once per process. */

import { contractHash, parseContract } from '../../src/contract/contract.ts';
import { FederationError, VeilriskError } from '../../src/errors.ts';
import { type Course, courseFor } from '../../src/learning/course.ts';
import { parseFederatedPlan } from '../../src/learning/federatedPlan.ts';
import { canonicalHash, parseCanonical } from '../protocol/canonical.ts';
import type { PlanRow } from './store/plans.ts';

export type { Course } from '../../src/learning/course.ts';

/** Throws MESSAGE_MALFORMED or PLAN_REFUSED unless plan and contract are valid, canonical and belong together. */
export function openCourse(planJson: Uint8Array, contractJson: Uint8Array): Course {
  const json = parseCanonical(planJson, 'plan');
  const contractDocument = parseCanonical(contractJson, 'contract');
  try {
    const plan = parseFederatedPlan(json);
    const contract = parseContract(contractDocument);
    if (contractHash(contract) !== plan.contractHash || canonicalHash(json) !== canonicalHash(plan)) {
      throw new FederationError('PLAN_REFUSED', 'The plan names another contract than the one sent with it.', {
        where: 'contractHash',
        fix: 'Propose the plan with the contract it was made for.',
      });
    }
    return courseFor(plan, contract);
  } catch (error) {
    if (error instanceof FederationError || !(error instanceof VeilriskError)) throw error;
    throw new FederationError('PLAN_REFUSED', error.message, {
      ...(error.where === undefined ? {} : { where: error.where }),
      ...(error.fix === undefined ? {} : { fix: error.fix }),
      issues: error.issues,
      cause: error,
    });
  }
}

const courses = new Map<string, Course>();
const COURSES_KEPT = 64;

export function courseOf(plan: Pick<PlanRow, 'planHash' | 'planJson' | 'contractJson'>): Course {
  let course = courses.get(plan.planHash);
  if (course === undefined) {
    course = openCourse(plan.planJson, plan.contractJson);
    if (courses.size >= COURSES_KEPT) courses.clear();
    courses.set(plan.planHash, course);
  }
  return course;
}
