/**
 * A member's request for a certificate: what leaves a data directory, and what the operator checks before he signs.
 *
 * It proves possession of two keys: the PKCS #10 inside is signed with the TLS key, and everything with the Ed25519 identity
 * key; neither key is in it. Whose keys they are, only a comparison of fingerprints over another channel can tell.
 */

import { z } from 'zod';
import { FederationError } from '../../src/errors.ts';
import { canonicalBytes } from '../protocol/canonical.ts';
import { type IdentityKey, verifySignature } from '../protocol/identity.ts';
import { AGGREGATOR, OPERATOR } from '../protocol/roster.ts';
import { checkCertificateRequest, checkHosts, createCertificateRequest } from './certificate.ts';
import { readJsonFile } from './files.ts';

const FORMAT = 'veilrisk-request/1';
const SIGNATURE_DOMAIN = new TextEncoder().encode('veilrisk/request/v1\n');

const schema = z.strictObject({
  format: z.literal(FORMAT),
  role: z.enum(['site', 'aggregator']),
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and "-"'),
  identityKey: z.string(),
  certificateRequest: z.string(),
  hosts: z.array(z.string()).min(1).max(50).optional(),
  url: z.string().optional(),
  signature: z.string(),
});

export type MemberRequest = z.infer<typeof schema>;

/** A request that passed every check. */
export interface CheckedRequest extends MemberRequest {
  /** SubjectPublicKeyInfo of the TLS key, PEM. */
  tlsPublicKey: string;
}

export interface RequestOptions {
  role: MemberRequest['role'];
  /** Site id; "aggregator" for the aggregator. */
  name: string;
  identity: IdentityKey;
  /** PKCS #8 in PEM. */
  tlsKey: string;
  /** DNS names and addresses sites dial; the aggregator's only. */
  hosts?: readonly string[] | undefined;
  /** Where sites reach the aggregator, https. */
  url?: string | undefined;
}

export async function makeRequest(options: RequestOptions): Promise<MemberRequest> {
  const { role, name, identity, hosts, url } = options;
  if (hosts !== undefined) checkHosts(hosts);
  const unsigned = {
    ...({ format: FORMAT, role, name, identityKey: identity.publicKey } as const),
    certificateRequest: await createCertificateRequest(name, identity.publicKey, options.tlsKey),
    ...(hosts === undefined ? {} : { hosts: [...hosts] }),
    ...(url === undefined ? {} : { url }),
  };
  return { ...unsigned, signature: Buffer.from(identity.sign(signedBytes(unsigned))).toString('base64') };
}

/** @throws FederationError ROSTER_INVALID naming the file and what is wrong with it. */
export async function readRequest(path: string): Promise<CheckedRequest> {
  return checkRequest(await readJsonFile(path), path);
}

export async function checkRequest(json: unknown, where = 'request'): Promise<CheckedRequest> {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    throw invalid(`does not fit: ${parsed.error.issues[0].path.join('.')} ${parsed.error.issues[0].message}`, where);
  }
  const { signature, ...unsigned } = parsed.data;
  const { role, name, identityKey, hosts } = unsigned;
  if (!verifySignature(identityKey, signedBytes(unsigned), Buffer.from(signature, 'base64'))) {
    throw invalid('is not signed by the identity key it names', where);
  }
  const reserved = name === AGGREGATOR || name === OPERATOR;
  if (role === 'site' ? reserved || hosts !== undefined : name !== AGGREGATOR || hosts === undefined) {
    throw invalid('does not fit its role', where);
  }
  if (hosts !== undefined) checkHosts(hosts);
  const tlsPublicKey = await checkCertificateRequest(unsigned.certificateRequest, name, identityKey);
  return { ...parsed.data, tlsPublicKey };
}

function signedBytes(unsigned: Omit<MemberRequest, 'signature'>): Uint8Array {
  return Buffer.concat([SIGNATURE_DOMAIN, canonicalBytes(unsigned)]);
}

function invalid(what: string, where: string): FederationError {
  return new FederationError('ROSTER_INVALID', `The request ${what}.`, {
    where,
    fix: 'Have the member make it again with `veilrisk provision site`, and send it unchanged.',
  });
}
