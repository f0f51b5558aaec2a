/** Provisioning at both ends: requests, rosters of the operator's directory, and what a member's directory follows. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { certificateFingerprint, type Roster, type SignedRoster } from '../../federated/protocol/roster.ts';
import { createCertificateRequest, createTlsKey } from '../../federated/provision/certificate.ts';
import { changeConsortium, initConsortium, openConsortium } from '../../federated/provision/consortium.ts';
import { readRosterFile } from '../../federated/provision/files.ts';
import {
  followedRoster,
  installedRoster,
  installRoster,
  memberFiles,
  openMember,
  rememberRoster,
} from '../../federated/provision/membership.ts';
import { checkRequest, type MemberRequest, makeRequest, readRequest } from '../../federated/provision/request.ts';
import { provisionJoin, provisionSite } from '../../src/operations/provision.ts';

const DAY_MS = 86_400_000;
let folder: string;
let ca: string;
let out: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veilrisk-provision-'));
  ca = join(folder, 'ca');
  out = join(folder, 'roster.json');
});
afterEach(() => rm(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const refused = (code: string, where?: string) => ({ code, ...(where === undefined ? {} : { where }) });

/** A request as the verb makes it. */
async function requestOf(name: string, options: { rotate?: boolean; host?: string[] } = {}) {
  const aggregator = name === 'aggregator';
  const file = at(`${name}.request.json`);
  await provisionSite({ dataDir: at(name), out: file, aggregator, ...(aggregator ? {} : { name }), ...options });
  return readRequest(file);
}

async function consortium(banks: readonly string[] = ['bank-a', 'bank-b', 'bank-c']): Promise<SignedRoster> {
  await initConsortium(ca, { consortium: 'Test', minimumQuorum: 2 });
  const requests = await Promise.all(['aggregator', ...banks].map((name) => requestOf(name)));
  return changeConsortium(ca, out, { sign: requests });
}

