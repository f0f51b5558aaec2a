/**
 * The leave-one-out influence report of a plan: for each site how its updates stood to those of the others, whether they
 * could be an honest bank's, what the model would have been without it, and what the model is worth on the others'
 * held-out customers.
 *
 * Format `veilrisk-influence/1`. Computed from messages the aggregator has anyway, each covered by its bank's own noise and
 * budget: post-processing, no privacy is spent. In mode `sum` the aggregator has no single updates, by design; the report
 * then holds who was in which sum, and says so. Limit: of the aggregator's own word; it proves nothing to a bank.
 */
import type { Contract } from '../../contract/contract.ts';
import { approximately } from '../../privacy/rational.ts';
import { shapeOf } from '../binned.ts';
import type { FederatedPlan } from '../federatedPlan.ts';
import type { TrainingPlan } from '../plan.ts';
import { estimate, type ScoreEstimates } from '../scoreEstimate.ts';
import { privacyStatement } from '../statement.ts';
import { openReplays, type Replay } from './leaveOneOut.ts';
import { inRecords, type RoundMessages, type Scales, scalesOf, sumWithout, totalOf } from './messages.ts';
import { distances, FALSE_ALARMS, type Suspicion, standing, suspicions } from './suspicion.ts';

export interface RoundOfPlan {
  readonly round: number;
  /** Sites in the round's sum, roster order. */
  readonly contributors: readonly string[];
  /** Their messages; null where they were summed under masks. */
  readonly messages: RoundMessages | null;
}

export interface InfluenceFacts {
  readonly plan: FederatedPlan;
  readonly contract: Contract;
  readonly planHash: string;
  readonly modelHash: string;
  /** Of the finished model. */
  readonly intercept: number;
  /** All rounds of the plan, ascending, the evaluation included. */
  readonly rounds: readonly RoundOfPlan[];
}

/** One update of a site against the sum of the others'. */
export interface UpdateInfluence {
  readonly round: number;
  /** Cosine of the angle between them, noise included: near 0 where noise outweighs both. */
  readonly cosine: number;
  /** The update's part of the sum of squared norms. */
  readonly share: number;
  /** How far it is from the others, beyond noise and their spread, in their standard deviations; null with too few. */
  readonly z: number | null;
}

export interface SiteInfluence {
  readonly site: string;
  /** Rounds whose sum it is in. */
  readonly rounds: number;
  /** Its part of all records, by the noisy counts; null where they are not known. */
  readonly records: number | null;
  readonly suspicion: Suspicion | null;
  readonly updates: UpdateInfluence[];
  readonly withoutIt: Replay | null;
  /** Measures of the model on the held-out customers of all other sites, with 95 % intervals. */
  readonly evaluationWithoutIt: Pick<ScoreEstimates, 'auc' | 'ks' | 'calibration'> | null;
}

export interface InfluenceReport {
  readonly format: 'veilrisk-influence/1';
  readonly planHash: string;
  readonly modelHash: string;
  readonly mode: FederatedPlan['mode'];
  /** Probability that any site of a plan of honest banks is suspected. */
  readonly falseAlarms: number;
  readonly notes: string[];
  readonly sites: SiteInfluence[];
}

const HIDDEN =
  'Updates of this plan were summed under masks: nobody, the aggregator included, has a single one. What a site did to the ' +
  'model cannot be told from the sums, and that is the point of them.';
const NO_SCORECARD = 'Influence is computed for scorecards of mode site; of this plan only who took part is told.';
const FIRST_ORDER =
  'The model without a site is a first-order estimate: sums of the others replayed, their gradients moved to where the ' +
  'replay stands as if fields were independent. Nobody was trained again.';
const SILENCE =
  'A site that is not suspected may be dishonest all the same: one that sends what some records could cause, of the size ' +
  "and direction of the others', is not seen, nor are several that agree.";

