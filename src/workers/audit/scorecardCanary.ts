/**
 * The releases of a scorecard plan under attack: bin counts, gradients, and the histogram that evaluates the model.
 *
 * Worst case of every choice the promise leaves open. The attacker knows all other records and every bin of the customer.
 * It sends, as an aggregator could, models that are certain of the wrong label, so that every residual of the customer is
 * at its bound. In mode `sum` it is told the noise of the colluding banks, which is therefore left out of what it sees.
 *
 * GUARANTEES.md: "Privacy audit"
 */
import { contractHash } from '../../contract/contract.ts';
import { shapeOf } from '../../learning/binned.ts';
import { evaluationRound } from '../../learning/modelEvaluation.ts';
import { parsePlan, residualGrid, type TrainingPlan } from '../../learning/plan.ts';
import { resolutionOf } from '../../learning/resolution.ts';
import { scoreEdges, scoreHistogram } from '../../learning/scoreHistogram.ts';
import { type AdditiveModel, logitsOf, siteCounts, siteGradient } from '../../learning/site.ts';
import { privacyStatement } from '../../learning/statement.ts';
import { gdpEpsilon, roundUp, sumUp } from '../../privacy/gdp.ts';
import type { Rational } from '../../privacy/rational.ts';
import { auditContract, auditRows } from './customer.ts';
import { type AuditedRelease, attackOn, releaseWith, tenthOf } from './gaussianAttack.ts';
import type { AuditSetting, Canary, MechanismName } from './setting.ts';

export type ScorecardPart = Extract<MechanismName, 'scorecard' | 'sum' | 'counts' | 'round' | 'histogram'>;
type PartSetting = AuditSetting & { readonly mechanism: ScorecardPart };

// Three records, so that a sensitivity that forgets how many a customer has is a third of the true one.
const CONTRACT = auditContract(3);
const WITHOUT = auditRows(CONTRACT, false);
const PRESENT = auditRows(CONTRACT, true);
// Mode `sum`: eight banks, of which three collude and three may be absent, so two banks' noise keeps the promise.
const CONSORTIUM = {
  ...({ mode: 'sum', sites: 8, quorum: 5, colluders: 3, dropouts: 3 } as const),
  ...{ threshold: 5, ringBits: 32 },
};
const KNOTS = 2;
const ALONE = { mode: 'site', sites: 1, quorum: 1, colluders: 0, dropouts: 0 } as const;

/** What of a plan is audited, and where its loss goes, so that most of it goes there. */
const PARTS: Record<ScorecardPart, { releases: RegExp; plan: Partial<TrainingPlan>; about: string; fault: string }> = {
  scorecard: {
    releases: /^/,
    plan: { ...ALONE, rounds: 4, evaluation: { holdout: 0.1, share: 0.1, bins: 64 } },
    about: 'bin counts, 4 gradients and the evaluation of a scorecard plan, jointly',
    fault: 'noise for one field, though a record moves a bin of each of K fields (sqrt(K) forgotten)',
  },
  sum: {
    releases: /^/,
    plan: { ...CONSORTIUM, rounds: 4 },
    about: `bin counts and 4 gradients of a scorecard plan, summed over ${CONSORTIUM.sites} banks`,
    fault: 'each bank adds its share as though no bank colluded or were absent',
  },
  counts: {
    releases: /^counts$/,
    plan: { ...ALONE, rounds: 1, countShare: 0.5 },
    about: 'the bin counts of a scorecard plan',
    fault: 'noise for one record of a customer, though m are used (m forgotten)',
  },
  round: {
    releases: /^round-2$/,
    plan: { ...ALONE, rounds: 2, countShare: 0.001, residualBound: 0.5 },
    about: 'one gradient of a scorecard plan, residuals clipped to 1/2',
    fault: 'residuals are not clipped to the bound that the noise is made for',
  },
  histogram: {
    releases: /^evaluation$/,
    plan: { ...ALONE, rounds: 1, evaluation: { holdout: 0.1, share: 0.5, bins: 64 } },
    about: 'the histogram of scores by label that evaluates a scorecard',
    fault: 'noise for one record of a customer, though m are used (m forgotten)',
  },
};

