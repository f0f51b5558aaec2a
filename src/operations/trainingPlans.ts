/**
 * The operator's side of training: write a plan from public facts, say what it costs, propose it, follow it, end it,
 * and fetch the signed model. Runs wherever the operator's key is; needs no node and no database.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import {
  abortPlan,
  fetchModel,
  type PlanReport,
  planStatus,
  proposePlan,
  type SignedModel,
} from '../../federated/protocol/client.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { parseRoster, type Roster } from '../../federated/protocol/roster.ts';
import type { Contract } from '../contract/contract.ts';
import { RequestError } from '../errors.ts';
import { type FederatedPlan, parseFederatedPlan, statementOf } from '../learning/federatedPlan.ts';
import { positivesNeeded, readEvaluation } from '../learning/modelEvaluation.ts';
import { defaultPlan, parsePlan } from '../learning/plan.ts';
import type { Measure } from '../learning/ratioInterval.ts';
import { SCORE_BINS } from '../learning/scoreHistogram.ts';
import { defaultDensePlan, type StrategyKind } from '../learning/sgd/plan.ts';
import type { RosterFloors } from '../participant/policy.ts';
import { type TrustWishes, trustFor } from './trustWishes.ts';

export interface Operator {
  roster: Roster;
  operatorKey: IdentityKey;
  /** Overrides the roster's address of the aggregator. */
  url?: string;
}

export interface PlanWishes extends TrustWishes {
  contract: Contract;
  epsilon: number;
  delta: number;
  /** Rows of all sites together, a public estimate. */
  expectedRows: number;
  rounds?: number | undefined;
  roundDeadlineMs?: number | undefined;
  /** Mode `sum`, scorecards: bits of the ring, default 32. */
  ringBits?: number | undefined;
  /** Default `scorecard`. */
  family?: FederatedPlan['family'] | undefined;
  /** Families but scorecards: what the aggregator makes of a round, and a bank's steps in it. */
  strategy?: StrategyKind | undefined;
  localSteps?: number | undefined;
  /** Customers held out and loss spent on a federated evaluation; null or left out for none. */
  evaluation?: { holdout: number; share: number } | null | undefined;
}

/** Reads the roster and the operator's key. Throws ROSTER_INVALID or FILE-like CONFIGURATION errors. */
export async function openOperator(paths: {
  roster: string;
  key: string;
  url?: string | undefined;
}): Promise<Operator> {
  const roster = parseRoster(await readJson(paths.roster));
  const operatorKey = await IdentityKey.load(paths.key);
  return { roster, operatorKey, ...(paths.url === undefined ? {} : { url: paths.url }) };
}

/** A plan for every site of the roster, by the rules of `defaultPlan` and `trustFor` where no wish is given. */
export function writePlan({ sites, minimumQuorum }: Roster, wishes: PlanWishes): FederatedPlan {
  return planFor({ sites: sites.length, minimumQuorum }, wishes);
}

/** The same for a consortium of which only the size is known. */
export function planFor(floors: RosterFloors, wishes: PlanWishes): FederatedPlan {
  const { contract, epsilon, delta, expectedRows, ringBits, roundDeadlineMs, family = 'scorecard' } = wishes;
  // A bank's second step would see its own gradient with its own share of the noise only: such a plan is of mode site.
  const ownSteps = wishes.strategy === 'fedprox' || (wishes.localSteps ?? 1) > 1;
  const trust = trustFor(floors, { ...wishes, mode: wishes.mode ?? (ownSteps ? 'site' : undefined) });
  const evaluation: FederatedPlan['evaluation'] = wishes.evaluation ? { ...wishes.evaluation, bins: SCORE_BINS } : null;
  const facts = {
    ...{ contract, epsilon, delta, expectedRows, sites: floors.sites, ...trust },
    ...(roundDeadlineMs !== undefined && { roundDeadlineMs }),
    // A ledger accepts the releases of one id once, so every run is named anew.
    id: randomUUID(),
    evaluation,
  };
  if (family !== 'scorecard') {
    const { strategy, localSteps, rounds } = wishes;
    return defaultDensePlan({ ...facts, ...{ family, strategy, localSteps, rounds, bits: ringBits } });
  }
  const plan = defaultPlan({
    ...facts,
    ...(ringBits !== undefined && { ringBits }),
  });
  return parsePlan({ ...plan, rounds: wishes.rounds ?? plan.rounds });
}

