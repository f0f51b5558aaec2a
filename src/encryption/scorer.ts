/**
 * The service's half: the encrypted linear score, with the model hidden in every reply.
 *
 * Per reply, in this order (encryption.md, section 4): product with the weights, zero or not; a fresh encryption of
 * zero under the caller's public key, used once; the intercept and the flood in coefficient form; rescaling; out of
 * NTT form; the cut, which keeps one coefficient of c0 a transaction, in both layouts.
 * Row weights are the polynomial w_0 - sum_j w_j X^(N-j), so that coefficient i*d of the product is the score of
 * transaction i (Huang et al., "Cheetah", section 3.1). Column weights are constants.
 * Limit: the flood covers the error of honestly encrypted requests; THREATS.md says what a dishonest one may learn.
 */
import { EncryptionError } from '../errors.ts';
import type { RandomSource } from '../random.ts';
import { discreteGaussianPowerOfTwo } from './flood.ts';
import { checkModel, columnWeight, type LinearModel, productShape, rowWeights } from './model.ts';
import { checkCiphertext } from './preamble.ts';
import { productBits } from './presets.ts';
import { polynomialOf, scaled } from './residues.ts';
import {
  attempt,
  type Ciphertext,
  ciphertextResidues,
  loadCiphertext,
  loadPlaintext,
  type Plaintext,
  Scope,
  type SealRuntime,
} from './seal.ts';
import { bytesOf } from './sealBytes.ts';
import { type FrameHeader, readFrame, resultStride, rowCounts, writeFrame } from './wire.ts';
import { openZeroPool, type ZeroPool } from './zeroPool.ts';

export interface Scorer {
  /**
   * @param publicKey the registered key that the request names
   * @param request whole request frame
   * @returns whole reply frame
   * @throws EncryptionError FRAME_*, CIPHERTEXT_*, PUBLIC_KEY_*, ENCRYPTION_PARAMETER (a model outside the limits)
   */
  score(model: LinearModel, publicKey: Uint8Array, request: Uint8Array): Uint8Array;
  /** Prepares encryptions of zero for the next replies, so that those need not wait for them. */
  refill(): void;
  close(): void;
}

/** Prepared row weights kept, the least recently used goes first. */
const MODELS_KEPT = 4;

export function openScorer(runtime: SealRuntime, random: RandomSource): Scorer {
  const zeros = openZeroPool(runtime);
  const prepared = new Map<string, { weights: Float64Array; plaintext: Plaintext }>();

  function preparedRow(model: LinearModel): Plaintext {
    const known = prepared.get(model.hash);
    prepared.delete(model.hash);
    if (known !== undefined && sameWeights(known.weights, model.weights)) {
      prepared.set(model.hash, known);
      return known.plaintext;
    }
    known?.plaintext.delete();
    const plaintext = loadPlaintext(runtime, rowWeights(runtime, model));
    prepared.set(model.hash, { weights: model.weights.slice(), plaintext });
    for (const [hash, old] of prepared) {
      if (prepared.size <= MODELS_KEPT) break;
      old.plaintext.delete();
      prepared.delete(hash);
    }
    return plaintext;
  }

  return {
    score(model, publicKey, request) {
      const { header, parts } = readFrame('request', request);
      checkModel(model);
      checkBelongs(header, model, runtime.preset.name);
      zeros.admit(header.keyId, publicKey);
      for (const [i, part] of parts.entries()) checkCiphertext(part, runtime.preset, `ciphertext ${i}`);
      const reply =
        header.layout === 'row'
          ? rowCounts(header).map((count, i) => {
              return scoreRow(runtime, zeros, random, header, model, preparedRow(model), parts[i], count);
            })
          : [scoreColumns(runtime, zeros, random, header, model, parts)];
      return writeFrame('reply', header, reply);
    },
    refill: () => zeros.refill(),
    close() {
      for (const { plaintext } of prepared.values()) plaintext.delete();
      prepared.clear();
      zeros.close();
    },
  };
}

