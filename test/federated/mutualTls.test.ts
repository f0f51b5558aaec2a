/** Who gets a connection: certificates that are missing, foreign, expired, revoked, replaced or stolen, and clocks a day apart. */
import { X509Certificate } from 'node:crypto';
import { type ClientHttp2Session, connect as http2Connect } from 'node:http2';
import { connect as tcpConnect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Aggregator, startAggregator } from '../../federated/aggregator/server.ts';
import { planStatus } from '../../federated/protocol/client.ts';
import { Party } from '../../federated/protocol/envelope.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { certificateFingerprint, checkRoster, OPERATOR, type Roster } from '../../federated/protocol/roster.ts';
import { checkDates, connect, daysLeft } from '../../federated/protocol/transport.ts';
import { createAuthority } from '../../federated/provision/certificate.ts';
import { usePostgres } from '../support/postgres.ts';
import { authority, issueMember, makeConsortium, quiet, siteParty } from './consortium.ts';

const DAY_MS = 86_400_000;
const postgres = usePostgres();
const consortium = makeConsortium(3);
const { aggregator: aggregatorKey, tls, operator } = consortium;
const days = (count: number) => new Date(Date.now() + count * DAY_MS);
// Issued a year and a half ago, and by clocks a day off.
const expired = await issueMember(authority, 'bank-2', { now: days(-550) });
const behind = await issueMember(authority, 'bank-2', { now: days(-1) });
const ahead = await issueMember(authority, 'bank-3', { now: days(1) });
const revoked = await issueMember(authority, 'bank-9');
const roster = checkRoster({
  ...consortium.roster,
  sites: [
    consortium.roster.sites[0],
    { id: 'bank-2', identityKey: behind.key.publicKey, certificate: behind.certificate },
    { id: 'bank-3', identityKey: ahead.key.publicKey, certificate: ahead.certificate },
  ],
  revoked: [certificateFingerprint(revoked.certificate)],
});
const bank = consortium.sites[0].key;
let aggregator: Aggregator;

beforeAll(async () => {
  const databaseUrl = await postgres.freshDatabase();
  aggregator = await startAggregator({ roster, identity: aggregatorKey, tls, databaseUrl, port: 0, log: quiet });
});
afterAll(() => aggregator.stop());

/** Health as the holder of `key` asks it, by a roster that lists him with `certificate`. */
async function health(key: IdentityKey, changes: Partial<Roster> = {}): Promise<string> {
  let connection: ReturnType<typeof connect> | undefined;
  try {
    connection = connect({ ...roster, ...changes }, aggregator.url, key);
    return (await connection.federation.health({}, { timeoutMs: 5_000 })).consortium;
  } catch (error) {
    const { code, message, fix } = fromConnectError(error);
    return `${code}: ${message}${fix === undefined ? ' WITHOUT A FIX' : ''}`;
  } finally {
    connection?.close();
  }
}

/** What a client with this TLS set-up, but none of our checks, gets from the port: an HTTP/2 status, or how it failed. */
async function raw(own: { key: string; cert: string } | undefined): Promise<string> {
  return new Promise((done) => {
    const session: ClientHttp2Session = http2Connect(aggregator.url, {
      ...{ ca: [roster.authority], ...own },
      checkServerIdentity: () => undefined,
    });
    const end = (outcome: string) => {
      session.destroy();
      done(outcome);
    };
    session.on('error', () => end('refused'));
    session.on('close', () => end('refused'));
    const stream = session.request({
      ':method': 'POST',
      ':path': '/veilrisk.federation.v1.Federation/Health',
      'content-type': 'application/grpc+proto',
      te: 'trailers',
    });
    stream.on('error', () => end('refused'));
    stream.on('response', (headers) => end(`${headers[':status']} grpc-status ${headers['grpc-status'] ?? 'none'}`));
    stream.end(Buffer.alloc(5));
  });
}

