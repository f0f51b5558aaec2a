/**
 * `veilrisk provision`: a consortium's authority and roster at the operator, requests and accepted rosters at the members.
 *
 * Private keys stay where they are made; what passes between the parties are request files and one signed roster. Trust in
 * them rests on fingerprints that people compare over another channel.
 */
import { existsSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { IdentityKey, readSecretPem, writeSecretPem } from '../../federated/protocol/identity.ts';
import { certificateFingerprint, membersOf, type Roster, rosterHash } from '../../federated/protocol/roster.ts';
import { daysLeft } from '../../federated/protocol/transport.ts';
import { createTlsKey } from '../../federated/provision/certificate.ts';
import {
  type Change,
  type ConsortiumTerms,
  changeConsortium,
  initConsortium,
} from '../../federated/provision/consortium.ts';
import { readRosterFile, writeWhole } from '../../federated/provision/files.ts';
import { isFingerprint, keyFingerprint, spoken } from '../../federated/provision/fingerprint.ts';
import {
  checkSuccession,
  installedRoster,
  installRoster,
  memberFiles,
  openMember,
  settleKeys,
} from '../../federated/provision/membership.ts';
import { makeRequest, readRequest } from '../../federated/provision/request.ts';
import { RequestError } from '../errors.ts';
import { initNode } from './context.ts';

/** A line of a roster for people: who, and the fingerprint to compare. */
export interface MemberLine {
  name: string;
  /** SHA-256 of the identity key, in groups of four hex digits. */
  fingerprint: string;
  /** The certificate's last day. */
  daysLeft: number;
}

export interface RosterSummary {
  consortium: string;
  version: number;
  rosterHash: string;
  minimumQuorum: number;
  /** SHA-256 of the authority's certificate, in groups. */
  authority: string;
  members: MemberLine[];
  revoked: number;
}

/** The operator's directory, with a fresh authority and fresh keys. */
export async function provisionInit(
  dir: string,
  terms: ConsortiumTerms,
): Promise<{ operatorKeyFile: string; fingerprint: string }> {
  await initConsortium(dir, terms);
  const operatorKeyFile = join(dir, 'operator.pem');
  return { operatorKeyFile, fingerprint: fingerprintOf((await IdentityKey.load(operatorKeyFile)).publicKey) };
}

export interface SiteOptions {
  dataDir: string;
  out: string;
  /** Site id; needed where there is no node yet. */
  name?: string | undefined;
  /** The aggregator's data directory, and the names and addresses its certificate is for. */
  aggregator?: boolean | undefined;
  host?: readonly string[] | undefined;
  url?: string | undefined;
  /** New TLS keys, used once a roster with their certificate is installed. */
  rotate?: boolean | undefined;
}

/** Makes what is missing of a member's keys, and writes its request. A second run writes the same request again. */
export async function provisionSite(options: SiteOptions): Promise<{ name: string; fingerprint: string; out: string }> {
  const dir = resolve(options.dataDir);
  const name = options.aggregator
    ? 'aggregator'
    : (await initNode({ ...options, dataDir: dir, unlessExists: true })).id;
  if (options.name !== undefined && options.name !== name) {
    throw new RequestError('CONFIGURATION', `the data directory is that of "${name}"`, { where: '--name' });
  }
  const paths = memberFiles(dir);
  // Search permission only, as `node init` does it: the database's user has to reach its folder inside.
  if ((await mkdir(dir, { recursive: true })) !== undefined) await chmod(dir, 0o711);
  const installed = await installedRoster(dir);
  if (installed !== null) await settleKeys(dir, installed.roster);
  if (!existsSync(paths.identity)) await IdentityKey.create().save(paths.identity);
  if (!existsSync(paths.tlsKey)) await writeSecretPem(paths.tlsKey, await createTlsKey());
  if (options.rotate && !existsSync(paths.nextTlsKey)) await writeSecretPem(paths.nextTlsKey, await createTlsKey());
  const identity = await IdentityKey.load(paths.identity);
  const next = existsSync(paths.nextTlsKey) ? paths.nextTlsKey : paths.tlsKey;
  const request = await makeRequest({
    ...{ role: options.aggregator ? 'aggregator' : 'site', name, identity, url: options.url },
    tlsKey: await readSecretPem(next),
    hosts: options.aggregator ? (options.host ?? ['localhost', '127.0.0.1']) : undefined,
  });
  await writeWhole(options.out, `${JSON.stringify(request, null, 2)}\n`);
  return { name, fingerprint: fingerprintOf(identity.publicKey), out: options.out };
}

/** The next roster, written to `out`. `sign` and `rotate` are request files. */
export async function provisionRoster(
  dir: string,
  out: string,
  change: Omit<Change, 'sign' | 'rotate'> & { sign?: readonly string[]; rotate?: string },
): Promise<RosterSummary> {
  const { sign, rotate, ...rest } = change;
  const signed = await changeConsortium(dir, out, {
    ...rest,
    ...(sign === undefined ? {} : { sign: await Promise.all(sign.map(readRequest)) }),
    ...(rotate === undefined ? {} : { rotate: await readRequest(rotate) }),
  });
  return summaryOf(signed.roster);
}

/** How a person answers for the operator's key, the first time a member sees it. */
export interface Comparison {
  operatorFingerprint?: string | undefined;
  compared?: boolean | undefined;
}

/**
 * Accepts a roster into a data directory.
 * @throws RequestError CONFIGURATION at first use without a comparison, or with one that does not fit; FederationError
 *   ROSTER_INVALID or CERTIFICATE_REFUSED when the roster is not one to follow.
 */
export async function provisionJoin(dataDir: string, file: string, comparison: Comparison): Promise<RosterSummary> {
  const dir = resolve(dataDir);
  const signed = await readRosterFile(file);
  const { roster } = signed;
  const before = await installedRoster(dir);
  checkSuccession(before?.roster ?? null, roster);
  await openMember(dir, roster);
  const operator = keyFingerprint(roster.operator.identityKey);
  const { operatorFingerprint: typed, compared } = comparison;
  if (typed !== undefined && !isFingerprint(typed, operator)) {
    throw new RequestError('CONFIGURATION', "the roster's operator has another fingerprint", {
      where: spoken(operator),
      fix: 'do not use this roster; ask the operator, by another channel, what his fingerprint is',
    });
  }
  if (before === null && typed === undefined && !compared) {
    throw new RequestError('CONFIGURATION', `the operator's fingerprint is ${spoken(operator)}`, {
      where: 'operator',
      fix: 'compare it with what he reads out on the telephone, then add --operator-fingerprint or --yes-i-compared',
    });
  }
  await installRoster(dir, signed);
  return summaryOf(roster);
}

function summaryOf(roster: Roster, now = new Date()): RosterSummary {
  return {
    consortium: roster.consortium,
    version: roster.version,
    rosterHash: rosterHash(roster),
    minimumQuorum: roster.minimumQuorum,
    authority: spoken(certificateFingerprint(roster.authority)),
    members: membersOf(roster).map(({ name, identityKey, certificate }) => ({
      ...{ name, fingerprint: fingerprintOf(identityKey), daysLeft: daysLeft(certificate, now) },
    })),
    revoked: roster.revoked.length,
  };
}

const fingerprintOf = (identityKey: string) => spoken(keyFingerprint(identityKey));