function scoreRow(
  runtime: SealRuntime,
  zeros: ZeroPool,
  random: RandomSource,
  header: FrameHeader,
  model: LinearModel,
  weights: Plaintext,
  upload: Uint8Array,
  count: number,
): Uint8Array {
  using scope = new Scope();
  const product = scope.own(new runtime.seal.Ciphertext());
  attempt('CIPHERTEXT_MALFORMED', 'ciphertext', () => product.loadFromArray(runtime.context, upload));
  runtime.evaluator.multiplyPlainInplace(product, weights);
  runtime.evaluator.addInplace(product, scope.own(zeros.take(header.keyId)));
  return finish(runtime, random, product, model.intercept, count, resultStride(header));
}

function scoreColumns(
  runtime: SealRuntime,
  zeros: ZeroPool,
  random: RandomSource,
  header: FrameHeader,
  model: LinearModel,
  uploads: readonly Uint8Array[],
): Uint8Array {
  using scope = new Scope();
  const sum = scope.own(zeros.take(header.keyId));
  const term = scope.own(new runtime.seal.Ciphertext());
  const weight = scope.own(new runtime.seal.Plaintext());
  for (const [j, upload] of uploads.entries()) {
    attempt('CIPHERTEXT_MALFORMED', `ciphertext ${j}`, () => term.loadFromArray(runtime.context, upload));
    weight.loadFromArray(runtime.context, columnWeight(runtime.preset, model.weights[j]));
    runtime.evaluator.multiplyPlainInplace(term, weight);
    runtime.evaluator.addInplace(sum, term);
  }
  return finish(runtime, random, sum, model.intercept, header.transactions, resultStride(header));
}

/**
 * Adds intercept and flood to the coefficients of the results, rescales, leaves NTT form and cuts. A coefficient that is
 * no result of a counted transaction never leaves, so a request cannot hold more transactions than it says.
 *
 * @param count results, at the coefficients 0, stride, 2 * stride, ...
 * @returns a reply part: the results' coefficients of c0, then all of c1
 */
function finish(
  runtime: SealRuntime,
  random: RandomSource,
  product: Ciphertext,
  intercept: number,
  count: number,
  stride: number,
): Uint8Array {
  const { preset, evaluator } = runtime;
  using scope = new Scope();
  const constant = scaled(intercept, productBits(preset));
  const mask = Array.from(
    { length: count },
    (_, i) => [i * stride, constant + discreteGaussianPowerOfTwo(preset.floodBits, random)] as const,
  );
  const both = new BigUint64Array(4 * preset.degree);
  both.set(polynomialOf(preset.degree, preset.primes.slice(0, 2), mask));
  const flood = scope.own(loadCiphertext(runtime, productShape(preset), both, false));
  evaluator.cipherTransformToNttInplace(flood);
  evaluator.addInplace(product, flood);
  evaluator.rescaleToNextInplace(product);
  evaluator.cipherTransformFromNttInplace(product);
  const residues = ciphertextResidues(runtime, product);
  const part = new BigUint64Array(count + preset.degree);
  for (let i = 0; i < count; i++) part[i] = residues[i * stride];
  part.set(residues.subarray(preset.degree), count);
  return bytesOf(part);
}

/** The hash alone is not trusted to name the weights: a stale score would look like a right one. */
function sameWeights(a: Float64Array, b: Float64Array): boolean {
  return a.length === b.length && a.every((weight, j) => weight === b[j]);
}

function checkBelongs(header: FrameHeader, model: LinearModel, preset: string): void {
  const wrong =
    header.modelHash !== model.hash
      ? 'model hash'
      : header.dimension !== model.weights.length
        ? 'dimension'
        : header.preset !== preset
          ? 'preset'
          : undefined;
  if (wrong === undefined) return;
  throw new EncryptionError('FRAME_MISMATCH', `the ${wrong} is not that of the model in use`, {
    where: `request frame, ${wrong}`,
    fix: 'Ask GET /v1/models again and encrypt for the model it lists.',
  });
}