describe('a connection', () => {
  test('is for members with the certificate the roster lists', async () => {
    expect(await health(bank)).toBe('Test consortium');
    expect(await health(operator)).toBe('Test consortium');
    expect(await health(aggregatorKey)).toBe('Test consortium');
    expect(await raw({ key: bank.tlsKey ?? '', cert: roster.sites[0].certificate })).toBe('200 grpc-status none');
  });

  test('without TLS gets no answer', async () => {
    const { port } = new URL(aggregator.url);
    for (const opening of ['GET / HTTP/1.1\r\nHost: a\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']) {
      const socket = tcpConnect(Number(port), '127.0.0.1');
      socket.write(opening);
      const received: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => received.push(chunk));
      await new Promise<void>((done) => socket.on('error', () => {}).on('close', () => done()));
      // A TLS alert record at most: never a byte of HTTP.
      const bytes = Buffer.concat(received);
      expect(bytes.length === 0 || bytes[0] === 21).toBe(true);
    }
  });

  test('without a certificate is refused in the handshake, and told so', async () => {
    expect(await raw(undefined)).toBe('refused');
    const naked = IdentityKey.create();
    expect(await health(naked)).toMatch(/^CERTIFICATE_REFUSED: There is no TLS key and certificate/);
    const connection = tlsConnect({
      port: Number(new URL(aggregator.url).port),
      ca: [roster.authority],
      ALPNProtocols: ['h2'],
      checkServerIdentity: () => undefined,
    });
    const alert = await new Promise((done) =>
      connection
        .resume()
        .on('error', done)
        .on('close', () => done(undefined)),
    );
    expect(fromConnectError(alert)).toMatchObject({
      code: 'CERTIFICATE_REFUSED',
      message: 'The aggregator asks for a certificate of the consortium.',
    });
  });

  test('with a certificate of another authority is refused, whatever it says', async () => {
    const elsewhere = await createAuthority('Test consortium');
    const { key, certificate } = await issueMember(elsewhere, 'bank-1');
    expect(await raw({ key: key.tlsKey ?? '', cert: certificate })).toBe('refused');
  });

  test('with an expired certificate is refused by both ends, with the date', async () => {
    expect(await raw({ key: expired.key.tlsKey ?? '', cert: expired.certificate })).toBe('refused');
    const sites = [{ id: 'bank-2', identityKey: expired.key.publicKey, certificate: expired.certificate }];
    const date = new X509Certificate(expired.certificate).validToDate.toISOString().slice(0, 10);
    expect(await health(expired.key, { sites })).toBe(`CERTIFICATE_REFUSED: The certificate expired on ${date}.`);
    expect(daysLeft(expired.certificate)).toBeLessThan(0);
  });

  test('with a revoked certificate, or one the roster does not list, is told so and gets nothing else', async () => {
    const listed = (member: typeof revoked) => ({
      sites: [{ id: 'bank-9', identityKey: member.key.publicKey, certificate: member.certificate }],
    });
    expect(await health(revoked.key, listed(revoked))).toBe(
      'CERTIFICATE_REFUSED: The certificate was revoked or replaced.',
    );
    const unlisted = await issueMember(authority, 'bank-1');
    expect(await health(unlisted.key, listed(unlisted))).toBe(
      'CERTIFICATE_REFUSED: The certificate is not in the roster in force.',
    );
    // 16 is UNAUTHENTICATED; an unknown path says no more than a known one.
    expect(await raw({ key: revoked.key.tlsKey ?? '', cert: revoked.certificate })).toBe('200 grpc-status 16');
  });

  test("with another member's certificate needs his TLS key", async () => {
    const stolen = { ...roster.sites[0], identityKey: behind.key.publicKey };
    expect(await health(behind.key, { sites: [stolen] })).toMatch(/^CERTIFICATE_REFUSED: .* another TLS key/);
  });
});

