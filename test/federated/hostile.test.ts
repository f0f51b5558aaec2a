/** What strangers, replays, liars and broken encodings get: a stable code, and nothing stored. */
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Aggregator } from '../../federated/aggregator/server.ts';
import { canonicalBytes } from '../../federated/protocol/canonical.ts';
import { planStatus, proposePlan } from '../../federated/protocol/client.ts';
import type { BodyInit, Party } from '../../federated/protocol/envelope.ts';
import { fromConnectError } from '../../federated/protocol/failure.ts';
import { type SignedEnvelope, SignedEnvelopeSchema } from '../../federated/protocol/generated/veilrisk_pb.js';
import { encodeHistogram } from '../../federated/protocol/histogram.ts';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { type Connection, connect } from '../../federated/protocol/transport.ts';
import { NO_WEIGHTS, stateHash } from '../../federated/protocol/weights.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import { planHash } from '../../src/learning/plan.ts';
import { usePostgres } from '../support/postgres.ts';
import {
  aggregatorParty,
  authority,
  contract,
  issueMember,
  makeConsortium,
  makePlan,
  operatorParty,
  siteParty,
  startTestAggregator,
} from './consortium.ts';

const postgres = usePostgres();
const consortium = makeConsortium(3);
const { roster, operator } = consortium;
const plan = makePlan(consortium, { id: 'hostile', roundDeadlineMs: 60_000 });
const hash = planHash(plan);
const { total } = layoutOf(contract);
let aggregator: Aggregator;
let connection: Connection;
let ids = 0;

beforeAll(async () => {
  aggregator = await startTestAggregator(consortium, await postgres.freshDatabase());
  connection = connect(roster, aggregator.url, operator);
  await proposePlan({ roster, operatorKey: operator, plan, contract, url: aggregator.url });
  for (const index of [0, 1, 2]) {
    const answer = siteParty(consortium, index).seal('answer', `answer-${index}`, {
      planId: plan.id,
      planHash: hash,
      accepted: true,
    });
    await connection.federation.answer(answer);
  }
});

afterAll(async () => {
  connection.close();
  await aggregator.stop();
});

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'accepted';
  } catch (error) {
    return fromConnectError(error).code;
  }
}

interface Changes {
  planId?: string;
  planHash?: string;
  round?: number;
  stateHash?: Uint8Array<ArrayBuffer>;
  outcome?: NonNullable<BodyInit<'update'>['outcome']>;
  cosignature?: string;
}

function update(changes: Changes = {}, party: Party = siteParty(consortium, 0), id?: string) {
  const values = encodeHistogram(new Float64Array(total).fill(7));
  return party.seal('update', id ?? `message-${ids++}`, {
    planId: plan.id,
    planHash: hash,
    round: 0,
    stateHash: stateHash(NO_WEIGHTS),
    outcome: { case: 'histogram', value: { dimension: total, values, releaseId: 'r' } },
    ...changes,
  });
}

const submit = (envelope: SignedEnvelope) => codeOf(connection.federation.submit(envelope));
const altered = (envelope: SignedEnvelope, changes: Partial<SignedEnvelope>) =>
  create(SignedEnvelopeSchema, { ...envelope, ...changes });
const histogram = (dimension: number, values: Uint8Array): Changes => ({
  outcome: { case: 'histogram', value: { dimension, values: new Uint8Array(values), releaseId: 'r' } },
});

