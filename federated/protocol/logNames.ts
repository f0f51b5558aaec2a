/**
 * Names of the logs of a consortium and of the keys that sign and witness them (C2SP signed-note: no blank, no plus).
 *
 * The aggregator signs its log, and cosigns the sites' logs, with its identity key; a site cosigns the aggregator's log
 * with its own. One Ed25519 key for envelopes, notes and cosignatures is safe because no bytes are valid as two of them:
 * an envelope's signed bytes start with the length of its domain (0x00), a cosignature's with "cosignature/v1" and a line
 * that is no decimal number, a checkpoint's with the names below.
 */
import type { Roster } from './roster.ts';

/** A new consortium, or an aggregator of another name, starts a log of its own. */
export function aggregatorLogName(roster: Pick<Roster, 'consortium' | 'aggregator'>): string {
  return `${aggregatorName(roster)}/log`;
}

export function aggregatorWitnessName(roster: Pick<Roster, 'consortium' | 'aggregator'>): string {
  return `${aggregatorName(roster)}/witness`;
}

export const siteLogName = (site: string): string => `${site}/audit`;

export const siteWitnessName = (site: string): string => `${site}/witness`;

function aggregatorName({ consortium, aggregator }: Pick<Roster, 'consortium' | 'aggregator'>): string {
  return [consortium, aggregator.name].map((name) => encodeURIComponent(name.toWellFormed())).join('/');
}
