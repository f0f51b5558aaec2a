/**
 * Attacks on the model by an honest caller who looks closely at its replies (THREATS.md), against the scorer itself.
 * test/api/attacks.test.ts mounts the same over HTTP. Below them: what the cut and the flood leave of a reply.
 */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { type Encryption, openEncryption, type SecretKey, type SparseVector } from '../../src/encryption/encryption.ts';
import { LOGIT_ERROR_CONTRACT, PRESETS, productBits, rowCapacity } from '../../src/encryption/presets.ts';
import { type SealRuntime, sealRuntime } from '../../src/encryption/seal.ts';
import { residuesAfter } from '../../src/encryption/sealBytes.ts';
import { readFrame } from '../../src/encryption/wire.ts';
import { systemRandom } from '../../src/random.ts';
import { attackSuite } from './attackSuite.ts';
import { openStripped } from './strippedScorer.ts';
import { headerOf, modelOf, seededRandom } from './support.ts';

const preset = PRESETS.standard;
const { degree } = preset;
let runtime: SealRuntime;
let encryption: Encryption;
let key: SecretKey;
let scorer: ReturnType<Encryption['openScorer']>;

beforeAll(async () => {
  runtime = await sealRuntime('standard');
  encryption = await openEncryption('standard');
  key = encryption.createKeys();
  scorer = encryption.openScorer(systemRandom());
});

const random = seededRandom(99);
const weightsOf = (count: number) =>
  Array.from({ length: count }, (_, j) => (j % 5 === 2 ? 0 : Math.round(2 ** 16 * (8 * random.unit() - 4)) / 2 ** 16));

attackSuite(async () => {
  const model = modelOf([3.25, ...weightsOf(11)], 1.5);
  const { dimension, contractHash, modelHash } = headerOf(key, model, 'row', 1);
  return {
    attacker: { runtime, encryption, key, target: { dimension, contractHash, modelHash } },
    model,
    real: async (request) => ({ reply: scorer.score(model, key.publicKey, request) }),
    async stripped(how) {
      const score = await openStripped(runtime, how);
      return async (request) => {
        try {
          return { reply: score({ model, publicKey: key.publicKey, request }) };
        } catch (error) {
          return { refused: String((error as { where?: string }).where) };
        }
      };
    },
  };
});

