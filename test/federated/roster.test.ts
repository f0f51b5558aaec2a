/** The roster file: strict, signed by the operator, and of certificates of one authority. */
import { describe, expect, test } from '@jest/globals';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import {
  certificateFingerprint,
  checkRoster,
  memberWithKey,
  parseRoster,
  parseSignedRoster,
  type Roster,
  rosterHash,
  signRoster,
} from '../../federated/protocol/roster.ts';
import { createAuthority } from '../../federated/provision/certificate.ts';
import { authority, issueMember, makeConsortium } from './consortium.ts';

const consortium = makeConsortium(3);
const { roster, operator } = consortium;
const invalid = expect.objectContaining({ code: 'ROSTER_INVALID' });
const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value));

describe('a roster', () => {
  test('is strict', async () => {
    expect(checkRoster(copy(roster))).toEqual(roster);
    const [first, second] = roster.sites;
    const elsewhere = await createAuthority('Another');
    const { certificate: foreign } = await issueMember(elsewhere, 'bank-1');
    const { certificate: fresh } = await issueMember(authority, 'bank-1');
    const sites = (...changed: object[]) => ({ ...roster, sites: [...changed, ...roster.sites.slice(changed.length)] });
    const wrong: Record<string, object> = {
      'unknown member': { ...roster, extra: 1 },
      'old format': { ...roster, format: 'veilrisk-roster/1' },
      'quorum above its sites': { ...roster, minimumQuorum: 4 },
      'repeated site': { ...roster, sites: [...roster.sites, first] },
      'reserved name': sites({ ...first, id: 'operator' }),
      'upper-case name': sites({ ...first, id: 'Bank 1' }),
      'shared identity key': sites({ ...first, identityKey: second.identityKey }),
      "operator's key as a site's": { ...roster, operator: { ...roster.operator, identityKey: first.identityKey } },
      'short key': { ...roster, operator: { ...roster.operator, identityKey: 'c2hvcnQ=' } },
      'no certificate': sites({ id: first.id, identityKey: first.identityKey }),
      'not a certificate': { ...roster, aggregator: { ...roster.aggregator, certificate: 'none' } },
      'shared certificate': sites({ ...first, certificate: second.certificate }),
      'certificate of another authority': sites({ ...first, certificate: foreign }),
      "the authority's own certificate": sites({ ...first, certificate: authority.certificate }),
      'another authority': { ...roster, authority: elsewhere.certificate },
      'a member as authority': { ...roster, authority: first.certificate },
      'revoked certificate in use': { ...roster, revoked: [certificateFingerprint(first.certificate)] },
      'fingerprint of another form': { ...roster, revoked: ['AB:CD'] },
      'http address': { ...roster, aggregator: { ...roster.aggregator, url: 'http://example.org' } },
    };
    for (const [what, json] of Object.entries(wrong)) {
      expect({ what, throws: codeOf(() => checkRoster(json)) }).toEqual({ what, throws: 'ROSTER_INVALID' });
    }
    expect(checkRoster(sites({ ...first, certificate: fresh })).sites).toHaveLength(3);
  });

  test('has a hash of everything in it, whatever the order of members', () => {
    const { sites, ...rest } = roster;
    expect(rosterHash({ sites, ...rest })).toBe(rosterHash(roster));
    for (const other of [{ version: 2 }, { revoked: ['0'.repeat(64)] }, { maximumColluders: 1 }]) {
      expect(rosterHash({ ...roster, ...other })).not.toBe(rosterHash(roster));
    }
  });

  test('knows its members by their keys', () => {
    expect(memberWithKey(roster, roster.sites[1].identityKey)?.name).toBe('bank-2');
    expect(memberWithKey(roster, roster.operator.identityKey)?.name).toBe('operator');
    expect(memberWithKey(roster, IdentityKey.create().publicKey)).toBeUndefined();
  });
});

describe('its signature', () => {
  const signed = signRoster(roster, operator);

  test("is the operator's, over every member", () => {
    expect(parseRoster(copy(signed))).toEqual(roster);
    expect(parseSignedRoster(copy(signed))).toEqual(signed);
    const altered: Roster[] = [
      { ...roster, minimumQuorum: 1 },
      { ...roster, version: 7 },
      { ...roster, sites: roster.sites.slice(1) },
      { ...roster, sites: [roster.sites[1], roster.sites[0], roster.sites[2]] },
      { ...roster, revoked: ['0'.repeat(64)] },
    ];
    for (const other of altered) expect(() => parseRoster({ ...signed, roster: other })).toThrow(invalid);
  });

  test('is asked for, and nobody else can give it', () => {
    for (const json of [roster, { roster }, { ...signed, extra: 1 }, null, { ...signed, signature: '' }]) {
      expect(() => parseRoster(json)).toThrow(invalid);
    }
    const mallory = IdentityKey.create();
    expect(() => signRoster(roster, mallory)).toThrow(invalid);
    // Signed by a key the roster does not name: an aggregator or a bank that makes its own roster.
    const own = signRoster({ ...roster, operator: { ...roster.operator, identityKey: mallory.publicKey } }, mallory);
    expect(() => parseRoster({ ...signed, signature: own.signature })).toThrow(invalid);
  });
});

function codeOf(work: () => unknown): string {
  try {
    work();
    return 'accepted';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}