export function openScorecardCanary(setting: PartSetting): Canary {
  const { broken } = setting;
  const part = PARTS[setting.mechanism];
  const plan = planFor(setting);
  const { releases } = privacyStatement(plan);
  const isAudited = (_: unknown, round: number) => part.releases.test(releases[round].name);
  const mu = roundUp(Math.sqrt(sumUp(releases.filter(isAudited).map(({ muSquared }) => muSquared))));
  const honest = plan.sites - plan.colluders - plan.dropouts;
  const attacker = 'knows all other records, sends the worst models, holds the likelihood ratio of all outputs';
  return {
    about: {
      mechanism: part.about,
      attacker: plan.mode === 'sum' ? `${attacker}, and is told the noise of ${plan.colluders} banks` : attacker,
      fault: broken === 'none' ? 'none' : broken === 'noise' ? 'a tenth of the noise' : part.fault,
    },
    promised: () => ({ epsilon: gdpEpsilon(mu, plan.delta), delta: plan.delta, booked: { mu } }),
    trial: attackOn(releasesOf(plan, setting).filter(isAudited), WITHOUT, PRESENT, honest),
  };
}

function planFor({ mechanism, epsilon, delta }: PartSetting): TrainingPlan {
  return parsePlan({
    format: 'veilrisk-plan/3',
    id: `audit-${mechanism}`,
    contractHash: contractHash(CONTRACT),
    family: 'scorecard',
    epsilon,
    delta,
    maxRecordsPerSubject: CONTRACT.maxRecordsPerSubject,
    fields: CONTRACT.fields.length,
    threshold: 0,
    ringBits: 0,
    ringShift: 0,
    residualBits: 14,
    residualBound: 1,
    knots: KNOTS,
    countShare: 0.1,
    evaluation: null,
    roundDeadlineMs: 1000,
    ...PARTS[mechanism].plan,
  });
}

/** All releases of the plan in order, sound or with the fault that is to be found. */
function releasesOf(plan: TrainingPlan, { mechanism, broken }: PartSetting): AuditedRelease[] {
  const isBroken = (part: ScorecardPart) => broken === 'sensitivity' && mechanism === part;
  const statement = privacyStatement({
    ...plan,
    ...(isBroken('scorecard') ? { fields: 1 } : {}),
    ...(isBroken('counts') || isBroken('histogram') ? { maxRecordsPerSubject: 1 } : {}),
    ...(isBroken('sum') ? { colluders: 0, dropouts: 0 } : {}),
  });
  const noise = (sigmaSquared: Rational) => (broken === 'noise' ? tenthOf(sigmaSquared) : sigmaSquared);
  const model = worstModel();
  const { reduce } = resolutionOf(shapeOf(CONTRACT), plan.knots);
  const releases = [releaseWith((data) => reduce(siteCounts(data)), noise(statement.sigmaCountSquared))];
  for (let round = 1; round <= plan.rounds; round++) {
    const grid = residualGrid(isBroken('round') ? { ...plan, residualBound: 1 } : plan, round);
    releases.push(releaseWith((data) => reduce(siteGradient(data, model, grid)), noise(statement.sigmaRoundSquared)));
  }
  if (evaluationRound(plan) !== null && statement.sigmaEvaluationSquared !== null) {
    const edges = scoreEdges(model);
    releases.push(
      releaseWith(
        (data) => scoreHistogram(logitsOf(data, model), data.labels, edges),
        noise(statement.sigmaEvaluationSquared),
      ),
    );
  }
  return releases;
}

/** Certain that the label is 0: every residual of the customer, whose label is 1, is 1 before it is clipped. */
function worstModel(): AdditiveModel {
  return { intercept: -1e4, weights: WITHOUT.sizes.map((size) => new Array<number>(size).fill(0)) };
}
