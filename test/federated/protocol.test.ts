/** Bytes: the golden of PROTOCOL.md, encodings both ways, the roster and the key files. */

import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decideProposal, decideStep, MAX_REOPENINGS } from '../../federated/aggregator/decide.ts';
import { parseCanonical } from '../../federated/protocol/canonical.ts';
import { signedBytes } from '../../federated/protocol/envelope.ts';
import { decodeHistogram, encodeHistogram, MAX_COORDINATE } from '../../federated/protocol/histogram.ts';
import { IdentityKey, verifySignature } from '../../federated/protocol/identity.ts';
import { decodeWeights, encodeWeights, stateHash } from '../../federated/protocol/weights.ts';
import { packVector, toRing } from '../../federated/secagg/ring.ts';
import { agreementHash, sumHash } from '../../federated/secagg/sum.ts';
import { resolutionOf } from '../../src/learning/resolution.ts';
import { DENSE_GRID, scoreEdges } from '../../src/learning/scoreHistogram.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The named code block of PROTOCOL.md as bytes: hex digits, `#` starts a comment. */
function golden(name: string): string {
  const text = readFileSync(join(import.meta.dirname, '../../federated/PROTOCOL.md'), 'utf8');
  const block = text.split(`\`\`\`hex ${name}\n`)[1].split('```')[0];
  return block.replace(/#.*$/gm, '').replace(/\s+/g, '');
}

// RFC 8032 section 7.1, test 1.
const RFC8032_SECRET = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
const RFC8032_PUBLIC = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a';
const RFC8032_EMPTY =
  'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b';
const fromRaw = (secret: string) => {
  const der = Buffer.from(`302e020100300506032b657004220420${secret}`, 'hex').toString('base64');
  return IdentityKey.fromPem(`-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`);
};

describe('bytes', () => {
  test('the signature of PROTOCOL.md', () => {
    const key = fromRaw(RFC8032_SECRET);
    const roster = new Uint8Array(32).fill(0xab);
    const body = new Uint8Array(Buffer.from('0a0168', 'hex'));
    const bytes = signedBytes({ body, kind: 'query', signer: 'bank-1', messageId: 'm1' }, roster);
    expect(hex(bytes)).toBe(golden('signed'));
    expect(hex(key.sign(bytes))).toBe(golden('signature'));
  });

  test('Ed25519 is the one of RFC 8032', () => {
    const key = fromRaw(RFC8032_SECRET);
    expect(Buffer.from(key.publicKey, 'base64').toString('hex')).toBe(RFC8032_PUBLIC);
    expect(hex(key.sign(new Uint8Array()))).toBe(RFC8032_EMPTY);
    expect(verifySignature(key.publicKey, Uint8Array.of(1), key.sign(new Uint8Array()))).toBe(false);
    expect(verifySignature('AAAA', new Uint8Array(), key.sign(new Uint8Array()))).toBe(false);
  });

  test('the split of signed fields is unique', () => {
    const text = fc.string({ maxLength: 5 });
    fc.assert(
      fc.property(text, text, text, text, (kind, signer, otherKind, otherSigner) => {
        const rest = { body: new Uint8Array(), messageId: 'm' };
        const one = hex(signedBytes({ ...rest, kind, signer }, new Uint8Array(32)));
        const two = hex(signedBytes({ ...rest, kind: otherKind, signer: otherSigner }, new Uint8Array(32)));
        expect(one === two).toBe(kind === otherKind && signer === otherSigner);
      }),
    );
  });

  test('the histogram of PROTOCOL.md, and every histogram both ways', () => {
    expect(hex(encodeHistogram(Float64Array.of(0, -1, 1, -64, 64, MAX_COORDINATE, -MAX_COORDINATE)))).toBe(
      golden('histogram'),
    );
    const coordinate = fc.integer({ min: -MAX_COORDINATE, max: MAX_COORDINATE });
    fc.assert(
      fc.property(fc.array(coordinate), (values) => {
        const histogram = Float64Array.from(values);
        expect(decodeHistogram(encodeHistogram(histogram), values.length)).toEqual(histogram);
      }),
    );
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 0.5, MAX_COORDINATE + 1, -MAX_COORDINATE - 1]) {
      expect(() => encodeHistogram(Float64Array.of(bad))).toThrow(
        expect.objectContaining({ code: 'MESSAGE_MALFORMED' }),
      );
    }
  });

  test('arbitrary bytes either have one meaning or none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 24 }), fc.integer({ min: 0, max: 8 }), (bytes, dimension) => {
        let values: Float64Array;
        try {
          values = decodeHistogram(bytes, dimension);
        } catch (error) {
          expect(error).toMatchObject({ code: 'MESSAGE_MALFORMED' });
          return;
        }
        expect(hex(encodeHistogram(values))).toBe(hex(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  test('weights keep every bit, and NaN is refused', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ noNaN: true, noDefaultInfinity: true })), (weights) => {
        expect(decodeWeights(encodeWeights(Float64Array.from(weights)))).toEqual(Float64Array.from(weights));
      }),
    );
    expect(() => decodeWeights(encodeWeights(Float64Array.of(Number.NaN)))).toThrow('not finite');
    expect(() => decodeWeights(new Uint8Array(7))).toThrow('not whole');
    expect(hex(stateHash({ intercept: 0.5, flat: Float64Array.of(1, -2) }))).toBe(golden('state'));
  });

  test('the packed values, the name of a sum and the agreement of PROTOCOL.md', () => {
    expect(hex(packVector(toRing(Float64Array.of(1, -2, 3), 20), 20))).toBe(golden('packed'));
    const sites = ['bank-1', 'bank-2', 'bank-3'];
    const bytes = (value: number) => new Uint8Array(32).fill(value);
    const name = sumHash(
      {
        ...{ rosterHash: bytes(0xab), planHash: 'cd'.repeat(32), epoch: 0 },
        ...{ threshold: 3, minimum: 3, slots: 8, roster: sites },
      },
      bytes(0xef),
      {
        ...{ round: 1, attempt: 0, slot: 0, stateHash: bytes(1), members: sites },
        ...{ dimension: 3, bits: 20, logHead: bytes(0) },
      },
    );
    expect(hex(name)).toBe(golden('sum'));
    expect(hex(agreementHash(name, sites, bytes(0)))).toBe(golden('agreement'));
  });

  test('the knots of PROTOCOL.md', () => {
    const { reduce, total } = resolutionOf({ sizes: [8], ordered: [7] }, 3);
    const rows = Array.from({ length: 8 }, (_, bin) =>
      Uint8Array.from(reduce(new Float64Array(8).fill(1, bin, bin + 1))),
    );
    expect(total).toBe(4);
    expect(rows.map(hex).join('')).toBe(golden('knots'));
    expect(resolutionOf({ sizes: [8], ordered: [7] }, 4).total).toBe(8);
  });

  test('the score edges of PROTOCOL.md', () => {
    const [a, b] = [Math.asinh(-8), Math.asinh(16)];
    const edges = scoreEdges({ intercept: -3 });
    expect(edges).toHaveLength(63);
    edges.forEach((edge, i) => {
      expect(edge).toBeCloseTo(-3 + Math.sinh(a + ((i + 1) * (b - a)) / 64) / 2, 12);
    });
    const [from, to] = [Math.asinh(-5), Math.asinh(10)];
    scoreEdges({ intercept: -3 }, DENSE_GRID).forEach((edge, i) => {
      expect(edge).toBeCloseTo(-3 + 2 * Math.sinh(from + ((i + 1) * (to - from)) / 64), 12);
    });
  });

  test('only canonical JSON is read', () => {
    const read = (text: string) => parseCanonical(new TextEncoder().encode(text), 'plan');
    expect(read('{"a":1,"b":[2]}')).toEqual({ a: 1, b: [2] });
    for (const text of ['{"b":1,"a":2}', '{"a":1 }', '{"a":1.0}', '{"a":1,"a":1}', '\ufeff{}', '{', '']) {
      expect(() => read(text)).toThrow(expect.objectContaining({ code: 'MESSAGE_MALFORMED' }));
    }
  });
});

