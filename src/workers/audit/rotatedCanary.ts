/**
 * Rotated gradient sums under attack: all rounds of a dense plan in trust mode `sum`, jointly.
 *
 * Worst case: the attacker knows all other records, sends weights that make each of the customer's gradients longer
 * than the clipping norm, is told the noise of the colluding banks, and sees sums of as many banks as the plan lets
 * make one. The release is a draw around real values, so the likelihood ratio is linear in what is seen, as for added
 * noise.
 *
 * GUARANTEES.md: "Privacy audit"
 */
import type { BinnedData } from '../../learning/binned.ts';
import { denseCentres } from '../../learning/sgd/denseRelease.ts';
import { denseStatement } from '../../learning/sgd/denseStatement.ts';
import { type DensePlan, defaultDensePlan, parseDensePlan } from '../../learning/sgd/plan.ts';
import { drawAround } from '../../privacy/gaussianMechanism.ts';
import { gdpEpsilon } from '../../privacy/gdp.ts';
import { approximately, type Rational } from '../../privacy/rational.ts';
import { auditContract, auditRows } from './customer.ts';
import { type AuditedRelease, attackOn, tenthOf } from './gaussianAttack.ts';
import type { AuditSetting, Canary } from './setting.ts';

// Three records, so that a sensitivity that forgets how many a customer has is a third of the true one.
const CONTRACT = auditContract(3);
const ROUNDS = 4;
// Eight banks, of which three collude and three may be absent, so two banks' noise keeps the promise.
const CONSORTIUM = { mode: 'sum', sites: 8, quorum: 5, colluders: 3, dropouts: 3, aggregator: 'watching' } as const;
// A record has gradients of up to sqrt(5), so this clips.
const CLIPPING = 0.25;

export function openRotatedCanary({ epsilon, delta, broken }: AuditSetting): Canary {
  const facts = { contract: CONTRACT, family: 'logistic', epsilon, delta, ...CONSORTIUM } as const;
  const plan = parseDensePlan({
    ...defaultDensePlan({ ...facts, expectedRows: 100, rounds: ROUNDS, id: 'audit-rotated' }),
    clippingNorm: CLIPPING,
  });
  const { losses } = denseStatement(plan);
  const believed =
    broken === 'sensitivity' ? denseStatement({ ...plan, maxRecordsPerSubject: 1 }) : denseStatement(plan);
  const sigmaSquared = broken === 'noise' ? tenthOf(believed.sigmaSquared) : believed.sigmaSquared;
  const releases = Array.from({ length: ROUNDS }, (_, t) => releaseOf(plan, t + 1, sigmaSquared));
  const honest = plan.sites - plan.colluders - plan.dropouts;
  const { mu } = losses.aggregator;
  return {
    about: {
      mechanism: `${ROUNDS} rotated gradient sums of a logistic regression, summed over ${plan.sites} banks, jointly`,
      attacker:
        'knows all other records, sends the worst weights, holds the likelihood ratio of all outputs, and is told the ' +
        `noise of ${plan.colluders} banks`,
      fault:
        broken === 'none'
          ? 'none'
          : broken === 'noise'
            ? 'a tenth of the noise'
            : 'noise for one record of a customer, though m are used (m forgotten)',
    },
    promised: () => ({ epsilon: gdpEpsilon(mu, delta), delta, booked: { mu } }),
    trial: attackOn(releases, auditRows(CONTRACT, false), auditRows(CONTRACT, true), honest),
  };
}

function releaseOf(plan: DensePlan, round: number, sigmaSquared: Rational): AuditedRelease {
  // Certain that the label is 0, while the customer's is 1: the last weight is the bias.
  const weights = new Float64Array(plan.dimension);
  weights[plan.dimension - 1] = -1e4;
  // The same rows have the same centres in every trial.
  const known = new WeakMap<BinnedData, Float64Array>();
  const exact = (data: BinnedData) => {
    const centres = known.get(data) ?? denseCentres(plan, CONTRACT, data, round, weights);
    known.set(data, centres);
    return centres;
  };
  const variance = approximately(sigmaSquared);
  return {
    exact,
    noisy: (data, random) => drawAround(exact(data), sigmaSquared, random),
    variance: () => variance,
  };
}