describe('clocks a day apart', () => {
  test('certificates issued by a clock a day behind or ahead serve at once', async () => {
    expect(await health(behind.key)).toBe('Test consortium');
    expect(await health(ahead.key)).toBe('Test consortium');
  });

  test('a member whose clock is a day off accepts a certificate issued now; three days off it says why not', () => {
    for (const certificate of [tls.certificate, roster.sites[0].certificate, roster.authority]) {
      const parsed = new X509Certificate(certificate);
      for (const off of [-1, 0, 1]) expect(() => checkDates('bank-1', parsed, days(off))).not.toThrow();
      expect(() => checkDates('bank-1', parsed, days(-3))).toThrow(
        expect.objectContaining({ code: 'CERTIFICATE_REFUSED', message: expect.stringContaining('not valid before') }),
      );
    }
  });

  test('an aggregator with such a certificate serves, and one with an expired one does not start', async () => {
    for (const [now, starts] of [
      [days(-1), true],
      [days(1), true],
      [days(-550), false],
    ] as const) {
      const own = await issueMember(authority, 'aggregator', { hosts: ['localhost', '127.0.0.1'], now });
      const identity = IdentityKey.create().withTls(own.key.tlsKey ?? '');
      const listed = { ...roster.aggregator, identityKey: identity.publicKey, certificate: own.certificate };
      const skewed = checkRoster({ ...roster, aggregator: listed });
      const starting = startAggregator({
        ...{ roster: skewed, identity, port: 0, log: quiet, databaseUrl: await postgres.freshDatabase() },
        tls: { key: own.key.tlsKey ?? '', certificate: own.certificate },
      });
      if (!starts) {
        await expect(starting).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED', where: 'aggregator' });
        continue;
      }
      const running = await starting;
      const connection = connect(skewed, running.url, bank);
      expect((await connection.federation.health({})).consortium).toBe('Test consortium');
      connection.close();
      await running.stop();
    }
  });
});

describe('a message', () => {
  const unknownPlan = { planId: 'none' };

  test("over another member's connection is refused, though its signature is right", async () => {
    const own = new Party(roster, 'bank-1', bank);
    const theirs = new Party(roster, OPERATOR, operator);
    const connection = connect(roster, aggregator.url, bank);
    const ask = (party: Party) =>
      connection.federation.status(party.seal('query', 'q', unknownPlan)).catch((error) => fromConnectError(error));
    expect(await ask(own)).toMatchObject({ code: 'PLAN_UNKNOWN' });
    expect(await ask(theirs)).toMatchObject({ code: 'CERTIFICATE_REFUSED', where: 'signer' });
    const stream = connection.federation.tasks(new Party(roster, 'bank-2', behind.key).seal('listen', 'l', {}));
    const first = await stream[Symbol.asyncIterator]()
      .next()
      .catch((error) => fromConnectError(error));
    expect(first).toMatchObject({ code: 'CERTIFICATE_REFUSED', where: 'signer' });
    connection.close();
    expect(
      await planStatus({ roster, key: operator, url: aggregator.url, ...unknownPlan }).catch((e) => e),
    ).toMatchObject({
      code: 'PLAN_UNKNOWN',
    });
  });

  test("may come over the proxy's connection where there is one", async () => {
    const proxied = makeConsortium(2);
    const running = await startAggregator({
      ...{ roster: proxied.roster, identity: proxied.aggregator, tls: proxied.tls, port: 0, log: quiet },
      ...{ databaseUrl: await postgres.freshDatabase(), behindProxy: true },
    });
    // A proxy that ends the members' TLS has the aggregator's key, and dials on with it.
    const connection = connect(proxied.roster, running.url, proxied.aggregator);
    const envelope = siteParty(proxied, 1).seal('query', 'q', unknownPlan);
    const answer = await connection.federation.status(envelope).catch((error) => fromConnectError(error));
    expect(answer).toMatchObject({ code: 'PLAN_UNKNOWN' });
    connection.close();
    await running.stop();
  });
});
