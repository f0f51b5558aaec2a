/**
 * The privacy statement of a training before it runs, the same for every family: unit, neighbours, losses, every release,
 * and what is not promised. Computed from public facts alone.
 *
 * `statePlan` is about a plan between banks, `stateSgd` and `stateAdaSsp` about what one training of `veilrisk evaluate`
 * releases. Sources: learning/federatedPlan.ts, learning/sgd/statement.ts, learning/adassp.ts.
 */
import { canonicalHash } from '../canonical.ts';
import { type Contract, contractHash } from '../contract/contract.ts';
import { adaSspStatement } from '../learning/adassp.ts';
import { type FederatedPlan, firstRoundOf, mechanismIn, statementOf } from '../learning/federatedPlan.ts';
import { defaultSgd, type SgdSettings, settingsHash } from '../learning/sgd/settings.ts';
import { GRID_BITS, sgdStatement } from '../learning/sgd/statement.ts';
import { aggregatorAnd } from '../learning/statementText.ts';
import { epsilonOf } from '../privacy/budget.ts';
import { roundUp, sumUp } from '../privacy/gdp.ts';
import { rationalText } from '../privacy/rational.ts';

export interface StatedRelease {
  /** `counts`, `round-N`, `evaluation`; `labels`, `crosses` of AdaSSP; `steps` of DP-SGD. */
  name: string;
  /** Releases of this kind; more than 1 for DP-SGD steps only. */
  times: number;
  /** L2 sensitivity to one customer in units of the released integers. */
  sensitivity: number;
  /** Noise each bank adds, in the same units, as `numerator/denominator`. */
  sigma: string;
  /** Released integers that stand for one record; of DP-SGD steps, for the clipping norm. */
  recordUnit: number;
  /** Charged, and against readers of the model. Null for subsampled releases, whose loss is no mu. */
  muSquared: number | null;
  readersMuSquared: number | null;
  /** Epsilon at the plan's delta of everything up to and with this release, charged and against readers; rounded up. */
  epsilon: number;
  readersEpsilon: number;
}

export interface StatedPlan {
  family: string;
  mode: 'site' | 'sum';
  sites: number;
  unit: string;
  neighbours: string;
  epsilon: number;
  delta: number;
  /** Poisson sampling of DP-SGD: probability of a record and of a customer to be in a step. Else null. */
  sampling: { record: number; customer: number; steps: number } | null;
  losses: Record<'aggregator' | 'readers', { epsilon: number; mu: number | null; against: string }>;
  releases: StatedRelease[];
  notPromised: string[];
}

export interface Statement {
  plan: object;
  /** SHA-256 of its RFC 8785 form. */
  planHash: string;
  statement: StatedPlan;
}

/** @param contract the plan's, or null when it is not at hand: what follows from its customer key is then left open. */
export function statePlan(plan: FederatedPlan, contract: Contract | null): Statement {
  const { losses, releases } = statementOf(plan);
  const charged: number[] = [];
  const readers: number[] = [];
  const { family, mode, sites, epsilon, delta } = plan;
  return {
    plan,
    planHash: canonicalHash(plan),
    statement: {
      ...{ family, mode, sites, epsilon, delta, sampling: null },
      ...unitOf(plan.maxRecordsPerSubject, contract),
      losses,
      releases: releases.map(({ name, muSquared, readersMuSquared }, place) => {
        charged.push(muSquared);
        readers.push(readersMuSquared);
        const { sensitivitySquared, sigma, times, recordUnit } = mechanismIn(plan, firstRoundOf(plan) + place);
        return {
          ...{ name, times, sensitivity: Math.sqrt(sensitivitySquared) },
          // Safe: a plan that states a release states its noise.
          sigma: rationalText(sigma!),
          ...{ recordUnit, muSquared, readersMuSquared },
          epsilon: epsilonOf(sumUp(charged), delta),
          readersEpsilon: epsilonOf(sumUp(readers), delta),
        };
      }),
      notPromised: notPromised(mode, plan.colluders, contract),
    },
  };
}

export interface OtherWishes {
  contract: Contract;
  epsilon: number;
  delta: number;
  mode: 'site' | 'sum';
  sites: number;
  colluders: number;
  dropouts: number;
  /** Rows of all banks together, a public estimate. */
  rows: number;
}

/** Settings by `defaultSgd`. */
export function stateSgd(family: 'logistic' | 'mlp', wishes: OtherWishes): Statement {
  return stateSgdSettings(defaultSgd({ ...wishes, family }), wishes.contract);
}

