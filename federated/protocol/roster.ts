/**
 * The consortium roster: who may speak, with which keys, and under which TLS certificates. It is the startup kit of every
 * party, signed by the operator and holding no secret.
 *
 * Every party pins the operator at first use and takes newer versions from him alone; the roster's SHA-256 (RFC 8785 form)
 * is inside every message signature, so two parties with different rosters cannot talk. The operator is trusted for who is
 * in the consortium: he can enrol banks that do not exist, but cannot lower a site's own policy. Certificates are X.509
 * (RFC 5280), each issued by the roster's authority; dates are checked where connections are made, not here.
 */

import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { FederationError, type FieldIssue } from '../../src/errors.ts';
import { canonicalBytes, canonicalHash } from './canonical.ts';
import { type IdentityKey, verifySignature } from './identity.ts';

export const ROSTER_FORMAT = 'veilrisk-roster/2';
export const OPERATOR = 'operator';
export const AGGREGATOR = 'aggregator';
/** Coordinates are at most 2^46, so sums over this many sites stay exact in binary64. */
const MAX_SITES = 100;
const MAX_REVOKED = 10_000;
/** Keeps a signature over a roster from being one over anything else. */
const SIGNATURE_DOMAIN = new TextEncoder().encode('veilrisk/roster/v1\n');

const identityKey = z.string().refine((text) => isKey(text), 'must be the base64 of a raw 32-byte Ed25519 public key');
const certificate = z.string().refine(isCertificate, 'must be one X.509 certificate in PEM');
const siteId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and "-"')
  .refine((id) => id !== OPERATOR && id !== AGGREGATOR, 'is a reserved name');

const schema = z.strictObject({
  format: z.literal(ROSTER_FORMAT),
  consortium: z.string().min(1).max(200),
  version: z.int().min(1),
  minimumQuorum: z.int().min(1),
  maximumColluders: z.int().min(0).optional(),
  authority: certificate,
  aggregator: z.strictObject({
    name: z.string().min(1).max(200),
    identityKey,
    certificate,
    url: z
      .string()
      .refine((text) => URL.canParse(text) && new URL(text).protocol === 'https:', 'must be an https URL')
      .optional(),
  }),
  operator: z.strictObject({ identityKey, certificate }),
  sites: z
    .array(z.strictObject({ id: siteId, identityKey, certificate }))
    .min(1)
    .max(MAX_SITES),
  revoked: z.array(z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')).max(MAX_REVOKED),
});

const signedSchema = z.strictObject({ roster: z.unknown(), signature: z.string() });

export interface Roster {
  format: typeof ROSTER_FORMAT;
  consortium: string;
  /** Raised with every change; no party goes back to a lower one. */
  version: number;
  /** No plan with a smaller quorum is valid. */
  minimumQuorum: number;
  /** Sites that may work together with the aggregator, as the members agreed; information, plans state their own. */
  maximumColluders?: number | undefined;
  /** The consortium's certificate authority, PEM. */
  authority: string;
  aggregator: { name: string; identityKey: string; certificate: string; url?: string | undefined };
  operator: { identityKey: string; certificate: string };
  sites: { id: string; identityKey: string; certificate: string }[];
  /** SHA-256 of certificates (DER) that are not to be used though they have not expired, hex. */
  revoked: string[];
}

/** What the roster file holds. */
export interface SignedRoster {
  roster: Roster;
  /** The operator's Ed25519 signature, base64. */
  signature: string;
}

/** A name in the roster with its keys. */
export interface Member {
  /** Site id, "operator" or "aggregator". */
  name: string;
  identityKey: string;
  certificate: string;
}

/**
 * The roster in a signed file. Strict: unknown members, repeated sites, shared keys or certificates, certificates of
 * another authority and a signature that is not its operator's are refused (ROSTER_INVALID with issues).
 */
export function parseRoster(json: unknown): Roster {
  return parseSignedRoster(json).roster;
}

/** As `parseRoster`, with the signature. */
export function parseSignedRoster(json: unknown): SignedRoster {
  const parsed = signedSchema.safeParse(json);
  if (!parsed.success) {
    throw invalid([
      { field: 'file', rule: 'must hold { "roster": ..., "signature": ... }, as the operator signed it' },
    ]);
  }
  const { signature } = parsed.data;
  const roster = checkRoster(parsed.data.roster);
  if (!verifySignature(roster.operator.identityKey, signedBytes(roster), Buffer.from(signature, 'base64'))) {
    throw invalid([{ field: 'signature', rule: 'is not by the operator the roster names' }]);
  }
  return { roster, signature };
}

/** Signs a roster. Throws ROSTER_INVALID when it is none, or names another operator. */
export function signRoster(roster: Roster, operator: IdentityKey): SignedRoster {
  const checked = checkRoster(roster);
  if (checked.operator.identityKey !== operator.publicKey) {
    throw invalid([{ field: 'operator.identityKey', rule: 'is not the key that signs' }]);
  }
  return { roster: checked, signature: Buffer.from(operator.sign(signedBytes(checked))).toString('base64') };
}

/** A roster without its signature: every rule but that one. Throws ROSTER_INVALID. */
export function checkRoster(json: unknown): Roster {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    throw invalid(parsed.error.issues.map((issue) => ({ field: issue.path.join('.'), rule: issue.message })));
  }
  const roster = parsed.data;
  const members = membersOf(roster);
  const issues: FieldIssue[] = [];
  const ids = roster.sites.map((site) => site.id);
  if (new Set(ids).size !== ids.length) issues.push({ field: 'sites', rule: 'ids must be unique' });
  if (new Set(members.map((member) => member.identityKey)).size !== members.length) {
    issues.push({ field: 'sites', rule: 'no two parties may share a key' });
  }
  if (roster.minimumQuorum > roster.sites.length) {
    issues.push({ field: 'minimumQuorum', rule: 'must not exceed the number of sites' });
  }
  issues.push(...certificateIssues(roster, members));
  if (issues.length > 0) throw invalid(issues);
  return roster;
}

