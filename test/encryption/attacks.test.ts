/**
 * The three known attacks on the model, by an honest caller who looks closely at its replies (THREATS.md).
 *
 * Each is mounted twice: on a server that leaves out the protection, where it must recover the weights (so the test
 * knows how to attack), and on the real one, where it must not.
 */
import { beforeAll, describe, expect, test } from '@jest/globals';
import loadStrictSeal from 'node-seal/throws';
import { type Encryption, openEncryption, type SecretKey, type SparseVector } from '../../src/encryption/encryption.ts';
import { columnWeight, type LinearModel, rowWeights } from '../../src/encryption/model.ts';
import { uploadShape } from '../../src/encryption/preamble.ts';
import { PRESETS, productBits } from '../../src/encryption/presets.ts';
import { scaled } from '../../src/encryption/residues.ts';
import {
  type Ciphertext,
  ciphertextResidues,
  loadPlaintext,
  Scope,
  type SealRuntime,
  sealRuntime,
  transform,
} from '../../src/encryption/seal.ts';
import { PLAINTEXT_PREAMBLE_BYTES, residuesAfter } from '../../src/encryption/sealBytes.ts';
import { readFrame } from '../../src/encryption/wire.ts';
import { systemRandom } from '../../src/random.ts';
import { headerOf, modelOf, seededRandom } from './support.ts';

const preset = PRESETS.standard;
const { degree } = preset;
const [q0, q1] = preset.primes;
const modulus = q0 * q1;

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

function requestFor(model: LinearModel, layout: 'row' | 'column', vectors: SparseVector[]) {
  const request = encryption.encryptRequest(key, headerOf(key, model, layout, vectors.length), vectors);
  return { request, parts: readFrame('request', request).parts };
}

function load(scope: Scope, bytes: Uint8Array): Ciphertext {
  const ciphertext = scope.own(new runtime.seal.Ciphertext());
  ciphertext.loadFromArray(runtime.context, bytes);
  return ciphertext;
}

describe('quotient of c1', () => {
  const model = modelOf(weightsOf(350), 1.5);

  test('recovers every weight from a server that only multiplies', () => {
    using scope = new Scope();
    const upload = load(scope, requestFor(model, 'row', [[[3, 1]]]).parts[0]);
    const mine = ciphertextResidues(runtime, upload);
    runtime.evaluator.multiplyPlainInplace(upload, scope.own(loadPlaintext(runtime, rowWeights(runtime, model))));
    const reply = ciphertextResidues(runtime, upload);

    const quotient = new BigUint64Array(2 * degree);
    for (let i = 0; i < 2 * degree; i++) {
      const prime = i < degree ? q0 : q1;
      quotient[i] = (reply[2 * degree + i] * inverse(mine[2 * degree + i], prime)) % prime;
    }
    const coefficients = transform(runtime, uploadShape(preset), quotient, 'coefficients');
    const stolen = model.weights.map((_, j) => {
      const residue = coefficients[j === 0 ? 0 : degree - j];
      const integer = residue > q0 / 2n ? residue - q0 : residue;
      return Number(j === 0 ? integer : -integer) / 2 ** preset.weightBits;
    });
    expect(stolen).toEqual(model.weights);
  });

  /** Share of c1's coefficients that are what they would be if the weights were `guess`, after rescaling. */
  function confirmed(upload: Uint8Array, guess: LinearModel, c1: BigUint64Array): number {
    using scope = new Scope();
    const product = load(scope, upload);
    runtime.evaluator.multiplyPlainInplace(product, scope.own(loadPlaintext(runtime, rowWeights(runtime, guess))));
    runtime.evaluator.rescaleToNextInplace(product);
    runtime.evaluator.cipherTransformFromNttInplace(product);
    const expected = ciphertextResidues(runtime, product).subarray(degree);
    let same = 0;
    for (let i = 0; i < degree; i++) if (expected[i] - c1[i] <= 1n && c1[i] - expected[i] <= 1n) same++;
    return same / degree;
  }

  test('a server that rescales but does not re-randomise confirms a guess of the weights', () => {
    using scope = new Scope();
    const { parts } = requestFor(model, 'row', [[[3, 1]]]);
    const product = load(scope, parts[0]);
    runtime.evaluator.multiplyPlainInplace(product, scope.own(loadPlaintext(runtime, rowWeights(runtime, model))));
    runtime.evaluator.rescaleToNextInplace(product);
    runtime.evaluator.cipherTransformFromNttInplace(product);
    expect(confirmed(parts[0], model, ciphertextResidues(runtime, product).subarray(degree))).toBe(1);
  });

  test('the real reply does not even confirm the true weights', () => {
    const { request, parts } = requestFor(model, 'row', [[[3, 1]]]);
    const reply = readFrame('reply', scorer.score(model, key.publicKey, request)).parts[0];
    const c1 = residuesAfter(reply, 8, degree);
    // By chance a coefficient agrees with probability 3 / 2^45.
    expect(confirmed(parts[0], model, c1)).toBe(0);
  });

  test('two replies to the same request share nothing', () => {
    const { request } = requestFor(model, 'row', [[[3, 1]]]);
    const [a, b] = [0, 1].map(() => readFrame('reply', scorer.score(model, key.publicKey, request)).parts[0]);
    const [left, right] = [residuesAfter(a, 0, degree + 1), residuesAfter(b, 0, degree + 1)];
    expect(left.filter((residue, i) => residue === right[i]).length).toBe(0);
  });
});

