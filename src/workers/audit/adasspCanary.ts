/**
 * AdaSSP's one release under attack: bin counts, label sums and cross tables of one bank together.
 *
 * The attacker knows all other records and every bin of the customer, and holds the likelihood ratio of the whole release.
 *
 * GUARANTEES.md: "Privacy audit"
 */
import {
  type AdaSspStatement,
  adaSspStatement,
  releaseOf,
  type Statistics,
  siteStatistics,
} from '../../learning/adassp.ts';
import { groupsOf } from '../../learning/adasspSolve.ts';
import { type BinnedData, shapeOf } from '../../learning/binned.ts';
import type { NoiseLevel } from '../../privacy/gaussianMechanism.ts';
import { roundUp } from '../../privacy/gdp.ts';
import { approximately } from '../../privacy/rational.ts';
import { auditContract, auditRows } from './customer.ts';
import { type AuditedRelease, attackOn, tenthOf } from './gaussianAttack.ts';
import type { AuditSetting, Canary } from './setting.ts';

const CONTRACT = auditContract(3);

export function openAdaSspCanary({ epsilon, delta, broken }: AuditSetting): Canary {
  const facts = { epsilon, delta, mode: 'site' } as const;
  const statement = adaSspStatement(CONTRACT, facts, 1);
  const believed = broken === 'sensitivity' ? adaSspStatement(auditContract(1), facts, 1) : statement;
  const release = releaseUnder(broken === 'noise' ? withTenth(believed) : believed);
  return {
    about: {
      mechanism: "AdaSSP's sufficient statistics: counts, label sums and cross tables, jointly",
      attacker: 'knows all other records, holds the likelihood ratio of the release',
      fault:
        broken === 'none'
          ? 'none'
          : broken === 'noise'
            ? 'a tenth of the noise'
            : 'noise for one record of a customer, though m are used (m forgotten)',
    },
    promised: () => ({ epsilon: statement.epsilon, delta, booked: { mu: roundUp(Math.sqrt(statement.muSquared)) } }),
    trial: attackOn([release], auditRows(CONTRACT, false), auditRows(CONTRACT, true)),
  };
}

function releaseUnder(statement: AdaSspStatement): AuditedRelease {
  const groups = groupsOf(shapeOf(CONTRACT));
  const flat = ({ counts, labels, crosses }: Statistics) => Float64Array.from([...counts, ...labels, ...crosses]);
  const exact = (data: BinnedData) => siteStatistics(data, groups);
  const { counts, labels } = exact(auditRows(CONTRACT, false));
  const { counts: first, labels: second, crosses: third } = statement;
  const variances = [first, second, third].map((level) => (level === null ? 1 : approximately(level.sigmaSquared)));
  return {
    exact: (data) => flat(exact(data)),
    noisy: (data, random) => flat(releaseOf(exact(data), statement, random)),
    variance: (j) => variances[j < counts.length ? 0 : j < counts.length + labels.length ? 1 : 2],
  };
}

function withTenth(statement: AdaSspStatement): AdaSspStatement {
  const tenth = (level: NoiseLevel): NoiseLevel => ({ ...level, sigmaSquared: tenthOf(level.sigmaSquared) });
  const { counts, labels, crosses } = statement;
  return { ...statement, counts: tenth(counts), labels: tenth(labels), crosses: crosses && tenth(crosses) };
}