function certificateIssues(roster: Roster, members: readonly Member[]): FieldIssue[] {
  const issues: FieldIssue[] = [];
  const authority = new X509Certificate(roster.authority);
  if (!authority.ca || !authority.verify(authority.publicKey)) {
    issues.push({ field: 'authority', rule: 'must be a self-signed certificate of a certificate authority' });
  }
  const keys = new Set([spkiOf(authority)]);
  for (const member of members) {
    const field = member.name;
    const own = new X509Certificate(member.certificate);
    if (own.ca || !own.checkIssued(authority) || !own.verify(authority.publicKey)) {
      issues.push({ field, rule: "must have a certificate of the consortium's authority" });
    }
    if (keys.has(spkiOf(own))) issues.push({ field, rule: 'must not share a TLS key with another party' });
    keys.add(spkiOf(own));
    if (roster.revoked.includes(certificateFingerprint(member.certificate))) {
      issues.push({ field, rule: 'has a certificate that is revoked' });
    }
  }
  return issues;
}

const spkiOf = ({ publicKey }: X509Certificate) => publicKey.export({ type: 'spki', format: 'pem' });

function signedBytes(roster: Roster): Uint8Array {
  return Buffer.concat([SIGNATURE_DOMAIN, canonicalBytes(roster)]);
}

/** Everybody, the aggregator and the operator first. */
export function membersOf(roster: Roster): Member[] {
  const { aggregator, operator, sites } = roster;
  return [
    { name: AGGREGATOR, identityKey: aggregator.identityKey, certificate: aggregator.certificate },
    { name: OPERATOR, ...operator },
    ...sites.map(({ id, ...keys }) => ({ name: id, ...keys })),
  ];
}

/** Who has this identity key (base64), or undefined. */
export function memberWithKey(roster: Roster, publicKey: string): Member | undefined {
  return membersOf(roster).find((member) => member.identityKey === publicKey);
}

/** SHA-256 of the certificate's DER, 64 hex digits. */
export function certificateFingerprint(pem: string): string {
  return new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();
}

/** 64 hex digits: SHA-256 of the RFC 8785 form. */
export function rosterHash(roster: Roster): string {
  return canonicalHash(roster);
}

/** The identity key `signer` must use, or undefined when the roster does not know that name. */
export function signerKey(roster: Roster, signer: string): string | undefined {
  if (signer === OPERATOR) return roster.operator.identityKey;
  if (signer === AGGREGATOR) return roster.aggregator.identityKey;
  return roster.sites.find((site) => site.id === signer)?.identityKey;
}

function isKey(text: string): boolean {
  const raw = Buffer.from(text, 'base64');
  return raw.length === 32 && raw.toString('base64') === text;
}

function isCertificate(pem: string): boolean {
  if (pem.split('-----BEGIN ').length !== 2) return false;
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}

function invalid(issues: FieldIssue[]): FederationError {
  const first = issues[0];
  return new FederationError('ROSTER_INVALID', `The roster is invalid: ${first.field} ${first.rule}.`, {
    where: first.field,
    fix: 'Use the roster file the consortium operator handed out last, unchanged.',
    issues,
  });
}
