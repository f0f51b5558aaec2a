/**
 * The aggregator's data directory: identity key, operator key, TLS key and certificate; the embedded database beside them.
 *
 * Trusted: who can read the directory can sign as the aggregator. The operator key is made here for convenience and
 * belongs elsewhere: who holds it can propose plans (each site still decides by its own policy).
 */

import { X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FederationError } from '../../src/errors.ts';
import { IdentityKey } from '../protocol/identity.ts';
import { parseRoster, type Roster } from '../protocol/roster.ts';

export interface Installation {
  identity: IdentityKey;
  tls: { key: string; certificate: string };
}

const files = (dataDir: string) => ({
  identity: join(dataDir, 'identity.pem'),
  operator: join(dataDir, 'operator.pem'),
  key: join(dataDir, 'tls-key.pem'),
  certificate: join(dataDir, 'tls-certificate.pem'),
});

/** What the roster needs to know of an aggregator. */
export interface PublicParts {
  aggregator: { identityKey: string; certificate: string };
  operator: { identityKey: string };
  operatorKeyFile: string;
}

/** Creates whatever is missing and replaces nothing, so that a second run, or one after a crash, is harmless. */
export async function initAggregator(dataDir: string, hosts: readonly string[]): Promise<PublicParts> {
  await mkdir(dataDir, { recursive: true });
  const paths = files(dataDir);
  const identity = await keyAt(paths.identity);
  const operator = await keyAt(paths.operator);
  let certificate = await readOptional(paths.certificate);
  if (certificate === undefined) {
    // Loaded here only: a start of the aggregator does not need it.
    const { createCertificate } = await import('./certificate.ts');
    const made = await createCertificate(hosts);
    // The certificate is written last: without it the key is replaced as a leftover of a killed run.
    await writeFile(paths.key, made.key, { mode: 0o600, flush: true });
    await writeFile(paths.certificate, made.certificate, { mode: 0o644, flush: true });
    certificate = made.certificate;
  }
  return {
    aggregator: { identityKey: identity.publicKey, certificate },
    operator: { identityKey: operator.publicKey },
    operatorKeyFile: paths.operator,
  };
}

/** Throws ROSTER_INVALID naming the file that is missing. */
export async function openInstallation(dataDir: string): Promise<Installation> {
  const paths = files(dataDir);
  const identity = await IdentityKey.load(paths.identity);
  const [key, certificate] = await Promise.all([readRequired(paths.key), readRequired(paths.certificate)]);
  return { identity, tls: { key, certificate } };
}

/** The certificate in PEM, without touching a key. Throws ROSTER_INVALID when it is missing or is none. */
export async function readCertificate(dataDir: string): Promise<string> {
  const path = files(dataDir).certificate;
  const certificate = await readRequired(path);
  try {
    new X509Certificate(certificate);
  } catch (cause) {
    throw new FederationError('ROSTER_INVALID', 'The file is not a certificate.', { where: path, cause });
  }
  return certificate;
}

/** Throws ROSTER_INVALID. */
export async function readRoster(path: string): Promise<Roster> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new FederationError('ROSTER_INVALID', 'The roster cannot be read as JSON.', { where: path, cause });
  }
  return parseRoster(json);
}

async function keyAt(path: string): Promise<IdentityKey> {
  if ((await readOptional(path)) !== undefined) return IdentityKey.load(path);
  const key = IdentityKey.create();
  await key.save(path);
  return key;
}

async function readRequired(path: string): Promise<string> {
  const text = await readOptional(path);
  if (text !== undefined) return text;
  throw new FederationError('ROSTER_INVALID', 'A file of the aggregator is missing.', {
    where: path,
    fix: 'Run `veilrisk aggregator init` with this data directory.',
  });
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    // Safe: node:fs rejects with system errors only.
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new FederationError('ROSTER_INVALID', 'A file of the aggregator cannot be read.', { where: path, cause });
  }
}
