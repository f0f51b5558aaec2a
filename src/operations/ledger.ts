/** The privacy ledger of a node, for people and reports: budget, what was spent, and the release behind each line. */
import type { Json } from '../audit/entry.ts';
import type { TrainingPlan } from '../learning/plan.ts';
import {
  countSensitivitySquared,
  evaluationSensitivitySquared,
  type PrivacyStatement,
  roundSensitivitySquared,
} from '../learning/statement.ts';
import { epsilonOf } from '../privacy/budget.ts';
import { type Rational, rationalText } from '../privacy/rational.ts';
import type { NodeContext } from './context.ts';

export interface LedgerLine {
  planId: string;
  /** 0 is the count round. */
  round: number;
  attempt: number;
  /** reserved, committed and lost all count as spent; refused spent nothing. */
  state: 'reserved' | 'committed' | 'lost' | 'refused';
  muSquared: number;
  reservedAt: string;
}

export interface Ledger {
  dataset: string;
  budget: { epsilon: number; delta: number; muSquared: number };
  spentMuSquared: number;
  /** Upper bound on the loss so far at the budget's delta. */
  spentEpsilon: number;
  releases: LedgerLine[];
}

/** One ledger a data set, oldest first; releases in the order they were recorded. */
export async function readLedger({ store }: NodeContext): Promise<Ledger[]> {
  const ledgers: Ledger[] = [];
  for (const { id, name } of await store.datasets.list()) {
    const totals = await store.ledger.totals(id);
    if (totals === null) continue;
    ledgers.push({
      dataset: name,
      budget: totals.budget,
      spentMuSquared: totals.spent,
      spentEpsilon: epsilonOf(totals.spent, totals.budget.delta),
      releases: (await store.ledger.releases(id)).map(({ planId, round, attempt, state, muSquared, reservedAt }) => ({
        ...{ planId, round, attempt, state, muSquared },
        reservedAt: reservedAt.toISOString(),
      })),
    });
  }
  return ledgers;
}

/** What the ledger and the audit log keep about a release, beside its loss and what it was computed at. */
export function releaseFacts(
  plan: TrainingPlan,
  statement: PrivacyStatement,
  round: number,
): { readonly [name: string]: Json } {
  const { name, readersMuSquared } = statement.releases[round];
  const { sigmaCount, sigmaRound, sigmaEvaluation } = statement;
  const [sigma, sensitivitySquared] = ((): [Rational | null, number] => {
    if (name === 'counts') return [sigmaCount, countSensitivitySquared(plan)];
    if (name === 'evaluation') return [sigmaEvaluation, evaluationSensitivitySquared(plan)];
    return [sigmaRound, roundSensitivitySquared(plan, round)];
  })();
  return {
    ...{ release: name, mode: plan.mode, unit: 'customer', maxRecordsPerSubject: plan.maxRecordsPerSubject },
    // In units of the released integers; sigma is that of the noise this bank adds.
    ...{ sensitivitySquared, sigma: sigma === null ? null : rationalText(sigma), readersMuSquared },
  };
}
