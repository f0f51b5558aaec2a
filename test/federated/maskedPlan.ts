/** What tests of masked rounds share: plans of mode `sum`, and the model the learning code makes of the same releases. */
import { canonicalHash } from '../../src/canonical.ts';
import { courseFor } from '../../src/learning/course.ts';
import type { TrainingPlan } from '../../src/learning/plan.ts';
import { type Consortium, contract, MemoryBank, makePlan } from './consortium.ts';

/** Mode `sum` against an aggregator that lies, with so many drop-outs. */
export function sumPlan(c: Consortium, dropouts: number, changes: Partial<TrainingPlan> = {}): TrainingPlan {
  const sites = c.sites.length;
  const threshold = Math.floor((2 * sites) / 3) + 1;
  const masked = { mode: 'sum' as const, dropouts, quorum: sites - dropouts, threshold, ringBits: 32, ringShift: 4 };
  return makePlan(c, { ...masked, ...changes });
}

/**
 * SHA-256 of the model that plain sums of the banks' releases give. @param contributors of a round, as bank numbers.
 */
export async function plainModelHash(plan: TrainingPlan, contributors: (round: number) => number[]): Promise<string> {
  const course = courseFor(plan, contract);
  const banks = new Map<number, MemoryBank>();
  const release = async (round: number, bank: number, weights: ReturnType<typeof course.weights>) => {
    const memory = banks.get(bank) ?? new MemoryBank(bank);
    banks.set(bank, memory);
    const task = { plan, planHash: course.planHash, contract, round, attempt: 0, weights, model: null, stateHash: '' };
    return (await memory.release(task)).histogram;
  };
  const sum = async (round: number, state: string, sites: number[]) => {
    const total = new Float64Array(course.dimension(round));
    for (const bank of sites) {
      const values = await release(round, bank, course.weights(round, state));
      for (let at = 0; at < total.length; at++) total[at] += values[at];
    }
    return total;
  };
  let state = course.firstState();
  for (let round = course.firstRound; round <= plan.rounds; round++) {
    const sites = contributors(round);
    const counts = course.needsCounts(round) ? await sum(0, course.firstState(), sites) : null;
    state = course.nextState(state, round, await sum(round, state, sites), counts, sites.length);
  }
  return canonicalHash(course.finish(state).document);
}
