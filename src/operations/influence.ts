/** The operator asks the aggregator what each site did to a model. */
import { fetchInfluence } from '../../federated/protocol/client.ts';
import { readInfluence } from '../learning/influence/document.ts';
import type { InfluenceReport } from '../learning/influence/report.ts';
import type { Operator } from './trainingPlans.ts';

export type { InfluenceReport, SiteInfluence } from '../learning/influence/report.ts';

/** @throws FederationError PLAN_STATE until the plan is completed; LearningError MODEL_INVALID for a reply that is no report. */
export async function planInfluence(operator: Operator, planId: string): Promise<InfluenceReport> {
  const { roster, operatorKey: key, url } = operator;
  return readInfluence(await fetchInfluence({ roster, key, planId, ...(url === undefined ? {} : { url }) }));
}
