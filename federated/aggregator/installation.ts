/**
 * The aggregator's data directory: identity key, TLS key and the roster it serves; the embedded database beside them. All of
 * it is made by `veilrisk provision site --aggregator` and `veilrisk provision join`.
 *
 * Trusted: who can read the directory can sign as the aggregator; who can write it can have another roster served, which
 * no member of this one talks to.
 */

import { FederationError } from '../../src/errors.ts';
import type { IdentityKey } from '../protocol/identity.ts';
import type { Member, SignedRoster } from '../protocol/roster.ts';
import { followedRoster, memberFiles, openMember } from '../provision/membership.ts';

export interface Installation {
  signedRoster: SignedRoster;
  identity: IdentityKey;
  tls: { key: string; certificate: string };
}

/**
 * The roster of `file`, or the accepted one, with the keys it lists for this directory.
 * @throws FederationError ROSTER_INVALID when there is none, it is older than the accepted one, or lists other keys;
 *   CERTIFICATE_REFUSED when the TLS key of its certificate is not here.
 */
export async function openInstallation(dataDir: string, file?: string): Promise<Installation> {
  const { signedRoster, identity } = await openMembership(dataDir, file);
  const certificate = signedRoster.roster.aggregator.certificate;
  return { signedRoster, identity, tls: { key: identity.tlsKey ?? '', certificate } };
}

/** The same for any member's directory. */
export async function openMembership(
  dataDir: string,
  file?: string,
): Promise<{ signedRoster: SignedRoster; place: Member; identity: IdentityKey }> {
  const signedRoster = await followedRoster(dataDir, file);
  if (signedRoster === null) {
    throw new FederationError('ROSTER_INVALID', 'The data directory holds no roster.', {
      where: memberFiles(dataDir).roster,
      fix: 'Run `veilrisk provision site --aggregator`, have the request signed, then `veilrisk provision join`.',
    });
  }
  return { signedRoster, ...(await openMember(dataDir, signedRoster.roster)) };
}
