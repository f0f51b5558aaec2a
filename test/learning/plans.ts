/** A small valid plan for tests; every setting can be overridden. */
import { parsePlan, type TrainingPlan } from '../../src/learning/plan.ts';

export function planOf(wishes: Partial<TrainingPlan> = {}): TrainingPlan {
  const { sites = 1 } = wishes;
  return parsePlan({
    format: 'veilrisk-plan/3',
    id: 'test-plan',
    contractHash: '0'.repeat(64),
    family: 'scorecard',
    mode: 'site',
    sites: 1,
    quorum: 1,
    colluders: 0,
    dropouts: 0,
    threshold: wishes.mode === 'sum' ? Math.floor(sites / 2) + 1 : 0,
    ringBits: wishes.mode === 'sum' ? 32 : 0,
    ringShift: 0,
    rounds: 5,
    epsilon: 1,
    delta: 1e-6,
    maxRecordsPerSubject: 1,
    fields: 3,
    residualBits: 14,
    residualBound: 1,
    knots: 0,
    countShare: 0.02,
    evaluation: null,
    roundDeadlineMs: 1000,
    ...wishes,
  });
}