describe('what a reply is made of', () => {
  test.each(['row', 'column'] as const)('%s: every result carries the whole flood', (layout) => {
    const model = modelOf(weightsOf(8));
    const vectors: SparseVector[] = Array.from({ length: layout === 'row' ? 512 : degree }, () => [[1, 1]]);
    const header = headerOf(key, model, layout, vectors.length);
    const request = encryption.encryptRequest(key, header, vectors);
    const logits = encryption.decryptReply(key, header, scorer.score(model, key.publicKey, request));
    const deviation = 2 ** (preset.floodBits - productBits(preset));
    for (const half of [logits.subarray(0, vectors.length / 2), logits.subarray(vectors.length / 2)]) {
      const measured = Math.sqrt(half.reduce((sum, x) => sum + (x - model.weights[1]) ** 2, 0) / half.length);
      // Six deviations of the estimator, 1 / sqrt(2 n): false alarm 2e-9.
      expect(Math.abs(measured / deviation - 1)).toBeLessThan(6 / Math.sqrt(2 * half.length));
    }
  });

  test.each(['row', 'column'] as const)('%s: the reply to an all-zero model looks like any other', (layout) => {
    const model = modelOf(new Float64Array(20));
    const request = encryption.encryptRequest(key, headerOf(key, model, layout, 1), [[[0, 1]]]);
    const [part] = readFrame('reply', scorer.score(model, key.publicKey, request)).parts;
    const residues = residuesAfter(part, 0, part.length / 8);
    expect(residues).toHaveLength(1 + degree);
    expect(residues.every((residue) => residue !== 0n)).toBe(true);
    // Uniform below q0: the mean is q0 / 2 within six deviations of q0 / sqrt(12 n), false alarm 2e-9.
    const mean = residues.subarray(1).reduce((sum, residue) => sum + Number(residue), 0) / degree;
    expect(Math.abs(mean / Number(preset.primes[0]) - 0.5)).toBeLessThan(6 / Math.sqrt(12 * degree));
  });

  // Capacities that divide N, that do not, of one, and with a remainder of N - d * capacity coefficients of all sizes.
  test.each([1, 3, 350, 1366, degree / 2, degree / 2 + 1, degree - 1, degree])(
    'row, dimension %d: a result is the inner product of its own d coefficients and of no other',
    (dimension) => {
      const model = modelOf([-7.5, ...weightsOf(dimension - 1)].slice(0, dimension), 2);
      const capacity = rowCapacity(preset, dimension);
      // One ciphertext that is full to the last coefficient, the ones behind the last transaction too.
      const values = Array.from({ length: degree }, () => (random.unit() - 0.5) / 64);
      const full: SparseVector = values.map((value, at) => [at, value]);
      const wide = { ...headerOf(key, model, 'row', 1), dimension: degree };
      const request = encryption.encryptRequest(key, wide, [full]);
      for (const transactions of new Set([1, Math.max(1, capacity - 1), capacity])) {
        const header = headerOf(key, model, 'row', transactions);
        const view = new DataView(request.buffer);
        view.setUint32(8, transactions, true);
        view.setUint32(12, dimension, true);
        const reply = scorer.score(model, key.publicKey, request);
        expect(reply.length).toBe(124 + 8 * (transactions + degree));
        encryption.decryptReply(key, header, reply).forEach((logit, i) => {
          const own = model.weights.reduce((sum, w, j) => sum + w * values[i * dimension + j], model.intercept);
          expect(Math.abs(logit - own)).toBeLessThan(LOGIT_ERROR_CONTRACT);
        });
      }
    },
  );

  test.each(['row', 'column'] as const)('%s: a ciphertext repeated in a frame gives independent results', (layout) => {
    const model = modelOf(weightsOf(350));
    const transactions = layout === 'row' ? 22 : 1;
    const vectors: SparseVector[] = Array.from({ length: transactions }, () => [[1, 1]]);
    const header = headerOf(key, model, layout, transactions);
    const request = encryption.encryptRequest(key, header, vectors);
    const { parts } = readFrame('request', request);
    for (const part of parts) part.set(parts[0]);
    const reply = scorer.score(model, key.publicKey, request);
    const replies = readFrame('reply', reply).parts.map((part) => residuesAfter(part, 0, part.length / 8));
    if (layout === 'row') expect(replies[0].some((residue, i) => residue === replies[1][i])).toBe(false);
    expect(encryption.decryptReply(key, header, reply)).toHaveLength(transactions);
  });

  test('a ciphertext of another phase than any transaction has is answered with one flooded number', () => {
    const model = modelOf(weightsOf(8));
    const header = headerOf(key, model, 'row', 1);
    const request = encryption.encryptRequest(key, header, [[[1, 1]]]);
    const [part] = readFrame('request', request).parts;
    // The second half of c0 from another ciphertext: the phase is random modulo q.
    const other = readFrame('request', encryption.encryptRequest(key, header, [[[1, 1]]])).parts[0];
    part.set(other.subarray(part.length / 2, part.length - 81), part.length / 2);
    const [a, b] = [0, 1].map(() => encryption.decryptReply(key, header, scorer.score(model, key.publicKey, request)));
    expect(a).toHaveLength(1);
    // Two answers differ by two floods, modulo the range of a reply: 18 deviations but with 1e-36.
    const range = 2 ** 89 / 2 ** productBits(preset);
    const gap = Math.abs(a[0] - b[0]);
    expect(Math.min(gap, Math.abs(range - gap))).toBeLessThan(18 * 2 ** (preset.floodBits - productBits(preset)));
    expect(gap).toBeGreaterThan(0);
  });
});