describe('an envelope', () => {
  test('with any part changed does not verify', async () => {
    const honest = update();
    const flipped = (bytes: Uint8Array) => bytes.map((byte, index) => (index === 3 ? byte ^ 1 : byte));
    expect(await submit(altered(honest, { body: flipped(honest.body) }))).toBe('MESSAGE_SIGNATURE');
    expect(await submit(altered(honest, { signature: flipped(honest.signature) }))).toBe('MESSAGE_SIGNATURE');
    expect(await submit(altered(honest, { signature: new Uint8Array() }))).toBe('MESSAGE_SIGNATURE');
    expect(await submit(altered(honest, { messageId: 'other' }))).toBe('MESSAGE_SIGNATURE');
    expect(await submit(altered(honest, { signer: 'bank-2' }))).toBe('MESSAGE_SIGNATURE');
    expect(await codeOf(connection.federation.answer(altered(honest, { kind: 'answer' })))).toBe('MESSAGE_SIGNATURE');
    expect(await codeOf(connection.federation.answer(honest))).toBe('MESSAGE_MALFORMED');
    expect(await submit(altered(honest, { messageId: '' }))).toBe('MESSAGE_MALFORMED');
  });

  test('of an unknown site, another consortium or the wrong role is refused', async () => {
    expect(await submit(altered(update(), { signer: 'bank-9' }))).toBe('SITE_UNKNOWN');
    const foreign = makeConsortium(3);
    expect(await submit(update({}, siteParty(foreign, 0)))).toBe('MESSAGE_SIGNATURE');
    // Same keys, another roster: the roster hash is signed.
    const renamed = { ...consortium, roster: { ...roster, version: 2 } };
    expect(await submit(update({}, siteParty(renamed, 0)))).toBe('MESSAGE_SIGNATURE');
    expect(await submit(update({}, operatorParty(consortium)))).toBe('MESSAGE_SIGNATURE');
    const proposal = siteParty(consortium, 0).seal('propose', 'p', {
      planJson: canonicalBytes({ ...plan, id: 'mine' }),
      contractJson: canonicalBytes(contract),
      acceptanceDeadlineMs: 1000,
    });
    expect(await codeOf(connection.federation.propose(proposal))).toBe('MESSAGE_SIGNATURE');
    const listen = operatorParty(consortium).seal('listen', 'l', {});
    const stream = connection.federation.tasks(listen)[Symbol.asyncIterator]();
    expect(await codeOf(stream.next())).toBe('MESSAGE_SIGNATURE');
  });
});

describe('an update', () => {
  test('for another plan, round or model state is refused', async () => {
    expect(await submit(update({ planId: 'nowhere' }))).toBe('PLAN_UNKNOWN');
    expect(await submit(update({ planId: 'a\0b' }))).toBe('PLAN_UNKNOWN');
    expect(await submit(update({ planHash: '0'.repeat(64) }))).toBe('ROUND_MISMATCH');
    expect(await submit(update({ round: 1 }))).toBe('ROUND_MISMATCH');
    expect(await submit(update({ round: 4_000_000_000 }))).toBe('ROUND_MISMATCH');
    expect(await submit(update({ stateHash: new Uint8Array(32) }))).toBe('ROUND_MISMATCH');
  });

  test('with a wrong dimension or encoding is refused', async () => {
    const good = encodeHistogram(new Float64Array(total).fill(1));
    const cases: [number, Uint8Array][] = [
      [total + 1, encodeHistogram(new Float64Array(total + 1))],
      [total - 1, encodeHistogram(new Float64Array(total - 1))],
      [total, good.subarray(1)],
      [total, new Uint8Array([...good, 0])],
      [total, new Uint8Array([0x80, 0x00, ...good.subarray(1)])],
      // 2^53 and more, where binary64 loses integers, and ten bytes of ones as a NaN-like filler.
      [total, new Uint8Array([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, ...good.subarray(1)])],
      [total, new Uint8Array(total * 10).fill(0xff)],
      [4_000_000_000, good],
    ];
    for (const [dimension, values] of cases) {
      expect(await submit(update(histogram(dimension, values)))).toBe('MESSAGE_MALFORMED');
    }
    expect(await submit(update({ outcome: { case: undefined } }))).toBe('MESSAGE_MALFORMED');
    expect(await submit(update({ outcome: { case: 'refusal', value: { code: '' } } }))).toBe('MESSAGE_MALFORMED');
    expect(await submit(update({ outcome: { case: 'refusal', value: { code: 'a\0' } } }))).toBe('MESSAGE_MALFORMED');
  });

  test('larger than the limit does not reach the service', async () => {
    const huge = update(histogram(total, new Uint8Array(17 * 1024 * 1024)));
    await expect(submit(huge)).resolves.toBe('AGGREGATOR_UNREACHABLE');
  });

  test('is taken once; the same bytes again get the same reply, other bytes are a replay', async () => {
    const { state, contributions } = await planStatus({ roster, key: operator, url: aggregator.url, planId: plan.id });
    expect({ state, contributions }).toEqual({ state: 'counting', contributions: 0 });
    const party = siteParty(consortium, 0);
    const first = update({}, party, 'once');
    const reply = await connection.federation.submit(first);
    expect(await connection.federation.submit(first)).toEqual(reply);
    // After a crash the site signs anew, and the cosignature's time is another.
    const cosigned = update({ cosignature: '— bank-1/witness AAAAAAAA' }, party, 'once');
    expect(await connection.federation.submit(cosigned)).toEqual(reply);
    expect(party.open('received', reply, 'once').message).toMatchObject({ planId: plan.id, round: 0 });
    const other = histogram(total, encodeHistogram(new Float64Array(total).fill(8)));
    expect(await submit(update(other, party, 'once'))).toBe('MESSAGE_REPLAYED');
    // A second draw of noise under a new id would let an aggregator average it away.
    expect(await submit(update(other, party))).toBe('MESSAGE_REPLAYED');
    expect(await submit(update({}, party))).toBe('MESSAGE_REPLAYED');
  });
});

