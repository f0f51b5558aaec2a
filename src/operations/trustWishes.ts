/**
 * Whom a plan trusts, from what the operator wishes and how many banks there are.
 *
 * Three or more banks sum under masks by default: each then adds a fraction of the noise it would need by itself. The
 * threshold is that against an aggregator that lies; what it leaves over may be absent from a round. Of the banks in a sum
 * one in six, and at least one, may stand with the aggregator: that costs every consortium about the same, a third of the
 * noise's variance, since a threshold of two thirds leaves S - c - d of about 2/3 S - 1/6 S banks to hide behind. It is
 * below what the threshold bears (2t - S - 1, which is about a third) for every number of banks.
 */
import { RequestError } from '../errors.ts';
import { type Aggregator, thresholdOf } from '../learning/plan.ts';
import type { RosterFloors } from '../participant/policy.ts';

export interface TrustWishes {
  mode?: 'site' | 'sum' | undefined;
  /** Banks a round needs; in mode `sum` all but the drop-outs. */
  quorum?: number | undefined;
  colluders?: number | undefined;
  dropouts?: number | undefined;
  /** What the aggregator is taken to be capable of; default `lying`. */
  aggregator?: Aggregator | undefined;
}

export interface Trust {
  mode: 'site' | 'sum';
  quorum: number;
  colluders: number;
  dropouts: number;
  aggregator: Aggregator;
}

const FEWEST_TO_SUM = 3;
const BANKS_PER_COLLUDER = 6;

/** @throws RequestError USAGE for a quorum below the roster's, or for wishes that contradict each other. */
export function trustFor({ sites, minimumQuorum }: RosterFloors, wishes: TrustWishes): Trust {
  const aggregator = wishes.aggregator ?? 'lying';
  const threshold = thresholdOf(sites, aggregator);
  const wished = wishes.quorum ?? (wishes.dropouts === undefined ? undefined : sites - wishes.dropouts);
  if (wishes.quorum !== undefined && wishes.dropouts !== undefined && wishes.quorum !== sites - wishes.dropouts) {
    throw usage(`a quorum of ${wishes.quorum} of ${sites} banks is not ${wishes.dropouts} drop-outs`, '--quorum');
  }
  if (wished !== undefined && wished < minimumQuorum) {
    throw usage(`a round of ${wished} banks is below the roster's quorum of at least ${minimumQuorum}`, '--quorum');
  }
  const canSum = sites >= FEWEST_TO_SUM && (wished ?? sites) >= threshold;
  const mode = wishes.mode ?? (canSum ? 'sum' : 'site');
  if (mode === 'site') {
    const { colluders = 0, dropouts = 0 } = wishes;
    if (colluders + dropouts > 0) {
      throw usage('colluders and drop-outs are for mode sum only', colluders > 0 ? '--colluders' : '--dropouts');
    }
    const quorum = wished ?? Math.max(minimumQuorum, Math.ceil((2 * sites) / 3));
    return { mode, quorum, colluders, dropouts, aggregator };
  }
  const quorum = wished ?? Math.max(threshold, minimumQuorum);
  if (quorum < threshold) {
    throw usage(
      `${quorum} of ${sites} banks are too few for a sum against an aggregator that is ${aggregator}: it takes ${threshold}`,
      '--quorum',
    );
  }
  const colluders = wishes.colluders ?? defaultColluders(sites, threshold, quorum, aggregator);
  return { mode, quorum, colluders, dropouts: sites - quorum, aggregator };
}

function defaultColluders(sites: number, threshold: number, quorum: number, aggregator: Aggregator): number {
  const borne = aggregator === 'lying' ? 2 * threshold - sites - 1 : threshold - 1;
  // At least one bank of those present has to be nobody's.
  return Math.max(0, Math.min(Math.max(1, Math.floor(sites / BANKS_PER_COLLUDER)), borne, quorum - 1));
}

const usage = (message: string, where: string) =>
  new RequestError('USAGE', message, { where, fix: 'see `veilrisk train propose --help`' });