describe('a consortium', () => {
  test('is made once, with private keys nobody else can read', async () => {
    await initConsortium(ca, { consortium: 'Test', minimumQuorum: 2, maximumColluders: 1 });
    expect((await stat(ca)).mode & 0o777).toBe(0o700);
    for (const file of ['authority-key.pem', 'operator.pem', 'operator-tls.pem', 'consortium.json']) {
      expect((await stat(join(ca, file))).mode & 0o777).toBe(0o600);
    }
    const before = await readFile(join(ca, 'consortium.json'), 'utf8');
    await expect(initConsortium(ca, { consortium: 'Other', minimumQuorum: 1 })).rejects.toMatchObject(
      refused('ROSTER_INVALID'),
    );
    // What an interrupted run left is not replaced either.
    await rm(join(ca, 'consortium.json'));
    await expect(initConsortium(ca, { consortium: 'Other', minimumQuorum: 1 })).rejects.toMatchObject(
      refused('ROSTER_INVALID'),
    );
    await writeFile(join(ca, 'consortium.json'), before);
    await chmod(join(ca, 'operator.pem'), 0o644);
    await expect(openConsortium(ca)).rejects.toMatchObject(refused('ROSTER_INVALID', join(ca, 'operator.pem')));
    await expect(openConsortium(at('nothing'))).rejects.toMatchObject(refused('ROSTER_INVALID'));
  });

  test('issues what other software reads as certificates of one authority', async () => {
    const { roster } = await consortium();
    const authority = new X509Certificate(roster.authority);
    expect(authority.ca).toBe(true);
    expect(authority.subject).toBe('CN=Test authority');
    const bank = new X509Certificate(roster.sites[0].certificate);
    expect(bank.checkIssued(authority) && bank.verify(authority.publicKey)).toBe(true);
    expect(bank.ca).toBe(false);
    expect(bank.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
    expect(bank.subject).toMatch(/^CN=bank-a\nserialNumber=[0-9a-f]{64}$/);
    expect((bank.validToDate.getTime() - bank.validFromDate.getTime()) / DAY_MS).toBe(397);
    // Begun two days ago: a member whose clock is a day behind can use it now.
    expect(Date.now() - bank.validFromDate.getTime()).toBeGreaterThan(1.9 * DAY_MS);
    const aggregator = new X509Certificate(roster.aggregator.certificate);
    expect(aggregator.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    expect(aggregator.subjectAltName).toBe('DNS:localhost, IP Address:127.0.0.1');
    const serials = [roster.aggregator, roster.operator, ...roster.sites].map(
      ({ certificate }) => new X509Certificate(certificate).serialNumber,
    );
    expect(new Set(serials).size).toBe(5);
  });

  test('numbers its rosters, and writes the newest again when nothing changed', async () => {
    const first = await consortium();
    expect(first.roster.version).toBe(1);
    const requests = [await readRequest(at('bank-a.request.json'))];
    expect(await changeConsortium(ca, out, { sign: requests })).toEqual(first);
    const lost = at('again.json');
    expect(await changeConsortium(ca, lost, {})).toEqual(first);
    expect(await readRosterFile(lost)).toEqual(first);
    const second = await changeConsortium(ca, out, { sign: [await requestOf('bank-d')], minimumQuorum: 3 });
    expect(second.roster).toMatchObject({ version: 2, minimumQuorum: 3 });
    expect(second.roster.sites.map(({ id }) => id)).toEqual(['bank-a', 'bank-b', 'bank-c', 'bank-d']);
  });

  test('replaces an older roster of its own, and no other file', async () => {
    await consortium();
    await writeFile(at('notes.txt'), 'not to be lost');
    await expect(changeConsortium(ca, at('notes.txt'), {})).rejects.toMatchObject(refused('ROSTER_INVALID'));
    expect(await readFile(at('notes.txt'), 'utf8')).toBe('not to be lost');
    const newest = await changeConsortium(ca, at('newest.json'), { revoke: 'bank-a' });
    const other = join(folder, 'other-ca');
    await initConsortium(other, { consortium: 'Other', minimumQuorum: 1 });
    const requests = [await readRequest(at('aggregator.request.json')), await readRequest(at('bank-a.request.json'))];
    await expect(changeConsortium(other, at('newest.json'), { sign: requests })).rejects.toMatchObject(
      refused('ROSTER_INVALID', at('newest.json')),
    );
    expect(await readRosterFile(at('newest.json'))).toEqual(newest);
    expect((await openConsortium(other)).state.version).toBe(0);
  });

  test('changes nothing when the outcome would be no roster', async () => {
    await initConsortium(ca, { consortium: 'Test', minimumQuorum: 2 });
    const before = await readFile(join(ca, 'consortium.json'), 'utf8');
    const [aggregator, bank] = [await requestOf('aggregator'), await requestOf('bank-a')];
    for (const sign of [[bank], [aggregator, bank], []]) {
      await expect(changeConsortium(ca, out, { sign })).rejects.toMatchObject(refused('ROSTER_INVALID'));
      expect(await readFile(join(ca, 'consortium.json'), 'utf8')).toBe(before);
      expect(existsSync(out)).toBe(false);
    }
  });
});

describe('a request', () => {
  test('proves both keys, and is refused when any part of it is changed', async () => {
    const request = await requestOf('bank-a');
    expect(await checkRequest(JSON.parse(JSON.stringify(unchecked(request))))).toEqual(request);
    const mallory = IdentityKey.create();
    const theirs = unchecked(await requestOf('bank-b'));
    const changes: Record<string, Partial<MemberRequest>> = {
      name: { name: 'bank-b' },
      'identity key': { identityKey: mallory.publicKey },
      role: { role: 'aggregator', hosts: ['localhost'] },
      'TLS request': { certificateRequest: theirs.certificateRequest },
      signature: { signature: theirs.signature },
      url: { url: 'https://elsewhere.example' },
    };
    for (const [what, change] of Object.entries(changes)) {
      const outcome = await checkRequest({ ...unchecked(request), ...change }).then(
        () => 'accepted',
        ({ code }: { code: string }) => code,
      );
      expect({ what, outcome }).toEqual({ what, outcome: 'ROSTER_INVALID' });
    }
  });

  test("cannot be made with another member's TLS key, or with a stolen request for one", async () => {
    const victim = unchecked(await requestOf('bank-a'));
    const mallory = IdentityKey.create();
    // Mallory signs, with her own identity, over the victim's TLS request: its subject names the victim's identity key.
    const made = await makeRequest({ role: 'site', name: 'bank-a', identity: mallory, tlsKey: await createTlsKey() });
    const { signature: _, ...unsigned } = { ...made, certificateRequest: victim.certificateRequest };
    const domain = new TextEncoder().encode('veilrisk/request/v1\n');
    const { canonicalBytes } = await import('../../federated/protocol/canonical.ts');
    const signature = Buffer.from(mallory.sign(Buffer.concat([domain, canonicalBytes(unsigned)]))).toString('base64');
    await expect(checkRequest({ ...unsigned, signature })).rejects.toMatchObject(
      refused('ROSTER_INVALID', 'certificateRequest'),
    );
    // The same with a TLS request that names Mallory, but whose signature is of another key.
    const named = await createCertificateRequest('bank-a', mallory.publicKey, await createTlsKey());
    const broken = Buffer.from(named.split('-----')[2], 'base64');
    broken[broken.length - 5] ^= 1;
    const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${broken.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    const again = { ...unsigned, certificateRequest: pem };
    const sealed = Buffer.from(mallory.sign(Buffer.concat([domain, canonicalBytes(again)]))).toString('base64');
    await expect(checkRequest({ ...again, signature: sealed })).rejects.toMatchObject(
      refused('ROSTER_INVALID', 'certificateRequest'),
    );
  });

  test('does not take the place of an enrolled member, with new keys or with one stolen', async () => {
    await consortium();
    const { identity } = await openMember(at('bank-a'), (await readRosterFile(out)).roster);
    const attempts: Record<string, MemberRequest> = {
      'both keys new': await makeRequest({
        ...{ role: 'site', name: 'bank-a', identity: IdentityKey.create(), tlsKey: await createTlsKey() },
      }),
      'own identity key, stolen TLS key': await makeRequest({
        ...{ role: 'site', name: 'bank-a', identity: IdentityKey.create(), tlsKey: identity.tlsKey ?? '' },
      }),
      'stolen identity key, own TLS key': await makeRequest({
        ...{ role: 'site', name: 'bank-a', identity, tlsKey: await createTlsKey() },
      }),
    };
    for (const request of Object.values(attempts)) {
      const sign = [await checkRequest(request)];
      await expect(changeConsortium(ca, out, { sign })).rejects.toMatchObject(refused('ROSTER_INVALID', 'bank-a'));
    }
    const stranger = await checkRequest(attempts['both keys new']);
    await expect(changeConsortium(ca, out, { rotate: stranger })).rejects.toMatchObject(
      refused('ROSTER_INVALID', 'bank-a'),
    );
    const replaced = await changeConsortium(ca, out, { rotate: stranger, newIdentity: true });
    expect(replaced.roster.sites[0].identityKey).toBe(stranger.identityKey);
  });

  test('is for names and addresses only, and the same when made again', async () => {
    for (const host of ['', 'a b', 'fe80::1%eth0', '::ffff:1.2.3.4', 'https://a.example', '-a']) {
      await expect(requestOf('aggregator', { host: [host] })).rejects.toMatchObject(refused('ROSTER_INVALID', 'host'));
    }
    const first = await requestOf('bank-a');
    const second = await requestOf('bank-a');
    expect([second.identityKey, second.tlsPublicKey]).toEqual([first.identityKey, first.tlsPublicKey]);
    await expect(provisionSite({ dataDir: at('bank-a'), name: 'bank-b', out })).rejects.toMatchObject(
      refused('CONFIGURATION', '--name'),
    );
  });
});

describe('a member', () => {
  const compared = { compared: true };

  test('pins the operator at first use, after a comparison', async () => {
    const { roster } = await consortium();
    const join = (how: Parameters<typeof provisionJoin>[2]) => provisionJoin(at('bank-a'), out, how);
    await expect(join({})).rejects.toMatchObject({ code: 'CONFIGURATION', where: 'operator' });
    await expect(join({ operatorFingerprint: '00'.repeat(32) })).rejects.toMatchObject({ code: 'CONFIGURATION' });
    expect(await installedRoster(at('bank-a'))).toBeNull();
    const { fingerprint } = (await provisionJoin(at('bank-b'), out, compared)).members[1];
    await join({ operatorFingerprint: fingerprint.toUpperCase().replaceAll(' ', ':') });
    expect((await installedRoster(at('bank-a')))?.roster).toEqual(roster);
    // Later ones need none, but a fingerprint that is given has to fit.
    await join({});
    await expect(join({ operatorFingerprint: '00'.repeat(32) })).rejects.toMatchObject({ code: 'CONFIGURATION' });
  });

  test('follows newer rosters of its operator and nothing else', async () => {
    await consortium();
    await copyFile(out, at('v1.json'));
    const dir = at('bank-a');
    await provisionJoin(dir, out, compared);
    await changeConsortium(ca, out, { revoke: 'bank-c' });
    await provisionJoin(dir, out, {});
    const rollback = provisionJoin(dir, at('v1.json'), compared);
    await expect(rollback).rejects.toMatchObject(refused('ROSTER_INVALID', 'version'));
    expect((await installedRoster(dir))?.roster.version).toBe(2);

    // A process that follows a file of its own remembers it: the file of before does not come back after a restart.
    await copyFile(out, at('v2.json'));
    await changeConsortium(ca, out, { url: 'https://localhost:7000' });
    const followed = await followedRoster(dir, out);
    if (followed !== null) await rememberRoster(dir, followed);
    expect((await installedRoster(dir))?.roster.version).toBe(3);
    await expect(followedRoster(dir, at('v2.json'))).rejects.toMatchObject(refused('ROSTER_INVALID', 'version'));

    // A second operator enrols the same keys.
    const other = join(folder, 'other-ca');
    await initConsortium(other, { consortium: 'Test', minimumQuorum: 1 });
    const sign = [await readRequest(at('aggregator.request.json')), await readRequest(at('bank-a.request.json'))];
    await changeConsortium(other, at('other.json'), { sign });
    const misled = provisionJoin(dir, at('other.json'), compared);
    await expect(misled).rejects.toMatchObject(refused('ROSTER_INVALID', 'operator'));

    // The operator himself signs two rosters of one version: he is told on.
    const { state, operator } = await openConsortium(ca);
    const { signRoster } = await import('../../federated/protocol/roster.ts');
    const { roster } = await readRosterFile(out);
    expect(state.version).toBe(3);
    const forked = signRoster({ ...roster, minimumQuorum: 1 }, operator);
    await expect(installRoster(dir, forked)).rejects.toMatchObject(refused('ROSTER_INVALID', 'version'));

    // An altered file, as a member's own or as a new one.
    const text = await readFile(out, 'utf8');
    await writeFile(at('altered.json'), text.replace('"minimumQuorum": 2', '"minimumQuorum": 1'));
    await expect(provisionJoin(dir, at('altered.json'), {})).rejects.toMatchObject(
      refused('ROSTER_INVALID', 'signature'),
    );
    await writeFile(memberFiles(dir).roster, text.replace('"minimumQuorum": 2', '"minimumQuorum": 1'));
    await expect(installedRoster(dir)).rejects.toMatchObject(refused('ROSTER_INVALID', 'signature'));
  });

  test('whom the roster does not list, or lists with another TLS key, does not follow it', async () => {
    await consortium();
    await requestOf('bank-x');
    await expect(provisionJoin(at('bank-x'), out, compared)).rejects.toMatchObject(refused('ROSTER_INVALID'));
    await rm(memberFiles(at('bank-a')).tlsKey);
    await expect(provisionJoin(at('bank-a'), out, compared)).rejects.toMatchObject(
      refused('CERTIFICATE_REFUSED', 'bank-a'),
    );
  });

  test('rotates its TLS key; a crash anywhere between leaves keys that fit the roster in force', async () => {
    const before = (await consortium()).roster;
    const dir = at('bank-a');
    const { tlsKey, nextTlsKey } = memberFiles(dir);
    await provisionJoin(dir, out, compared);
    const oldKey = await readFile(tlsKey, 'utf8');
    const request = await requestOf('bank-a', { rotate: true });
    expect((await stat(nextTlsKey)).mode & 0o777).toBe(0o600);
    // Asked again before the roster came: the same next key.
    expect((await requestOf('bank-a', { rotate: true })).tlsPublicKey).toBe(request.tlsPublicKey);
    expect((await openMember(dir, before)).identity.tlsKey).toBe(oldKey);

    await expect(changeConsortium(ca, out, { sign: [request] })).rejects.toMatchObject(
      refused('ROSTER_INVALID', 'bank-a'),
    );
    const signed = await changeConsortium(ca, out, { rotate: request });
    expect(signed.roster.revoked).toEqual([certificateFingerprint(before.sites[0].certificate)]);
    const fits = async (roster: Roster) => {
      const { place, identity } = await openMember(dir, roster);
      return new X509Certificate(place.certificate).checkPrivateKey(createPrivateKey(identity.tlsKey ?? ''));
    };
    // Killed after the roster was written, before the key was moved.
    await writeFile(memberFiles(dir).roster, JSON.stringify(signed));
    expect(await fits(signed.roster)).toBe(true);
    expect(existsSync(nextTlsKey)).toBe(true);
    await provisionJoin(dir, out, {});
    expect(existsSync(nextTlsKey)).toBe(false);
    expect(await fits(signed.roster)).toBe(true);
    expect(await readFile(tlsKey, 'utf8')).not.toBe(oldKey);
    // The same request again changes nothing; the old request, replayed, does not bring the old key back.
    expect(await changeConsortium(ca, out, { rotate: request })).toEqual(signed);
    const { identity } = await openMember(dir, signed.roster);
    const replay = await checkRequest(await makeRequest({ role: 'site', name: 'bank-a', identity, tlsKey: oldKey }));
    await expect(changeConsortium(ca, out, { rotate: replay })).rejects.toMatchObject(
      refused('ROSTER_INVALID', 'bank-a'),
    );
  });

  test('who is revoked is out, may not come back with the old keys, and may with new ones', async () => {
    const { roster } = await consortium();
    const [{ certificate }] = roster.sites;
    const after = await changeConsortium(ca, out, { revoke: 'bank-a' });
    expect(after.roster.sites.map(({ id }) => id)).toEqual(['bank-b', 'bank-c']);
    expect(after.roster.revoked).toEqual([certificateFingerprint(certificate)]);
    const old = await readRequest(at('bank-a.request.json'));
    await expect(changeConsortium(ca, out, { sign: [old] })).rejects.toMatchObject(refused('ROSTER_INVALID', 'bank-a'));
    await expect(changeConsortium(ca, out, { revoke: 'bank-a' })).rejects.toMatchObject(refused('ROSTER_INVALID'));
    // Below the quorum the roster would be no roster; an emergency lowers it in the same step.
    await expect(changeConsortium(ca, out, { revoke: 'bank-b' })).rejects.toMatchObject(refused('ROSTER_INVALID'));
    const small = await changeConsortium(ca, out, { revoke: 'bank-b', minimumQuorum: 1 });
    expect(small.roster).toMatchObject({ version: 3, minimumQuorum: 1 });
    const back = await changeConsortium(ca, out, { sign: [await requestOf('bank-a', { rotate: true })] });
    expect(back.roster.sites.map(({ id }) => id)).toEqual(['bank-c', 'bank-a']);
    // Once the date refuses a certificate by itself, the roster need not.
    const later = await changeConsortium(ca, out, { renewOperator: true }, new Date(Date.now() + 400 * DAY_MS));
    expect(later.roster.revoked).toEqual([]);
  });
});

test('an authority whose key others can read signs nothing', async () => {
  await consortium();
  await chmod(join(ca, 'authority-key.pem'), 0o644);
  const enrolling = changeConsortium(ca, out, { minimumQuorum: 2 });
  await expect(enrolling).rejects.toMatchObject(refused('ROSTER_INVALID', join(ca, 'authority-key.pem')));
});

test('nothing that leaves a directory holds a private key', async () => {
  await consortium();
  await provisionJoin(at('bank-a'), out, { compared: true });
  const secrets: string[] = [];
  const shared: string[] = [];
  for (const file of await readdir(folder, { recursive: true })) {
    if (!(await stat(at(file))).isFile()) continue;
    const text = await readFile(at(file), 'utf8');
    if (/pem$/.test(file) && text.includes('PRIVATE KEY')) secrets.push(text.split('\n')[1]);
    else if (!file.endsWith('subject.key')) shared.push(text);
  }
  // Four identity and four TLS keys, three log keys, operator's two, authority's one.
  expect(secrets).toHaveLength(14);
  for (const text of shared) {
    expect(text).not.toContain('PRIVATE');
    for (const secret of secrets) expect(text).not.toContain(secret);
  }
});

function unchecked({ tlsPublicKey: _, ...request }: Awaited<ReturnType<typeof readRequest>>): MemberRequest {
  return request;
}