describe('a proposal', () => {
  const propose = (changes: object, other: object = contract) =>
    codeOf(
      proposePlan({
        ...{ roster, operatorKey: operator, contract: other, url: aggregator.url },
        plan: { ...plan, id: 'another', ...changes },
      }),
    );

  test('that breaks roster, contract or schema is refused', async () => {
    expect(await propose({ quorum: 1 })).toBe('PLAN_REFUSED');
    expect(await propose({ sites: 4 })).toBe('PLAN_REFUSED');
    expect(await propose({ epsilon: -1 })).toBe('PLAN_REFUSED');
    expect(await propose({ mode: 'sum' })).toBe('PLAN_REFUSED');
    expect(await propose({ surprise: true })).toBe('PLAN_REFUSED');
    expect(await propose({ contractHash: 'f'.repeat(64) })).toBe('PLAN_REFUSED');
    expect(await propose({}, { ...contract, version: 2 })).toBe('PLAN_REFUSED');
    expect(await propose({ id: plan.id, rounds: 9 })).toBe('PLAN_STATE');
  });

  test('whose JSON is not canonical is refused: a hash must name one text', async () => {
    const planJson = new TextEncoder().encode(JSON.stringify(plan, null, 1));
    const contractJson = canonicalBytes(contract);
    const envelope = operatorParty(consortium).seal('propose', 'p2', {
      planJson,
      contractJson,
      acceptanceDeadlineMs: 1000,
    });
    expect(await codeOf(connection.federation.propose(envelope))).toBe('MESSAGE_MALFORMED');
  });
});

describe('the channel', () => {
  test('is refused when the certificate is not the pinned one, even for the same name', async () => {
    const { certificate } = await issueMember(authority, 'aggregator', { hosts: ['localhost', '127.0.0.1'] });
    const misled = { ...roster, aggregator: { ...roster.aggregator, certificate } };
    const wrong = connect(misled, aggregator.url, operator);
    expect(await codeOf(wrong.federation.health({}))).toBe('AGGREGATOR_UNREACHABLE');
    wrong.close();
    expect((await connection.federation.health({})).consortium).toBe(roster.consortium);
  });

  test('needs an https URL, and an identity the roster lists', async () => {
    expect(() => connect(roster, 'http://127.0.0.1:1', operator)).toThrow(
      expect.objectContaining({ code: 'ROSTER_INVALID' }),
    );
    const stranger = planStatus({ roster, key: IdentityKey.create(), url: aggregator.url, planId: plan.id });
    expect(await codeOf(stranger)).toBe('ROSTER_INVALID');
  });

  test('a reply for another request does not open', async () => {
    const reply = aggregatorParty(consortium).seal('received', 'theirs', { planId: plan.id, round: 0 });
    expect(() => siteParty(consortium, 0).open('received', reply, 'mine')).toThrow(
      expect.objectContaining({ code: 'MESSAGE_SIGNATURE' }),
    );
  });
});
