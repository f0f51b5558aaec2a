/** Encrypted scores against exact ones: both presets, both layouts, edges, and a search for the worst error. */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { type Encryption, openEncryption, type SecretKey, type SparseVector } from '../../src/encryption/encryption.ts';
import { LOGIT_ERROR_CONTRACT, MAX_INPUT_MASS, PRESETS, rowCapacity } from '../../src/encryption/presets.ts';
import type { EncryptionError } from '../../src/errors.ts';
import { systemRandom } from '../../src/random.ts';
import { headerOf, modelOf, roundTrip, seededRandom } from './support.ts';

describe.each(Object.values(PRESETS))('preset $name', (preset) => {
  let encryption: Encryption;
  let key: SecretKey;
  let scorer: ReturnType<Encryption['openScorer']>;
  const random = seededRandom(7);
  const oneHot = (dimension: number, fields: number): SparseVector =>
    Array.from({ length: fields }, (_, k) => {
      const size = Math.floor(dimension / fields);
      return [k * size + Math.floor(random.unit() * size), 1] as const;
    });

  beforeAll(async () => {
    encryption = await openEncryption(preset.name);
    key = encryption.createKeys();
    scorer = encryption.openScorer(systemRandom());
  });

  test.each([
    ['row', 1, 1, 1],
    ['row', 300, 1, 14],
    ['row', 350, rowCapacity(preset, 350) + 3, 12],
    ['row', 2000, 3, 30],
    ['row', preset.degree, 2, 56],
    ['row', 1, 64, 1],
    ['column', 1, 1, 1],
    ['column', 30, preset.degree, 10],
    ['column', 60, 17, 20],
  ] as const)('%s, %d dimensions, %d transactions of %d fields', (layout, dimension, transactions, fields) => {
    const model = modelOf(
      Array.from({ length: dimension }, () => 16 * random.unit() - 8),
      -3.7,
    );
    const vectors = Array.from({ length: transactions }, () => oneHot(dimension, fields));
    expect(roundTrip(encryption, key, scorer, model, layout, vectors).worst).toBeLessThan(LOGIT_ERROR_CONTRACT);
  });

  test('numeric vectors work as one-hot ones do', () => {
    const model = modelOf([1.25, -7.5, 0, 0.001], 2);
    const vectors: SparseVector[] = [
      [
        [0, 0.1],
        [1, -3.25],
        [3, 40],
      ],
      [[2, 5]],
      [],
    ];
    for (const layout of ['row', 'column'] as const) {
      expect(roundTrip(encryption, key, scorer, model, layout, vectors).worst).toBeLessThan(LOGIT_ERROR_CONTRACT);
    }
  });

  test.each([
    ['a dimension outside', [[4, 1]]],
    [
      'a dimension twice',
      [
        [1, 1],
        [1, 1],
      ],
    ],
    ['NaN', [[1, Number.NaN]]],
    ['too much mass', [[1, MAX_INPUT_MASS + 1]]],
  ] as [string, SparseVector][])('the caller refuses %s', (_, vector) => {
    const model = modelOf([1, 2, 3, 4]);
    const header = headerOf(key, model, 'row', 1);
    expect(codeOf(() => encryption.encryptRequest(key, header, [vector]))).toBe('ENCRYPTION_INPUT');
  });

  test.each([
    ['weight of dimension 0', modelOf([8.001])],
    ['weight of dimension 0', modelOf([Number.NaN])],
    ['intercept', modelOf([1], 64.5)],
    ['weights', modelOf([])],
  ])('the service refuses a model by its %s', (where, model) => {
    const good = modelOf([1]);
    const request = encryption.encryptRequest(key, headerOf(key, good, 'row', 1), [[[0, 1]]]);
    expect(() => scorer.score(model, key.publicKey, request)).toThrow(
      expect.objectContaining({ code: 'ENCRYPTION_PARAMETER', where }),
    );
  });

  test('another key, model, dimension or reply is a mismatch', () => {
    const model = modelOf([1, 2]);
    const other = encryption.createKeys();
    const header = headerOf(key, model, 'row', 1);
    const request = encryption.encryptRequest(key, header, [[[0, 1]]]);
    const reply = scorer.score(model, key.publicKey, request);
    const refused = [
      () => scorer.score(model, other.publicKey, request),
      () => scorer.score(modelOf([1, 2], 0, 'ff'), key.publicKey, request),
      () => scorer.score(modelOf([1, 2, 3]), key.publicKey, request),
      () => encryption.decryptReply(key, { ...header, modelHash: 'ff'.repeat(32) }, reply),
      () => encryption.decryptReply(key, { ...header, transactions: 2 }, reply),
    ];
    expect(refused.map(codeOf)).toEqual(refused.map(() => 'FRAME_MISMATCH'));
    expect(codeOf(() => encryption.encryptRequest(other, header, [[[0, 1]]]))).toBe('ENCRYPTION_INPUT');
  });
});

function codeOf(step: () => unknown): string {
  try {
    step();
  } catch (error) {
    return (error as EncryptionError).code;
  }
  return 'accepted';
}
