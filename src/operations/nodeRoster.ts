/** A node under a roster: with which keys, and the line in its audit log that says since when. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { IdentityKey } from '../../federated/protocol/identity.ts';
import { type Roster, rosterHash } from '../../federated/protocol/roster.ts';
import { daysLeft } from '../../federated/protocol/transport.ts';
import { writeWhole } from '../../federated/provision/files.ts';
import { keyFingerprint } from '../../federated/provision/fingerprint.ts';
import { openMember } from '../../federated/provision/membership.ts';
import { RequestError } from '../errors.ts';
import type { NodeContext } from './context.ts';

const WARN_DAYS = 30;
/** Hash of the roster the audit log knows of. */
const NOTED = 'roster.noted';

/**
 * The node's keys under a roster.
 * @throws RequestError CONFIGURATION when the roster lists another name for these keys; FederationError ROSTER_INVALID or
 *   CERTIFICATE_REFUSED when it does not list the keys.
 */
export async function nodeMembership(
  context: Pick<NodeContext, 'name'>,
  dataDir: string,
  roster: Roster,
): Promise<{ identity: IdentityKey; certificate: string }> {
  const { place, identity } = await openMember(dataDir, roster);
  if (place.name !== context.name) {
    throw new RequestError('CONFIGURATION', 'the roster lists the keys of this node under another name', {
      where: place.name,
      fix: 'ask the operator for a roster that names this node',
    });
  }
  return { identity, certificate: place.certificate };
}

/** Warns when a certificate is near its end; one past it is refused at every connection, with the date. */
export function warnOfExpiry({ log }: Pick<NodeContext, 'log'>, certificate: string): void {
  const days = daysLeft(certificate);
  if (days >= WARN_DAYS) return;
  log.warn(
    { days },
    'the TLS certificate expires soon, or has; `veilrisk provision site --rotate` makes a new request',
  );
}

/** Records the roster in the audit log, once for each; a crash in between may record it twice, never not at all. */
export async function noteRoster(context: NodeContext, dataDir: string, roster: Roster): Promise<void> {
  const path = join(dataDir, NOTED);
  const hash = rosterHash(roster);
  if ((await readFile(path, 'utf8').catch(() => '')).trim() === hash) return;
  const { consortium, version, operator, sites, minimumQuorum } = roster;
  await context.store.transaction((tx) =>
    tx.append({
      ...{ type: 'roster.accepted', actor: 'operator', outcome: 'ok' },
      details: {
        ...{ consortium, version, minimumQuorum, rosterHash: hash, sites: sites.map(({ id }) => id) },
        operatorFingerprint: keyFingerprint(operator.identityKey),
      },
    }),
  );
  await writeWhole(path, `${hash}\n`);
}