/** A plan from a file. @throws LearningError TRAINING_INPUT with one issue a rule broken. */
export async function readPlan(path: string): Promise<FederatedPlan> {
  return parseFederatedPlan(await readJson(path));
}

/** How well an AUC should be known to be of use, plus or minus. */
const AUC_GOAL = 0.05;

/** The privacy statement of a plan, line by line, for people. */
export function describePlan(plan: FederatedPlan): string[] {
  const { text } = statementOf(plan);
  const positives = positivesNeeded(plan, AUC_GOAL);
  if (positives === null) return text;
  return [
    ...text,
    `The evaluation will know the AUC to about ${AUC_GOAL} from ${positives} held-out positives of all sites on; with ` +
      'few of them the noise hides it.',
  ];
}

/** @throws RequestError USAGE, before anything is sent, for a plan that is not for this roster. */
export async function propose(
  operator: Operator,
  plan: FederatedPlan,
  contract: Contract,
  acceptanceDeadlineMs?: number,
): Promise<{ planId: string; planHash: string }> {
  const { sites, minimumQuorum } = operator.roster;
  if (plan.sites !== sites.length || plan.quorum < minimumQuorum) {
    throw new RequestError(
      'USAGE',
      `the plan is for ${plan.sites} banks with a quorum of ${plan.quorum}; the roster has ${sites.length} and asks ` +
        `for at least ${minimumQuorum}`,
      { where: plan.sites === sites.length ? 'quorum' : 'sites', fix: 'write the plan for this roster' },
    );
  }
  return proposePlan({ ...operator, plan, contract, ...(acceptanceDeadlineMs ? { acceptanceDeadlineMs } : {}) });
}

/** Ends a plan for good. What banks released for it stays spent. */
export function abort({ roster, operatorKey, url }: Operator, planId: string, reason: string) {
  return abortPlan({ roster, key: operatorKey, planId, reason, ...(url === undefined ? {} : { url }) });
}

export function planProgress({ roster, operatorKey, url }: Operator, planId: string): Promise<PlanReport> {
  return planStatus({ roster, key: operatorKey, planId, ...(url === undefined ? {} : { url }) });
}

export function publishedModel({ roster, operatorKey, url }: Operator, planId: string): Promise<SignedModel> {
  return fetchModel({ roster, key: operatorKey, planId, ...(url === undefined ? {} : { url }) });
}

/** What sites and operator may read of a model's evaluation, line by line, for people. Nothing when it has none. */
export function describeEvaluation({ evidence }: SignedModel): string[] {
  if (evidence.evaluation === null) return [];
  const { result, code, reason, holdout } = readEvaluation(evidence.evaluation);
  if (result === null) return [`not evaluated: ${code} ${reason}`];
  const { measures, sites } = result;
  const { auc, ks, baseRate, records, calibration } = measures;
  return [
    `evaluated on the ${Number((100 * holdout).toPrecision(4))} % of the customers of ${sites.length} sites who trained nothing ` +
      '(95 % intervals, noise included):',
    `  AUC ${figure(auc)}, KS ${figure(ks)}, base rate ${figure(baseRate, 4)}, records ${figure(records, 0)}`,
    `  observed / expected ${figure(calibration.inTheLarge)}, calibration slope ${figure(calibration.slope)}`,
  ];
}

function figure(measure: Measure, digits = 3): string {
  if (measure === null) return 'hidden by the noise';
  const [value, low, high] = [measure.estimate, measure.low, measure.high].map((each) => each.toFixed(digits));
  return `${value} [${low}, ${high}]`;
}

/** @throws RequestError CONFIGURATION when the file cannot be read or is not JSON. */
export async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new RequestError('CONFIGURATION', 'a file cannot be read', {
      where: path,
      fix: 'check the path and who may read it',
      cause,
    });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RequestError('CONFIGURATION', 'a file is not JSON', { where: path, fix: 'correct the file', cause });
  }
}