describe('imaginary part', () => {
  const dimension = 8;
  const model = modelOf(weightsOf(dimension));
  const vectors: SparseVector[] = [[[1, 1]]];

  /** The polynomial m + e of the caller's own upload, exact, which nobody else knows. */
  function ownPhase(upload: Ciphertext): bigint[] {
    using scope = new Scope();
    const secret = scope.own(new runtime.seal.SecretKey());
    secret.loadFromArray(runtime.context, key.exposeSealBytes());
    const decryptor = scope.own(new runtime.seal.Decryptor(runtime.context, secret));
    const plaintext = scope.own(new runtime.seal.Plaintext());
    decryptor.decrypt(upload, plaintext);
    const bytes: Uint8Array = plaintext.saveToArray(runtime.seal.ComprModeType.none);
    const ntt = residuesAfter(bytes, PLAINTEXT_PREAMBLE_BYTES, 2 * degree);
    const residues = transform(runtime, uploadShape(preset), ntt, 'coefficients');
    const lift = q1 * inverse(q1 % q0, q0);
    return Array.from({ length: degree }, (_, i) => {
      const value = (residues[degree + i] + lift * (residues[i] - residues[degree + i] + modulus)) % modulus;
      return value > modulus / 2n ? value - modulus : value;
    });
  }

  /**
   * A mask whose slots are real has a_k = -a_(N-k), so r_k + r_(N-k) is free of it: N/2 - 1 linear equations in the
   * weights, whose coefficients are the caller's own errors. Least squares solves them.
   */
  function attack(uploads: readonly bigint[][], reply: (k: number) => bigint): number[] {
    const rows = degree / 2 - 1;
    const fold = (phase: readonly bigint[], k: number) => Number(phase[k] + phase[degree - k]);
    const matrix = Array.from({ length: rows }, (_, i) => uploads.map((phase) => fold(phase, i + 1)));
    const right = Array.from({ length: rows }, (_, i) => Number(reply(i + 1) + reply(degree - i - 1)));
    return leastSquares(matrix, right);
  }

  test('recovers every weight through a mask made by the slot encoder', () => {
    using scope = new Scope();
    const uploads = requestFor(model, 'column', vectors).parts.map((part) => load(scope, part));
    const phases = uploads.map(ownPhase);
    const publicKey = scope.own(new runtime.seal.PublicKey());
    publicKey.loadFromArray(runtime.context, key.publicKey);
    const encryptor = scope.own(new runtime.seal.Encryptor(runtime.context, publicKey));
    const sum = scope.own(new runtime.seal.Ciphertext());
    encryptor.encryptZero(sum);
    sum.setScale(2 ** productBits(preset));
    for (const [j, upload] of uploads.entries()) {
      const weight = scope.own(loadPlaintext(runtime, columnWeight(preset, model.weights[j])));
      runtime.evaluator.multiplyPlainInplace(upload, weight);
      runtime.evaluator.addInplace(sum, upload);
    }
    const encoder = scope.own(new runtime.seal.CKKSEncoder(runtime.context));
    const mask = scope.own(new runtime.seal.Plaintext());
    // In the coefficients as wide as the real flood.
    const width = 2 ** (preset.floodBits - productBits(preset)) * Math.sqrt(degree / 2);
    const slots = Float64Array.from({ length: degree / 2 }, () => width * (random.unit() - 0.5));
    encoder.encode(slots, 2 ** productBits(preset), mask);
    runtime.evaluator.addPlainInplace(sum, mask);

    const phase = ownPhase(sum);
    const stolen = attack(phases, (k) => phase[k]);
    stolen.forEach((integer, j) => {
      expect(Math.abs(integer / 2 ** preset.weightBits - model.weights[j])).toBeLessThan(1e-2);
    });
  });

  test('learns nothing from the real reply', () => {
    using scope = new Scope();
    const { request, parts } = requestFor(model, 'column', vectors);
    const phases = parts.map((part) => ownPhase(load(scope, part)));
    const reply = scorer.score(model, key.publicKey, request);
    // The caller decrypts all N coefficients, not only that of its transaction.
    const everything = { ...headerOf(key, model, 'column', degree) };
    const widened = reply.slice();
    new DataView(widened.buffer).setUint32(8, degree, true);
    const phase = encryption.decryptReply(key, everything, widened);
    const stolen = attack(phases, (k) => BigInt(Math.round(phase[k] * 2 ** productBits(preset))));
    // Weights are below 2^19 as integers; the flood moves the estimates by some 2^58.
    for (const integer of stolen) expect(Math.abs(integer)).toBeGreaterThan(2 ** 40);
  });

  test('every coefficient of a column reply carries the whole flood', () => {
    const { request } = requestFor(model, 'column', vectors);
    const widened = scorer.score(model, key.publicKey, request).slice();
    new DataView(widened.buffer).setUint32(8, degree, true);
    const phase = encryption.decryptReply(key, headerOf(key, model, 'column', degree), widened);
    const deviation = 2 ** (preset.floodBits - productBits(preset));
    for (const half of [phase.subarray(1, degree / 2), phase.subarray(degree / 2)]) {
      const measured = Math.sqrt(half.reduce((sum, x) => sum + (x - model.intercept) ** 2, 0) / half.length);
      // Six deviations of the estimator, 1 / sqrt(2 * 2048) each: false alarm 2e-9.
      expect(Math.abs(measured / deviation - 1)).toBeLessThan(6 / Math.sqrt(4096));
    }
  });

  test('so does every kept coefficient of a row reply', () => {
    const rows: SparseVector[] = Array.from({ length: 512 }, () => [[1, 1]]);
    const header = headerOf(key, model, 'row', rows.length);
    const request = encryption.encryptRequest(key, header, rows);
    const logits = encryption.decryptReply(key, header, scorer.score(model, key.publicKey, request));
    const deviation = 2 ** (preset.floodBits - productBits(preset));
    const measured = Math.sqrt(logits.reduce((sum, x) => sum + (x - model.weights[1]) ** 2, 0) / logits.length);
    // Six deviations again: false alarm 2e-9.
    expect(Math.abs(measured / deviation - 1)).toBeLessThan(6 / Math.sqrt(1024));
  });
});

