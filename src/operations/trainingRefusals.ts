/** Audit entries of what this node refused in a training, bounded so that who asks cannot fill the log. */
import type { NodeContext } from './context.ts';

const ACTOR = 'node';

export interface TrainingRefusals {
  /** Appends the audit entry of a refusal that changes no row. */
  record(refusal: {
    type: 'plan.refuse' | 'privacy.refuse' | 'sum.reveal';
    code: string;
    planId: string;
    details: { [name: string]: string | number };
  }): Promise<void>;
}

/** One entry for each kind, plan and round, however often and for how many states it is asked. */
export function openTrainingRefusals({ store }: Pick<NodeContext, 'store'>): TrainingRefusals {
  const recorded = new Set<string>();
  return {
    async record({ type, code, planId, details }) {
      const key = `${type} ${planId} ${details.round ?? ''}`;
      if (recorded.has(key)) return;
      const entry = { actor: ACTOR, outcome: 'refused', reasonCodes: [code], details: { planId, ...details } };
      await store.transaction((tx) => tx.append({ type, ...entry }));
      recorded.add(key);
    },
  };
}
