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
  const { aggregator, operator } = await readCard(request.aggregatorFile);
  const roster = parseRoster({
    ...{ format: 'veilrisk-roster/1', consortium, version, minimumQuorum },
    aggregator: {
      name: 'aggregator',
      ...(typeof aggregator === 'object' && aggregator),
      ...(url === undefined ? {} : { url }),
    },
    operator,
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

async function readCard(path: string): Promise<Record<string, unknown>> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw unreadable(path, 'cannot be read as JSON', cause);
  }
  if (typeof json !== 'object' || json === null) throw unreadable(path, 'holds no JSON object');
  return { ...json };
}

function unreadable(path: string, what: string, cause?: unknown): FederationError {
  return new FederationError('ROSTER_INVALID', `A file for the roster ${what}.`, {
    where: path,
    fix: 'Give the files that `aggregator init` and `node init --json` printed.',
    cause,
  });
}
