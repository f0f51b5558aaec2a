/** A node that lies: about its contract, its scaling, or in the texts of its refusals. */
import { describe, expect, test } from '@jest/globals';
import { createKeys } from '../../src/client/client.ts';
import { planOf } from '../../src/client/encryptedScoring.ts';
import { refusal } from '../../src/client/problems.ts';
import { parseModels, parseScore, parseUsage } from '../../src/client/replies.ts';
import { contractHash, layoutOf, parseContract } from '../../src/contract/contract.ts';
import { contractOf, scaling } from './smallNode.ts';

const hash = 'ab'.repeat(32);

function listed(scaling: object, contract = contractOf(1, ['web'])) {
  const { total } = layoutOf(contract);
  const one = { hash, status: 'champion', family: 'logistic', contractHash: contractHash(contract), contract, scaling };
  return { models: [{ ...one, encryption: { presets: ['standard', 'conservative'], dimension: total } }] };
}

test('a contract with more dimensions than a ciphertext has places is refused, not asked about without end', async () => {
  const key = await createKeys();
  const wide = parseContract({
    ...contractOf(1, ['web']),
    fields: [0, 1, 2, 3, 4].map((i) => ({
      ...{ kind: 'numeric', name: `field_${i}`, min: 0, max: 1, bins: 1024 },
      reason: { code: `FIELD_${i}`, text: 'A field' },
    })),
  });
  const [model] = parseModels('/v1/models', listed(scaling, wide));
  for (const layout of [undefined, 'row', 'column'] as const) {
    expect(() => planOf(key, model, 1, layout)).toThrow(expect.objectContaining({ code: 'REPLY_MALFORMED' }));
  }
});

describe('a scaling that is none', () => {
  test.each(['anchorLogit', 'anchorScore', 'pointsToDouble'])('%s', (name) => {
    expect(parseModels('/v1/models', listed(scaling))).toHaveLength(1);
    for (const value of [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e308, Number.NaN]) {
      expect(() => parseModels('/v1/models', listed({ ...scaling, [name]: value }))).toThrow(
        expect.objectContaining({ code: 'REPLY_MALFORMED' }),
      );
    }
  });
});

test('control characters of a refusal do not reach whoever prints it', () => {
  const evil = 'a\u001b[2Jb\r\nc\u009b1md\u202ee\u2028f';
  const problem = { code: evil, detail: evil, fix: evil, where: evil, issues: [{ field: evil, rule: evil }] };
  const error = refusal('/v1/scores', 400, new TextEncoder().encode(JSON.stringify(problem)));
  const { message, serviceCode, fix, where, issues } = error;
  for (const text of [message, serviceCode, fix, where, issues[0].field, issues[0].rule]) {
    expect(text).toBe('a [2Jb  c 1md e f');
  }
});

test('a reason is a code of a contract and no text', () => {
  const reply = (code: string) => ({
    ...{ score: 1, probability: 0.5, decision: 'approve', reasons: [{ code, text: 'A reason' }], model: { hash } },
    ...{ policy: { version: 1, hash }, audit: { index: 0, leafHash: hash } },
  });
  expect(parseScore('/v1/scores', reply('AMOUNT')).reasons[0].code).toBe('AMOUNT');
  expect(() => parseScore('/v1/scores', reply('=HYPERLINK("http://x")'))).toThrow(
    expect.objectContaining({ code: 'REPLY_MALFORMED' }),
  );
});

test('every status that the API documents for a meter is understood', () => {
  for (const status of ['champion', 'retired', 'kept'] as const) {
    const one = { model: { hash, status }, vectors: 1, limit: 2, left: 1 };
    expect(parseUsage('/v1/usage', { usage: [one] })).toEqual([one]);
  }
});