function stateSgdSettings(settings: SgdSettings, contract: Contract | null): Statement {
  const { family, mode, sites, colluders, epsilon, delta, maxRecordsPerSubject } = settings;
  const { losses, samplingRate, customerRate, steps, sensitivity, sigma } = sgdStatement(settings);
  const loss = ({ epsilon, against }: { epsilon: number; against: string }) => ({ epsilon, mu: null, against });
  return {
    plan: settings,
    planHash: settingsHash(settings),
    statement: {
      ...{ family, mode, sites, epsilon, delta },
      ...unitOf(maxRecordsPerSubject, contract),
      sampling: { record: samplingRate, customer: customerRate, steps },
      losses: { aggregator: loss(losses.aggregator), readers: loss(losses.readers) },
      releases: [
        {
          ...{ name: 'steps', times: steps, sensitivity, sigma: rationalText(sigma) },
          recordUnit: 2 ** GRID_BITS,
          ...{ muSquared: null, readersMuSquared: null },
          ...{ epsilon: losses.aggregator.epsilon, readersEpsilon: losses.readers.epsilon },
        },
      ],
      notPromised: notPromised(mode, colluders, contract),
    },
  };
}

export function stateAdaSsp(wishes: OtherWishes): Statement {
  const { contract, epsilon, delta, mode, sites, colluders, dropouts } = wishes;
  const { maxRecordsPerSubject } = contract;
  const fields = contract.fields.length;
  const parts = adaSspStatement(contract, { epsilon, delta, mode, colluders, dropouts }, sites).releases;
  const readers = mode === 'site' ? sites : sites - dropouts;
  const charged = parts.map((part) => part.muSquared);
  const againstReaders = parts.map((part) => part.readersMuSquared);
  const releases = parts.map(
    ({ name, sensitivitySquared, noise, muSquared, readersMuSquared }, i): StatedRelease => ({
      ...{ name, times: 1, sensitivity: Math.sqrt(sensitivitySquared), sigma: rationalText(noise.sigma) },
      ...{ recordUnit: 1, muSquared, readersMuSquared },
      epsilon: epsilonOf(sumUp(charged.slice(0, i + 1)), delta),
      readersEpsilon: epsilonOf(sumUp(againstReaders.slice(0, i + 1)), delta),
    }),
  );
  const total = (muSquared: readonly number[], against: string) => {
    const sum = sumUp(muSquared);
    return { epsilon: epsilonOf(sum, delta), mu: roundUp(Math.sqrt(sum)), against };
  };
  const plan = {
    ...{ family: 'adassp', contractHash: contractHash(contract), mode, sites, colluders, dropouts, epsilon, delta },
    ...{ fields, maxRecordsPerSubject },
  };
  return {
    plan,
    planHash: canonicalHash(plan),
    statement: {
      ...{ family: 'adassp', mode, sites, epsilon, delta, sampling: null },
      ...unitOf(maxRecordsPerSubject, contract),
      losses: {
        aggregator: total(
          charged,
          mode === 'site'
            ? 'whoever reads the message of the bank: aggregator, other banks, readers of the model, even together'
            : aggregatorAnd(colluders),
        ),
        readers: total(againstReaders, `readers of the model, who see only sums with the noise of ${readers} banks`),
      },
      releases,
      notPromised: notPromised(mode, colluders, contract),
    },
  };
}

function unitOf(most: number, contract: Contract | null): Pick<StatedPlan, 'unit' | 'neighbours'> {
  const counted = `at most ${most} of ${most === 1 ? 'which counts' : 'which count'}`;
  return contract?.subject === null
    ? { unit: 'one record: the contract names no customer key', neighbours: 'one record is added or removed' }
    : {
        unit: `one customer of one bank with all records, ${counted}`,
        neighbours: 'all records of one customer are added or removed',
      };
}

function notPromised(mode: 'site' | 'sum', colluders: number, contract: Contract | null): string[] {
  return [
    ...(mode === 'site'
      ? []
      : [
          'anything against who reads the message of a single bank: mode sum rests on secure aggregation, and on no more ' +
            `than ${colluders} colluding ${colluders === 1 ? 'bank' : 'banks'}`,
        ]),
    ...(contract?.subject === null
      ? ['a customer with several records: each record is protected by itself']
      : ['a person who is a customer of j banks, or of two data sets of one: mu grows by sqrt(j)']),
    'that a bank takes part, and how long it takes',
    'what a model tells about people like the customer, and would tell without that customer as well',
    'figures a bank computes for itself without noise; they must not leave it',
  ];
}
