/**
 * Writes a roster from what the parties printed when they were initialised: `aggregator init` and each `node init`.
 *
 * Limit: the roster is not signed; the operator hands it out, and each party pins the file it was given.
 */
import { open, readFile } from 'node:fs/promises';
import { FederationError } from '../../src/errors.ts';
import { parseRoster, type Roster, rosterHash } from '../protocol/roster.ts';

export interface RosterRequest {
  consortium: string;
  version: number;
  minimumQuorum: number;
  /** Where the sites reach the aggregator, https; when left out, each node is told. */
  url?: string;
  /** File with the output of `aggregator init`. */
  aggregatorFile: string;
  /** Files with the output of `node init --json`, one a site. */
  siteFiles: readonly string[];
  out: string;
}

/** Never replaces a file: parties may have pinned it. @throws FederationError ROSTER_INVALID naming what is wrong. */
export async function writeRoster(request: RosterRequest): Promise<{ roster: Roster; hash: string }> {
  const { consortium, version, minimumQuorum, url } = request;
  const cards = (await readCard(request.aggregatorFile)) as { aggregator?: object; operator?: object };
  const roster = parseRoster({
    ...{ format: 'veilrisk-roster/1', consortium, version, minimumQuorum },
    aggregator: { name: 'aggregator', ...cards.aggregator, ...(url === undefined ? {} : { url }) },
    operator: cards.operator,
    sites: await Promise.all(request.siteFiles.map(readCard)),
  });
  const file = await open(request.out, 'wx').catch((cause) => {
    throw new FederationError('ROSTER_INVALID', 'The roster cannot be written; it may exist already.', {
      where: request.out,
      fix: 'Choose another --out, or delete the file if nobody has pinned it.',
      cause,
    });
  });
  try {
    await file.writeFile(`${JSON.stringify(roster, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  return { roster, hash: rosterHash(roster) };
}

async function readCard(path: string): Promise<object> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as object;
  } catch (cause) {
    throw new FederationError('ROSTER_INVALID', 'A file for the roster cannot be read as JSON.', {
      where: path,
      fix: 'Give the files that `aggregator init` and `node init --json` printed.',
      cause,
    });
  }
}
