/**
 * The aggregator's self-signed TLS certificate: X.509 v3 (RFC 5280), ECDSA P-256 with SHA-256 (RFC 5758), written in DER
 * (X.690) by hand because it is one fixed shape. Every roster pins it byte for byte.
 *
 * Limit: valid for ten years and never renewed by itself; replacing it means handing out a new roster.
 */

import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';
import { FederationError } from '../../src/errors.ts';

const YEARS = 10;
const CLOCK_SKEW_MS = 3_600_000;

// X.690 universal tags.
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const UTF8_STRING = 0x0c;
const GENERALIZED_TIME = 0x18;
const SEQUENCE = 0x30;
const SET = 0x31;
const CRITICAL = Buffer.from('0101ff', 'hex');

// Object identifiers in DER content form.
const ECDSA_WITH_SHA256 = oid('2a8648ce3d040302');
const COMMON_NAME = oid('550403');
const SUBJECT_ALT_NAME = oid('551d11');
const BASIC_CONSTRAINTS = oid('551d13');
const KEY_USAGE = oid('551d0f');
const EXTENDED_KEY_USAGE = oid('551d25');
const SERVER_AUTH = oid('2b06010505070301');

/** Key (PKCS #8) and certificate in PEM for DNS names and IPv4 addresses (or the literal ::1). */
export function createCertificate(hosts: readonly string[], now = new Date()): { key: string; certificate: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const notBefore = new Date(now.getTime() - CLOCK_SKEW_MS);
  const notAfter = new Date(notBefore);
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + YEARS);
  const algorithm = der(SEQUENCE, ECDSA_WITH_SHA256);
  const name = der(
    SEQUENCE,
    der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8_STRING, Buffer.from('Veilrisk aggregator')))),
  );
  // A positive serial of 127 random bits; the leading one keeps the encoding minimal.
  const serial = randomBytes(16);
  serial[0] = (serial[0] & 0x3f) | 0x40;
  const extensions = der(
    SEQUENCE,
    der(SEQUENCE, BASIC_CONSTRAINTS, CRITICAL, der(OCTET_STRING, der(SEQUENCE))),
    // digitalSignature is bit 0: seven unused bits.
    der(SEQUENCE, KEY_USAGE, CRITICAL, der(OCTET_STRING, der(BIT_STRING, Buffer.from('0780', 'hex')))),
    der(SEQUENCE, EXTENDED_KEY_USAGE, der(OCTET_STRING, der(SEQUENCE, SERVER_AUTH))),
    der(SEQUENCE, SUBJECT_ALT_NAME, der(OCTET_STRING, der(SEQUENCE, ...hosts.map(generalName)))),
  );
  const body = der(
    SEQUENCE,
    der(0xa0, der(INTEGER, Buffer.from([2]))),
    der(INTEGER, serial),
    algorithm,
    name,
    der(SEQUENCE, time(notBefore), time(notAfter)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, extensions),
  );
  const signature = sign('sha256', body, privateKey);
  const certificate = der(SEQUENCE, body, algorithm, der(BIT_STRING, Buffer.of(0), signature));
  const base64 = certificate.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
  };
}

/** Tag, definite length, content. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const length: number[] = [];
  for (let rest = content.length; rest > 0; rest >>= 8) length.unshift(rest & 0xff);
  const header = content.length < 0x80 ? [content.length] : [0x80 | length.length, ...length];
  return Buffer.concat([Buffer.from([tag, ...header]), content]);
}

function oid(hex: string): Buffer {
  return der(OBJECT_IDENTIFIER, Buffer.from(hex, 'hex'));
}

/** RFC 5280 section 4.1.2.5 wants UTCTime before 2050. */
function time(date: Date): Buffer {
  const digits = `${date.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
  return date.getUTCFullYear() < 2050
    ? der(0x17, Buffer.from(digits.slice(2)))
    : der(GENERALIZED_TIME, Buffer.from(digits));
}

/** GeneralName (RFC 5280 section 4.2.1.6): [2] dNSName or [7] iPAddress. */
function generalName(host: string): Buffer {
  if (isIP(host) === 4) return der(0x87, Buffer.from(host.split('.').map(Number)));
  if (host === '::1') return der(0x87, Buffer.from([...new Array(15).fill(0), 1]));
  if (!/^[a-zA-Z0-9*]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?$/.test(host)) {
    throw new FederationError('ROSTER_INVALID', 'A host must be a DNS name or an IPv4 address.', { where: 'host' });
  }
  return der(0x82, Buffer.from(host, 'ascii'));
}