/** Opens a report; `of` computes one site, so that the caller may do other work between two of them. */
export function openInfluence(facts: InfluenceFacts): {
  sites: readonly string[];
  of: (site: string) => SiteInfluence;
  report: (sites: SiteInfluence[]) => InfluenceReport;
} {
  const { plan, contract, planHash, modelHash, rounds } = facts;
  const training = rounds.filter(({ round }) => round <= plan.rounds);
  const sites = [...new Set(rounds.flatMap(({ contributors }) => contributors))];
  const readable = plan.family === 'scorecard' ? readableRounds(training) : null;
  const view = plan.family === 'scorecard' && readable !== null ? openView(plan, contract, readable) : null;
  const counts = rounds.find(({ round }) => round === 0)?.messages ?? null;
  const notes = view === null ? [plan.mode === 'sum' ? HIDDEN : NO_SCORECARD] : [FIRST_ORDER, SILENCE];
  return {
    sites,
    of: (site) => ({
      site,
      rounds: rounds.filter(({ contributors }) => contributors.includes(site)).length,
      records: plan.family !== 'scorecard' || counts === null ? null : recordsOf(site, plan, contract, counts),
      suspicion: view?.suspicions.get(site) ?? null,
      updates: view?.updates(site) ?? [],
      withoutIt: view?.replay(site) ?? null,
      evaluationWithoutIt: evaluationWithout(site, facts),
    }),
    report: (parts) => ({
      ...{ format: 'veilrisk-influence/1', planHash, modelHash, mode: plan.mode, falseAlarms: FALSE_ALARMS },
      ...{ notes, sites: parts },
    }),
  };
}

/** Messages of counts and all gradients; null where a round has none. */
function readableRounds(rounds: readonly RoundOfPlan[]): RoundMessages[] | null {
  const messages = rounds.map((round) => round.messages);
  return messages.length > 1 && messages.every((each) => each !== null) ? messages : null;
}

function openView(plan: TrainingPlan, contract: Contract, messages: readonly RoundMessages[]) {
  const scales = scalesOf(plan, shapeOf(contract));
  const [counts, ...gradients] = messages;
  const apart = gradients.map((round) => distances(new Set(round.keys()), counts, round, scales));
  return {
    suspicions: suspicions(counts, gradients, scales),
    replay: openReplays(plan, contract, messages),
    updates: (site: string) =>
      gradients.flatMap((round, at) => {
        const own = round.get(site);
        if (own === undefined) return [];
        return [{ round: at + 1, ...against(site, own, round), z: standing(site, apart[at])?.t ?? null }];
      }),
  };
}

function against(site: string, own: Float64Array, round: RoundMessages): { cosine: number; share: number } {
  const others = sumWithout(round, site);
  const square = (values: Float64Array) => values.reduce((sum, value) => sum + value * value, 0);
  const product = others.reduce((sum, value, at) => sum + value * own[at], 0);
  const all = [...round.values()].reduce((sum, values) => sum + square(values), 0);
  const norms = Math.sqrt(square(own) * square(others));
  return { cosine: norms === 0 ? 0 : product / norms, share: all === 0 ? 0 : square(own) / all };
}

function recordsOf(site: string, plan: TrainingPlan, contract: Contract, counts: RoundMessages): number | null {
  const { sizes, countUnit, countNoise }: Scales = scalesOf(plan, shapeOf(contract));
  const records = (values: Float64Array) => Math.max(0, totalOf(inRecords(values, countUnit), sizes, countNoise).value);
  const own = counts.get(site);
  const all = [...counts.values()].reduce((sum, values) => sum + records(values), 0);
  return own === undefined || all === 0 ? null : records(own) / all;
}

function evaluationWithout(site: string, facts: InfluenceFacts): SiteInfluence['evaluationWithoutIt'] {
  const { plan, intercept, rounds } = facts;
  const messages = rounds.find(({ round }) => round === plan.rounds + 1)?.messages ?? null;
  if (plan.family !== 'scorecard' || messages === null || !messages.has(site) || messages.size < 2) return null;
  const { sigmaEvaluationSquared } = privacyStatement(plan);
  if (sigmaEvaluationSquared === null) return null;
  const { residualBound, maxRecordsPerSubject } = plan;
  const noiseVariance = approximately(sigmaEvaluationSquared) * (messages.size - 1);
  const without = sumWithout(messages, site);
  const measures = estimate(without, { noiseVariance, intercept, residualBound, maxRecordsPerSubject });
  return { auc: measures.auc, ks: measures.ks, calibration: measures.calibration };
}
