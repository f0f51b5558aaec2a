/**
 * The operator's directory: the consortium's authority, the operator's keys, who was enrolled, and every roster made of it.
 *
 * Each change raises the version, is written to `consortium.json` first and to the roster file then; after a crash between
 * the two, `sign` without requests writes the roster again. Trusted: who can read the directory can enrol members and
 * propose plans. It belongs on a machine of its own, off line but for proposals. Limits: one person at a time; the
 * authority's key has no passphrase.
 */

import { createPublicKey, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { FederationError } from '../../src/errors.ts';
import { IdentityKey, readSecretPem, tlsKeyFile, writeSecretPem } from '../protocol/identity.ts';
import {
  AGGREGATOR,
  certificateFingerprint,
  OPERATOR,
  ROSTER_FORMAT,
  type Roster,
  type SignedRoster,
  signRoster,
} from '../protocol/roster.ts';
import {
  type Authority,
  createAuthority,
  createCertificateRequest,
  createTlsKey,
  issueCertificate,
} from './certificate.ts';
import { checkReplaceable, readOptionalJson, writeRosterFile, writeWhole } from './files.ts';
import type { CheckedRequest } from './request.ts';

const FORMAT = 'veilrisk-consortium/1';

const keys = z.strictObject({ identityKey: z.string(), certificate: z.string() });
const schema = z.strictObject({
  format: z.literal(FORMAT),
  consortium: z.string().min(1).max(200),
  /** Of the newest roster; 0 before the first. */
  version: z.int().min(0),
  minimumQuorum: z.int().min(1),
  maximumColluders: z.int().min(0).optional(),
  url: z.string().optional(),
  operator: keys,
  aggregator: keys.extend({ url: z.string().optional() }).nullable(),
  sites: z.array(keys.extend({ id: z.string() })),
  /** Certificates taken out of use before their time, with the TLS keys that may never come back (SPKI, PEM). */
  revoked: z.array(z.strictObject({ name: z.string(), fingerprint: z.string(), tlsPublicKey: z.string() })),
  /** Every certificate the authority ever issued. */
  issued: z.array(
    z.strictObject({ name: z.string(), serial: z.string(), fingerprint: z.string(), expires: z.string() }),
  ),
});

type State = z.infer<typeof schema>;

const files = (dir: string) => ({
  state: join(dir, 'consortium.json'),
  authorityKey: join(dir, 'authority-key.pem'),
  authority: join(dir, 'authority.pem'),
  operator: join(dir, 'operator.pem'),
});

export interface ConsortiumTerms {
  consortium: string;
  minimumQuorum: number;
  maximumColluders?: number | undefined;
  /** Where sites reach the aggregator; else its request says, or each node is told. */
  url?: string | undefined;
}

/** Makes the directory. Throws ROSTER_INVALID when it holds a consortium, or part of one, already. */
export async function initConsortium(dir: string, terms: ConsortiumTerms, now = new Date()): Promise<void> {
  const paths = files(dir);
  const there = Object.values(paths).find((path) => existsSync(path));
  if (there !== undefined) {
    throw new FederationError('ROSTER_INVALID', 'The directory holds a consortium already; nothing is replaced.', {
      where: there,
      fix: 'Choose another --ca-dir; if an `init` was interrupted and nobody has a roster of it, delete this one.',
    });
  }
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const authority = await createAuthority(terms.consortium, now);
  const tlsKey = await createTlsKey();
  const operator = IdentityKey.create().withTls(tlsKey);
  await writeSecretPem(paths.authorityKey, authority.key);
  await writeSecretPem(tlsKeyFile(paths.operator), tlsKey);
  await operator.save(paths.operator);
  await writeWhole(paths.authority, authority.certificate);
  const state: State = {
    ...{ format: FORMAT, version: 0, ...terms },
    ...{ aggregator: null, sites: [], revoked: [], issued: [] },
    operator: { identityKey: operator.publicKey, certificate: '' },
  };
  state.operator.certificate = await operatorCertificate(state, authority, operator, now);
  // Last: its presence says that the directory is complete.
  await save(dir, state);
}

export interface OpenConsortium {
  readonly state: State;
  readonly operator: IdentityKey;
  readonly authority: Authority;
}

/** Throws ROSTER_INVALID when the directory holds no consortium, or keys that others can read. */
export async function openConsortium(dir: string): Promise<OpenConsortium> {
  const paths = files(dir);
  const parsed = schema.safeParse(await readOptionalJson(paths.state));
  if (!parsed.success) {
    throw new FederationError('ROSTER_INVALID', 'There is no consortium in the directory.', {
      where: paths.state,
      fix: 'Give the directory `veilrisk provision init` made.',
    });
  }
  const operator = await IdentityKey.load(paths.operator);
  const authority = {
    key: await readSecretPem(paths.authorityKey),
    certificate: await readFile(paths.authority, 'utf8'),
  };
  return { state: parsed.data, operator, authority };
}

export interface Change {
  /** Enrols new members; one that is enrolled with the same keys stays as he is. */
  sign?: readonly CheckedRequest[];
  /** Gives a member a certificate for another TLS key. */
  rotate?: CheckedRequest;
  /** The member may come with another identity key: a new data directory. */
  newIdentity?: boolean;
  /** Renews the operator's own certificate. */
  renewOperator?: boolean;
  /** Takes a site out. */
  revoke?: string;
  minimumQuorum?: number | undefined;
  url?: string | undefined;
}

/**
 * Makes the next roster and writes it to `out`. Nothing is changed unless all of it is sound.
 * @throws FederationError ROSTER_INVALID.
 */
export async function changeConsortium(
  dir: string,
  out: string,
  change: Change,
  now = new Date(),
): Promise<SignedRoster> {
  const { state: before, operator, authority } = await openConsortium(dir);
  const state: State = structuredClone(before);
  if (change.minimumQuorum !== undefined) state.minimumQuorum = change.minimumQuorum;
  if (change.url !== undefined) state.url = change.url;
  if (change.revoke !== undefined) revoke(state, change.revoke);
  if (change.renewOperator) {
    retire(state, OPERATOR, state.operator.certificate, true);
    state.operator.certificate = await operatorCertificate(state, authority, operator, now);
  }
  for (const request of change.sign ?? []) await enrol(state, authority, request, now);
  if (change.rotate !== undefined) await rotate(state, authority, change.rotate, change.newIdentity ?? false, now);
  if (JSON.stringify(state) !== JSON.stringify(before) || before.version === 0) state.version++;
  const signed = signRoster(rosterOf(state, authority, now), operator);
  await checkReplaceable(out, signed);
  await save(dir, state);
  await writeRosterFile(out, signed);
  return signed;
}

function rosterOf(state: State, authority: Authority, now: Date): Roster {
  const { consortium, version, minimumQuorum, maximumColluders, operator, aggregator, sites, url } = state;
  if (aggregator === null) {
    throw invalid('There is no aggregator yet.', AGGREGATOR, "Sign the aggregator's request together with the sites'.");
  }
  const address = url ?? aggregator.url;
  const expires = new Map(state.issued.map((each) => [each.fingerprint, each.expires]));
  return {
    ...{ format: ROSTER_FORMAT, consortium, version, minimumQuorum, operator, sites },
    ...(maximumColluders === undefined ? {} : { maximumColluders }),
    authority: authority.certificate,
    aggregator: {
      ...{ name: AGGREGATOR, identityKey: aggregator.identityKey, certificate: aggregator.certificate },
      ...(address === undefined ? {} : { url: address }),
    },
    // Dates refuse the others.
    revoked: state.revoked
      .map(({ fingerprint }) => fingerprint)
      .filter((fingerprint) => new Date(expires.get(fingerprint) ?? now) >= now),
  };
}

async function enrol(state: State, authority: Authority, request: CheckedRequest, now: Date): Promise<void> {
  const known = entryOf(state, request);
  if (known !== undefined) {
    if (known.identityKey !== request.identityKey) throw taken(request, 'with another identity key');
    if (!isFor(known.certificate, request)) throw taken(request, 'with another TLS key');
    return;
  }
  const certificate = await issue(state, authority, request, now);
  const { name, identityKey, url } = request;
  if (request.role === 'aggregator') state.aggregator = { identityKey, certificate, url };
  else state.sites.push({ id: name, identityKey, certificate });
}

async function rotate(state: State, authority: Authority, request: CheckedRequest, newIdentity: boolean, now: Date) {
  const known = entryOf(state, request);
  if (known === undefined)
    throw invalid('There is no such member to rotate.', request.name, 'Enrol it with `provision sign`.');
  if (known.identityKey !== request.identityKey && !newIdentity) {
    throw invalid(
      'The request comes with another identity key.',
      request.name,
      'If the member has a new data directory and its fingerprint was compared, add --new-identity.',
    );
  }
  if (known.identityKey === request.identityKey && isFor(known.certificate, request)) return;
  retire(state, request.name, known.certificate, false);
  known.certificate = await issue(state, authority, request, now);
  known.identityKey = request.identityKey;
  if (request.role === 'aggregator' && state.aggregator !== null) {
    state.aggregator.url = request.url ?? state.aggregator.url;
  }
}

function revoke(state: State, name: string): void {
  const site = state.sites.find(({ id }) => id === name);
  if (site === undefined) throw invalid('There is no such site.', name, 'Give one of the sites the roster lists.');
  retire(state, name, site.certificate, false);
  state.sites = state.sites.filter(({ id }) => id !== name);
}

function retire(state: State, name: string, certificate: string, keepsKey: boolean): void {
  const tlsPublicKey = keepsKey ? '' : spkiOf(certificate);
  state.revoked.push({ name, fingerprint: certificateFingerprint(certificate), tlsPublicKey });
}

async function issue(state: State, authority: Authority, request: CheckedRequest, now: Date): Promise<string> {
  const { name, identityKey, certificateRequest, hosts = null } = request;
  if (state.revoked.some(({ tlsPublicKey }) => tlsPublicKey === normalised(request.tlsPublicKey))) {
    throw invalid(
      'The TLS key was revoked or replaced before.',
      name,
      'Make a new one: `veilrisk provision site --rotate`.',
    );
  }
  const certificate = await issueCertificate({ authority, request: certificateRequest, name, identityKey, hosts, now });
  return noted(state, name, certificate);
}

/** The operator's TLS key stays: it lies beside the authority's. */
async function operatorCertificate(
  state: State,
  authority: Authority,
  operator: IdentityKey,
  now: Date,
): Promise<string> {
  const identityKey = operator.publicKey;
  const request = await createCertificateRequest(OPERATOR, identityKey, operator.tlsKey ?? '');
  return noted(
    state,
    OPERATOR,
    await issueCertificate({ authority, request, name: OPERATOR, identityKey, hosts: null, now }),
  );
}

function noted(state: State, name: string, certificate: string): string {
  const { serialNumber, validToDate } = new X509Certificate(certificate);
  const fingerprint = certificateFingerprint(certificate);
  state.issued.push({ name, serial: serialNumber, fingerprint, expires: validToDate.toISOString() });
  return certificate;
}

function entryOf(
  state: State,
  { role, name }: CheckedRequest,
): { identityKey: string; certificate: string } | undefined {
  return role === 'aggregator' ? (state.aggregator ?? undefined) : state.sites.find(({ id }) => id === name);
}

function isFor(certificate: string, { tlsPublicKey }: CheckedRequest): boolean {
  return spkiOf(certificate) === normalised(tlsPublicKey);
}

function spkiOf(certificate: string): string {
  return new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'pem' }).toString();
}

function normalised(publicKey: string): string {
  return createPublicKey(publicKey).export({ type: 'spki', format: 'pem' }).toString();
}

function save(dir: string, state: State): Promise<void> {
  return writeWhole(files(dir).state, `${JSON.stringify(state, null, 2)}\n`, 0o600);
}

function taken({ name }: CheckedRequest, what: string): FederationError {
  return invalid(
    `"${name}" is enrolled ${what}.`,
    name,
    'Use `veilrisk provision rotate` to replace keys, or revoke the old member first.',
  );
}

function invalid(message: string, where: string, fix: string): FederationError {
  return new FederationError('ROSTER_INVALID', message, { where, fix });
}
