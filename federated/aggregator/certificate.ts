/**
 * The aggregator's self-signed TLS certificate: X.509 v3 (RFC 5280), ECDSA P-256 with SHA-256 (RFC 5758), for a server and
 * nothing else. Every roster pins it byte for byte.
 *
 * Limit: valid for ten years and never renewed by itself; replacing it means handing out a new roster.
 */

import { isIP } from 'node:net';
// Before the library, whose decorators need it.
import 'reflect-metadata';

import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { FederationError } from '../../src/errors.ts';

const YEARS = 10;
const CLOCK_SKEW_MS = 3_600_000;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/**
 * Key (PKCS #8) and certificate in PEM.
 * @param hosts DNS names and IP addresses. @throws FederationError ROSTER_INVALID when one is neither.
 */
export async function createCertificate(
  hosts: readonly string[],
  now = new Date(),
): Promise<{ key: string; certificate: string }> {
  const names = hosts.map(generalName);
  const notBefore = new Date(now.getTime() - CLOCK_SKEW_MS);
  const notAfter = new Date(notBefore);
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + YEARS);
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  // The library draws a random serial of its own.
  const certificate = await X509CertificateGenerator.createSelfSigned({
    ...{ name: 'CN=Veilrisk aggregator', notBefore, notAfter, keys, signingAlgorithm: ALGORITHM },
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(names),
    ],
  });
  const key = PemConverter.encode(await crypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  return { key: `${key}\n`, certificate: `${certificate.toString('pem')}\n` };
}

function generalName(host: string): JsonGeneralName {
  if (isIP(host) === 4) return { type: 'ip', value: host };
  // Neither a zone nor a dotted tail, which a certificate cannot hold.
  if (isIP(host) === 6 && /^[0-9a-fA-F:]+$/.test(host)) return { type: 'ip', value: host };
  if (!/^[a-zA-Z0-9*]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?$/.test(host)) {
    throw new FederationError('ROSTER_INVALID', 'A host must be a DNS name or an IP address.', { where: 'host' });
  }
  return { type: 'dns', value: host };
}
