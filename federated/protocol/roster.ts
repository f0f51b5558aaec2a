/**
 * The consortium roster: who may speak, with which keys, and which TLS certificate the aggregator shows.
 *
 * Every party pins it by file; its SHA-256 (RFC 8785 form) is inside every signature, so two parties with different
 * rosters cannot talk. The roster file is trusted: who can modify it at a site can make that site obey another
 * operator and talk to another aggregator, but cannot lower the site's own policy.
 */

import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { FederationError, type FieldIssue } from '../../src/errors.ts';
import { canonicalHash } from './canonical.ts';

const ROSTER_FORMAT = 'veilrisk-roster/1';
export const OPERATOR = 'operator';
export const AGGREGATOR = 'aggregator';
/** Coordinates are at most 2^46, so sums over this many sites stay exact in binary64. */
const MAX_SITES = 100;

const identityKey = z.string().refine((text) => isKey(text), 'must be the base64 of a raw 32-byte Ed25519 public key');
const siteId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9 and "-"')
  .refine((id) => id !== OPERATOR && id !== AGGREGATOR, 'is a reserved name');

const schema = z.strictObject({
  format: z.literal(ROSTER_FORMAT),
  consortium: z.string().min(1).max(200),
  version: z.int().min(1),
  minimumQuorum: z.int().min(1),
  aggregator: z.strictObject({
    name: z.string().min(1).max(200),
    identityKey,
    certificate: z.string().refine(isCertificate, 'must be one X.509 certificate in PEM'),
    url: z
      .string()
      .refine((text) => URL.canParse(text) && new URL(text).protocol === 'https:', 'must be an https URL')
      .optional(),
  }),
  operator: z.strictObject({ identityKey }),
  sites: z
    .array(z.strictObject({ id: siteId, identityKey }))
    .min(1)
    .max(MAX_SITES),
});

export interface Roster {
  format: typeof ROSTER_FORMAT;
  consortium: string;
  version: number;
  /** No plan with a smaller quorum is valid. */
  minimumQuorum: number;
  aggregator: { name: string; identityKey: string; certificate: string; url?: string | undefined };
  operator: { identityKey: string };
  sites: { id: string; identityKey: string }[];
}

/** Strict: unknown members, repeated sites and shared keys are refused (ROSTER_INVALID with issues). */
export function parseRoster(json: unknown): Roster {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    throw invalid(parsed.error.issues.map((issue) => ({ field: issue.path.join('.'), rule: issue.message })));
  }
  const roster = parsed.data;
  const issues: FieldIssue[] = [];
  const ids = roster.sites.map((site) => site.id);
  const keys = [roster.aggregator, roster.operator, ...roster.sites].map((party) => party.identityKey);
  if (new Set(ids).size !== ids.length) issues.push({ field: 'sites', rule: 'ids must be unique' });
  if (new Set(keys).size !== keys.length) issues.push({ field: 'sites', rule: 'no two parties may share a key' });
  if (roster.minimumQuorum > roster.sites.length) {
    issues.push({ field: 'minimumQuorum', rule: 'must not exceed the number of sites' });
  }
  if (issues.length > 0) throw invalid(issues);
  return roster;
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
    fix: 'Use the roster file the consortium operator handed out, unchanged.',
    issues,
  });
}
