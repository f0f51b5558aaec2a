/**
 * X.509 of a consortium: its authority, certificate requests made where the keys are, and the certificates issued for them.
 *
 * X.509 v3 (RFC 5280), PKCS #10 (RFC 2986), ECDSA P-256 with SHA-256 (RFC 5758). The authority's path length is 0: it issues
 * to members and to nobody who issues. Subjects name the member (CN) and his identity key (serialNumber, SHA-256 in hex), so
 * that a request cannot be passed off as another member's. Issued certificates begin two days early: members whose clocks
 * are a day apart can use them at once. Limit: the authority's certificate is valid for ten years and never renewed; a new
 * authority is a new consortium.
 */

import { isIP } from 'node:net';
// Before the library, whose decorators need it.
import 'reflect-metadata';

import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralName,
  type JsonName,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  PemConverter,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { FederationError } from '../../src/errors.ts';
import { sha256Hex } from '../protocol/canonical.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
/** How far two parties' clocks may be apart, with a day to spare. */
const BACKDATED_DAYS = 2;
/** CA/Browser Forum's longest life of a server's certificate before 2026; members rotate once a year. */
const VALID_DAYS = 397;
const AUTHORITY_YEARS = 10;

export interface Authority {
  /** PKCS #8 in PEM. */
  key: string;
  /** PEM. */
  certificate: string;
}

/** A new authority. */
export async function createAuthority(consortium: string, now = new Date()): Promise<Authority> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const { notBefore } = validity(now, VALID_DAYS);
  const notAfter = new Date(notBefore);
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + AUTHORITY_YEARS);
  // The library draws a random serial of its own.
  const certificate = await X509CertificateGenerator.createSelfSigned({
    ...{ name: [{ CN: [`${consortium} authority`] }], notBefore, notAfter, keys, signingAlgorithm: ALGORITHM },
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { key: await privatePem(keys.privateKey), certificate: pemOf(certificate) };
}

/** A new TLS key, PKCS #8 in PEM. */
export async function createTlsKey(): Promise<string> {
  return privatePem((await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])).privateKey);
}

/** A PKCS #10 request in PEM, signed with the TLS key. Throws ROSTER_INVALID when the key is no P-256 key. */
export async function createCertificateRequest(name: string, identityKey: string, tlsKey: string): Promise<string> {
  const request = await Pkcs10CertificateRequestGenerator.create({
    ...{ name: subjectOf(name, identityKey), keys: await importPair(tlsKey), signingAlgorithm: ALGORITHM },
  });
  return `${request.toString('pem')}\n`;
}

/**
 * The public key (SPKI, PEM) of a request whose holder has proved that he has the private key.
 * @throws FederationError ROSTER_INVALID when it is no request, of another subject or key type, or not signed by its key.
 */
export async function checkCertificateRequest(pem: string, name: string, identityKey: string): Promise<string> {
  const request = parseRequest(pem);
  const expected = new Name(subjectOf(name, identityKey)).toString();
  if (request.subject !== expected) throw invalid(`must be for ${expected}`);
  const { publicKey } = request;
  // Safe: the library's algorithm has a curve exactly when it is an elliptic one.
  if ((publicKey.algorithm as EcKeyAlgorithm).namedCurve !== 'P-256') throw invalid('must be for an ECDSA P-256 key');
  if (!(await request.verify().catch(() => false))) throw invalid('is not signed by the key it is for');
  return `${publicKey.toString('pem')}\n`;
}

export interface Issue {
  authority: Authority;
  /** Checked before. */
  request: string;
  name: string;
  identityKey: string;
  /** DNS names and IP addresses of a server; a client has none. */
  hosts: readonly string[] | null;
  now: Date;
}

/** The certificate in PEM. @throws FederationError ROSTER_INVALID when a host is neither name nor address. */
export async function issueCertificate(issue: Issue): Promise<string> {
  const issuer = new X509Certificate(issue.authority.certificate);
  const { publicKey } = parseRequest(issue.request);
  const usages = issue.hosts === null ? [] : [ExtendedKeyUsage.serverAuth];
  const certificate = await X509CertificateGenerator.create({
    ...validity(issue.now, VALID_DAYS),
    subject: subjectOf(issue.name, issue.identityKey),
    issuer: issuer.subjectName,
    publicKey,
    signingKey: (await importPair(issue.authority.key)).privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      // The aggregator asks itself how it is, so its certificate is a client's too.
      new ExtendedKeyUsageExtension([...usages, ExtendedKeyUsage.clientAuth]),
      await SubjectKeyIdentifierExtension.create(publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      ...(issue.hosts === null ? [] : [new SubjectAlternativeNameExtension(issue.hosts.map(generalName))]),
    ],
  });
  return pemOf(certificate);
}

/** Throws ROSTER_INVALID when a host is neither a DNS name nor an IP address. */
export function checkHosts(hosts: readonly string[]): void {
  for (const host of hosts) generalName(host);
}

function subjectOf(name: string, identityKey: string): JsonName {
  return [{ CN: [name] }, { '2.5.4.5': [sha256Hex(Buffer.from(identityKey, 'base64'))] }];
}

function validity(now: Date, days: number): { notBefore: Date; notAfter: Date } {
  const notBefore = new Date(now.getTime() - BACKDATED_DAYS * DAY_MS);
  return { notBefore, notAfter: new Date(notBefore.getTime() + days * DAY_MS) };
}

function parseRequest(pem: string): Pkcs10CertificateRequest {
  try {
    return new Pkcs10CertificateRequest(pem);
  } catch (cause) {
    throw invalid('is not a PKCS #10 request in PEM', cause);
  }
}

async function importPair(pem: string): Promise<CryptoKeyPair> {
  try {
    const bytes = PemConverter.decodeFirst(pem);
    const privateKey = await crypto.subtle.importKey('pkcs8', bytes, ALGORITHM, true, ['sign']);
    const { d: _secret, key_ops: _use, ...open } = await crypto.subtle.exportKey('jwk', privateKey);
    return { privateKey, publicKey: await crypto.subtle.importKey('jwk', open, ALGORITHM, true, ['verify']) };
  } catch (cause) {
    throw new FederationError('ROSTER_INVALID', 'The key is not an ECDSA P-256 key in PEM.', {
      where: 'TLS key',
      cause,
    });
  }
}

async function privatePem(key: CryptoKey): Promise<string> {
  return `${PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`;
}

const pemOf = (certificate: X509Certificate) => `${certificate.toString('pem')}\n`;

function generalName(host: string): JsonGeneralName {
  if (isIP(host) === 4) return { type: 'ip', value: host };
  // Neither a zone nor a dotted tail, which a certificate cannot hold.
  if (isIP(host) === 6 && /^[0-9a-fA-F:]+$/.test(host)) return { type: 'ip', value: host };
  if (!/^[a-zA-Z0-9*]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?$/.test(host)) {
    throw new FederationError('ROSTER_INVALID', 'A host must be a DNS name or an IP address.', { where: 'host' });
  }
  return { type: 'dns', value: host };
}

function invalid(rule: string, cause?: unknown): FederationError {
  return new FederationError('ROSTER_INVALID', `The certificate request ${rule}.`, {
    where: 'certificateRequest',
    fix: 'Make it again with `veilrisk provision site` where the keys are.',
    cause,
  });
}