describe('an identity key', () => {
  test('survives its file, which is private and never replaced', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'veilrisk-key-'));
    try {
      const path = join(directory, 'identity.pem');
      const key = IdentityKey.create();
      await key.save(path);
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      expect((await IdentityKey.load(path)).publicKey).toBe(key.publicKey);
      await expect(IdentityKey.create().save(path)).rejects.toMatchObject({ code: 'ROSTER_INVALID' });
      await chmod(path, 0o644);
      await expect(IdentityKey.load(path)).rejects.toMatchObject({ code: 'ROSTER_INVALID', fix: `chmod 600 ${path}` });
      await expect(IdentityKey.load(join(directory, 'no.pem'))).rejects.toMatchObject({ code: 'ROSTER_INVALID' });
      expect(JSON.stringify(key)).toBe(JSON.stringify({ publicKey: key.publicKey }));
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

describe('decisions', () => {
  const count = fc.integer({ min: 0, max: 10 });

  test('a plan starts only with a quorum and never waits for nothing', () => {
    fc.assert(
      fc.property(count, count, count, fc.integer({ min: 1, max: 10 }), fc.boolean(), (a, r, open, quorum, over) => {
        const decision = decideProposal({ sites: a + r + open, accepted: a, refused: r, quorum, deadlineOver: over });
        if (decision === 'start') expect(a).toBeGreaterThanOrEqual(quorum);
        if (decision === 'wait') expect(open > 0 && !over && a + open >= quorum).toBe(true);
        if (decision === 'abort') expect(a < quorum).toBe(true);
      }),
    );
  });

  test('a round closes only with a quorum, and ends after finitely many re-openings', () => {
    fc.assert(
      fc.property(count, count, count, fc.integer({ min: 1, max: 10 }), (arrived, awaited, silent, needed) => {
        const facts = { arrived, needed, awaited, possible: arrived + awaited + silent };
        const decisions = Array.from({ length: MAX_REOPENINGS + 1 }, (_, reopenings) =>
          decideStep({ ...facts, deadlineOver: true, reopenings }),
        );
        expect(['close', 'abort']).toContain(decisions.at(-1));
        expect(decisions.includes('close')).toBe(arrived >= needed);
        // Before its deadline a step is given up only when too few are left to make it.
        const early = decideStep({ ...facts, deadlineOver: false, reopenings: 0 });
        expect(early === 'again').toBe(facts.possible < needed);
        expect(early).not.toBe('abort');
      }),
    );
  });
});
