/**
 * DP-SGD under attack: all steps of a training, each with its own Poisson sample, clipped sums and noise.
 *
 * Worst case: the customer's record is alone, so that nothing hides in the sample of others (the attacker knows who else
 * is drawn), and the weights, which the attacker chooses in every step, make its gradient longer than the clipping norm.
 * He holds the likelihood ratio of all steps: with shift g and variance s^2 a step is worth
 * ln(sum over j of P(j of m records drawn) exp((j <seen, g> - j^2 |g|^2 / 2) / s^2)).
 *
 * GUARANTEES.md: "Privacy audit"
 */
import { contractHash } from '../../contract/contract.ts';
import { encodingOf, featureMapOf } from '../../learning/sgd/features.ts';
import { gradientSummer } from '../../learning/sgd/gradient.ts';
import { networkOf } from '../../learning/sgd/network.ts';
import { parseSgd } from '../../learning/sgd/settings.ts';
import { GRID_BITS, sgdStatement } from '../../learning/sgd/statement.ts';
import { type Bank, openBank } from '../../learning/sgd/train.ts';
import { composedDelta, type PrivacyEvent } from '../../privacy/accountant.ts';
import { logProbability } from '../../privacy/binomial.ts';
import type { PrivacyCurve } from '../../privacy/canary.ts';
import { approximately } from '../../privacy/rational.ts';
import type { RandomSource } from '../../random.ts';
import { auditContract, auditRows } from './customer.ts';
import { tenthOf } from './gaussianAttack.ts';
import type { AuditSetting, Canary } from './setting.ts';

// One record: with more, the rate and the sensitivity that are charged are bounds that no single customer reaches.
const CONTRACT = auditContract(1);
const STEPS = 4;
const ROWS = 40;
const BATCH = 20;
// A record has gradients of up to sqrt(5), so both norms clip.
const CLIPPING = 0.25;
const FORGOTTEN = 8;
// Of the privacy curve; each costs the accountant some 50 ms.
const POINTS = 16;

export function openSgdCanary({ epsilon, delta, broken }: AuditSetting): Canary {
  const settings = parseSgd({
    format: 'veilrisk-sgd/1',
    contractHash: contractHash(CONTRACT),
    family: 'logistic',
    hidden: [],
    epochs: (STEPS * BATCH) / ROWS,
    batch: BATCH,
    rows: ROWS,
    learningRate: 0.1,
    clippingNorm: CLIPPING,
    ...{ epsilon, delta, maxRecordsPerSubject: 1, sites: 1, mode: 'site', colluders: 0, dropouts: 0 },
  });
  const statement = sgdStatement(settings);
  const { samplingRate, customerRate, noiseMultiplier, steps } = statement;
  const isBroken = broken === 'sensitivity';
  // Noise of the same size in the units of a gradient, whose grid is coarser by the factor the clipping forgot.
  const clipped = isBroken ? { ...settings, clippingNorm: CLIPPING * FORGOTTEN } : settings;
  const { num, den } = statement.sigmaSquared;
  const believed = isBroken ? { num, den: den * BigInt(FORGOTTEN ** 2) } : { num, den };
  const sigmaSquared = broken === 'noise' ? tenthOf(believed) : believed;

  const map = featureMapOf(encodingOf(CONTRACT));
  const network = networkOf(map.width, settings.hidden);
  // Certain that the label is 0, while the customer's is 1.
  const weights = new Float64Array(network.parameters);
  weights[network.layers[0].biases] = -1e4;
  const without = auditRows(CONTRACT, false, false);
  const present = auditRows(CONTRACT, true, false);

  const rule = { clippingNorm: clipped.clippingNorm, gridBits: GRID_BITS };
  const shift = gradientSummer(network, map, present, rule).sum(Int32Array.of(0), 1, weights);
  const variance = approximately(sigmaSquared);
  const length = shift.reduce((sum, value) => sum + value * value, 0) / variance;
  const rates = Array.from({ length: present.rows + 1 }, (_, j) => logProbability(j, present.rows, samplingRate));

  // A bank keeps its sampler, as it does from step to step of a training.
  const banks = new WeakMap<RandomSource, Record<'without' | 'present', Bank>>();
  function bankOf(random: RandomSource, isPresent: boolean): Bank {
    let pair = banks.get(random);
    if (pair === undefined) {
      const open = (data: typeof without) =>
        openBank(network, map, data, clipped, { samplingRate, sigmaSquared }, random);
      pair = { without: open(without), present: open(present) };
      banks.set(random, pair);
    }
    return isPresent ? pair.present : pair.without;
  }

  return {
    about: {
      mechanism: `${steps} steps of DP-SGD with Poisson sampling at rate ${samplingRate}, jointly`,
      attacker: 'knows who else is drawn, chooses the weights of every step, holds the likelihood ratio of all steps',
      fault: isBroken
        ? `gradients are clipped to ${FORGOTTEN} times the norm that the noise is made for`
        : broken === 'noise'
          ? 'a tenth of the noise'
          : 'none',
    },
    promised: () => ({
      epsilon: statement.epsilon,
      delta,
      booked: {
        curve: curveOf(
          { kind: 'subsampledGaussian', noiseMultiplier, samplingRate: customerRate, times: steps },
          statement.epsilon,
        ),
      },
    }),
    trial(isPresent, random) {
      const bank = bankOf(random, isPresent);
      let statistic = 0;
      for (let step = 0; step < steps; step++) {
        const seen = bank.release(weights);
        let inner = 0;
        for (let i = 0; i < seen.length; i++) inner += seen[i] * shift[i];
        statistic += logSum(rates.map((rate, j) => rate + (j * inner) / variance - (j * j * length) / 2));
      }
      return statistic;
    },
  };
}

/** The delta promised at epsilons from 0 to that of the whole training, closer together where it falls fast. */
function curveOf(event: PrivacyEvent, largest: number): PrivacyCurve {
  return Array.from({ length: POINTS }, (_, i) => {
    const epsilon = largest * (i / (POINTS - 1)) ** 2;
    return { epsilon, delta: composedDelta([event], epsilon) };
  });
}

/** ln of the sum of exponentials. */
function logSum(terms: readonly number[]): number {
  const largest = Math.max(...terms);
  return largest + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - largest), 0));
}
