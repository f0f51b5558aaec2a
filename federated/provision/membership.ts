/**
 * A member's side of provisioning, in its data directory: the roster it has accepted, and keys that fit it.
 *
 * At first use the operator is pinned; afterwards only newer rosters of the same operator, consortium and authority are
 * accepted, so that nobody brings a revoked member back with an old file. A rotation keeps the new TLS key beside the old one
 * (`identity-tls.next.pem`) and moves it into place once a roster with its certificate is there; both are tried, so a crash at
 * any moment loses nothing. Trusted: who can write the directory can pin another operator.
 */

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { FederationError } from '../../src/errors.ts';
import { IdentityKey, readSecretPem, tlsKeyFile } from '../protocol/identity.ts';
import {
  type Member,
  memberWithKey,
  parseSignedRoster,
  type Roster,
  rosterHash,
  type SignedRoster,
} from '../protocol/roster.ts';
import { readOptionalJson, readRosterFile, syncDirectory, writeWhole } from './files.ts';

export const memberFiles = (dataDir: string) => ({
  identity: join(dataDir, 'identity.pem'),
  tlsKey: tlsKeyFile(join(dataDir, 'identity.pem')),
  nextTlsKey: join(dataDir, 'identity-tls.next.pem'),
  roster: join(dataDir, 'roster.json'),
});

/** The roster accepted last, or null before the first. Throws ROSTER_INVALID when the file was altered. */
export async function installedRoster(dataDir: string): Promise<SignedRoster | null> {
  const json = await readOptionalJson(memberFiles(dataDir).roster);
  return json === undefined ? null : parseSignedRoster(json);
}

/** The roster of the file, which must not be older than the accepted one, or that one; null when there is neither. */
export async function followedRoster(dataDir: string, file?: string): Promise<SignedRoster | null> {
  const accepted = await installedRoster(dataDir);
  if (file === undefined) return accepted;
  const given = await readRosterFile(file);
  checkSuccession(accepted?.roster ?? null, given.roster);
  return given;
}

/**
 * What speaks against following `next` after `installed`; nothing at first use, when a person has to compare.
 * @throws FederationError ROSTER_INVALID: another consortium, operator or authority, a lower version, or a second roster
 *   under the same version.
 */
export function checkSuccession(installed: Roster | null, next: Roster): void {
  if (installed === null) return;
  const pinned: [string, boolean][] = [
    ['consortium', installed.consortium === next.consortium],
    ['operator', installed.operator.identityKey === next.operator.identityKey],
    ['authority', installed.authority.trim() === next.authority.trim()],
  ];
  const other = pinned.find(([, same]) => !same);
  if (other !== undefined) {
    throw refused(`The roster is of another ${other[0]} than the one this member follows.`, other[0]);
  }
  if (next.version < installed.version) {
    throw refused(`The roster has version ${next.version}; version ${installed.version} is in force here.`, 'version');
  }
  if (next.version === installed.version && rosterHash(next) !== rosterHash(installed)) {
    throw refused(`There are two different rosters of version ${next.version}. Keep both files.`, 'version');
  }
}

/**
 * This member's place in a roster, and its keys with the TLS key the roster's certificate is for: the one in use, or the
 * next one.
 * @throws FederationError ROSTER_INVALID when the roster does not list the identity key, CERTIFICATE_REFUSED when it lists a
 *   certificate of a TLS key that is not here.
 */
export async function openMember(dataDir: string, roster: Roster): Promise<{ place: Member; identity: IdentityKey }> {
  const { place, identity, tlsKeyPath } = await findKeys(dataDir, roster);
  return { place, identity: identity.withTls(await readSecretPem(tlsKeyPath), tlsKeyPath) };
}

/** Accepts a roster that passed `checkSuccession`; the keys follow. Idempotent. */
export async function installRoster(dataDir: string, signed: SignedRoster): Promise<void> {
  checkSuccession((await installedRoster(dataDir))?.roster ?? null, signed.roster);
  await findKeys(dataDir, signed.roster);
  await writeWhole(memberFiles(dataDir).roster, `${JSON.stringify(signed, null, 2)}\n`);
  await settleKeys(dataDir, signed.roster);
}

/**
 * Remembers a roster that a process follows from another file, where one was accepted before: or an older file, put in the
 * place of that one while no process runs, would bring a revoked member back. Without an accepted one nobody is pinned.
 */
export async function rememberRoster(dataDir: string, signed: SignedRoster): Promise<void> {
  const accepted = await installedRoster(dataDir);
  if (accepted === null || rosterHash(accepted.roster) === rosterHash(signed.roster)) return;
  await installRoster(dataDir, signed);
}

/** Finishes a rotation whose certificate the roster holds. */
export async function settleKeys(dataDir: string, roster: Roster): Promise<void> {
  if (!existsSync(memberFiles(dataDir).nextTlsKey)) return;
  const { tlsKeyPath } = await findKeys(dataDir, roster);
  const { tlsKey, nextTlsKey } = memberFiles(dataDir);
  if (tlsKeyPath !== nextTlsKey) return;
  await rename(nextTlsKey, tlsKey);
  await syncDirectory(tlsKey);
}

async function findKeys(dataDir: string, roster: Roster) {
  const files = memberFiles(dataDir);
  const identity = await IdentityKey.load(files.identity);
  const place = memberWithKey(roster, identity.publicKey);
  if (place === undefined) {
    throw new FederationError('ROSTER_INVALID', 'The roster does not list the identity key of this data directory.', {
      where: dataDir,
      fix: 'Make a request with `veilrisk provision site`, and have the operator sign it into the roster.',
    });
  }
  const certificate = new X509Certificate(place.certificate);
  for (const path of [files.tlsKey, files.nextTlsKey]) {
    const pem = await readFile(path, 'utf8').catch(() => undefined);
    if (pem !== undefined && certificate.checkPrivateKey(createPrivateKey(pem)))
      return { place, identity, tlsKeyPath: path };
  }
  throw new FederationError('CERTIFICATE_REFUSED', "The roster's certificate is for a TLS key that is not here.", {
    where: place.name,
    fix: 'Send the operator a request made in this data directory: `veilrisk provision site --rotate`.',
  });
}

function refused(message: string, where: string): FederationError {
  return new FederationError('ROSTER_INVALID', message, {
    where,
    fix: 'Ask the operator, by another channel than the file came, which roster is in force.',
  });
}