describe('zero weights', () => {
  test('the strict build tells which weights are zero', async () => {
    const model = modelOf(weightsOf(20));
    const seal = await loadStrictSeal();
    const { parts } = requestFor(model, 'column', [[[0, 1]]]);
    const parameters = new seal.EncryptionParameters(seal.SchemeType.ckks);
    parameters.setPolyModulusDegree(degree);
    parameters.setCoeffModulus(seal.CoeffModulus.Create(degree, Int32Array.from(preset.primeBits)));
    const context = new seal.SEALContext(parameters, true, seal.SecLevelType.tc128);
    const evaluator = new seal.Evaluator(context);
    const refusedAt = parts.flatMap((part, j) => {
      const upload = new seal.Ciphertext();
      upload.loadFromArray(context, part);
      const weight = new seal.Plaintext();
      weight.loadFromArray(context, columnWeight(preset, model.weights[j]));
      try {
        evaluator.multiplyPlainInplace(upload, weight);
        return [];
      } catch {
        return [j];
      }
    });
    expect(refusedAt).toEqual([2, 7, 12, 17]);
  });

  test.each(['row', 'column'] as const)('%s: the real reply to an all-zero model looks like any other', (layout) => {
    const model = modelOf(new Float64Array(20));
    const { request } = requestFor(model, layout, [[[0, 1]]]);
    const part = readFrame('reply', scorer.score(model, key.publicKey, request)).parts[0];
    const residues = residuesAfter(part, 0, part.length / 8);
    expect(residues.every((residue) => residue !== 0n)).toBe(true);
    // Uniform below q0: the mean is q0 / 2 within six deviations of q0 / sqrt(12 n), false alarm 2e-9.
    const c1 = residues.subarray(residues.length - degree);
    const mean = c1.reduce((sum, residue) => sum + Number(residue), 0) / degree / Number(q0);
    expect(Math.abs(mean - 0.5)).toBeLessThan(6 / Math.sqrt(12 * degree));
    expect(scaled(0, preset.weightBits)).toBe(0n);
  });
});

function inverse(value: bigint, prime: bigint): bigint {
  let [result, base, exponent] = [1n, value % prime, prime - 2n];
  for (; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % prime;
    base = (base * base) % prime;
  }
  return result;
}

/** Normal equations by Gaussian elimination with pivoting. */
function leastSquares(matrix: readonly number[][], right: readonly number[]): number[] {
  const n = matrix[0].length;
  const system = Array.from({ length: n }, (_, a) => [
    ...Array.from({ length: n }, (_, b) => matrix.reduce((sum, row) => sum + row[a] * row[b], 0)),
    matrix.reduce((sum, row, i) => sum + row[a] * right[i], 0),
  ]);
  for (let c = 0; c < n; c++) {
    const pivot = system
      .slice(c)
      .reduce((best, row, i) => (Math.abs(row[c]) > Math.abs(system[best][c]) ? c + i : best), c);
    [system[c], system[pivot]] = [system[pivot], system[c]];
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const factor = system[r][c] / system[c][c];
      for (let k = c; k <= n; k++) system[r][k] -= factor * system[c][k];
    }
  }
  return system.map((row, j) => row[n] / row[j]);
}
