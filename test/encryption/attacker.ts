/**
 * The attacks on the model, by a caller who makes its key and ciphertexts as the SDK does and then looks as closely as it
 * can. They see a service only as a function from request frame to reply frame, so the same code attacks a scorer, a
 * stripped one, and either of them over HTTP.
 *
 * Source: encryption.md, section 4; the quotient and the symmetric mask are its first and second attack.
 */
import type { Encryption, FrameHeader, LayoutName, SecretKey, SparseVector } from '../../src/encryption/encryption.ts';
import { type LinearModel, rowWeights } from '../../src/encryption/model.ts';
import { uploadShape } from '../../src/encryption/preamble.ts';
import { replyScale } from '../../src/encryption/presets.ts';
import { centred } from '../../src/encryption/residues.ts';
import { ciphertextResidues, loadPlaintext, Scope, type SealRuntime, transform } from '../../src/encryption/seal.ts';
import { PLAINTEXT_PREAMBLE_BYTES, residuesAfter } from '../../src/encryption/sealBytes.ts';
import { readFrame } from '../../src/encryption/wire.ts';

/** A reply frame, or the text with which the request was refused. */
export type Answer = { readonly reply: Uint8Array } | { readonly refused: string };
export type Service = (request: Uint8Array) => Promise<Answer>;

export interface Attacker {
  readonly runtime: SealRuntime;
  readonly encryption: Encryption;
  readonly key: SecretKey;
  /** What the service publishes of its model. */
  readonly target: Pick<FrameHeader, 'dimension' | 'contractHash' | 'modelHash'>;
}

export function frameOf(attacker: Attacker, layout: LayoutName, vectors: readonly SparseVector[]) {
  const { key, target, encryption } = attacker;
  const header = { preset: key.preset, layout, transactions: vectors.length, keyId: key.keyId, ...target };
  const request = encryption.encryptRequest(key, header, vectors);
  return { header, request, parts: readFrame('request', request).parts };
}

/**
 * Attack 1: c1 of the reply over c1 of the request, in NTT form. @returns the weights that this reads, right or wrong
 */
export async function quotientOfC1(attacker: Attacker, service: Service): Promise<number[]> {
  const { runtime, target } = attacker;
  const { preset } = runtime;
  const [q0] = preset.primes;
  const { request, parts } = frameOf(attacker, 'row', [[[0, 1]]]);
  const shape = { parmsId: preset.replyParmsId, degree: preset.degree, primes: 1, scale: 1 };
  const c1 = c1Of(attacker, await replyOf(service, request));
  const theirs = transform(runtime, shape, c1, 'ntt');
  using scope = new Scope();
  const mine = ciphertextResidues(runtime, scope.own(loadUpload(runtime, parts[0]))).subarray(2 * preset.degree);
  const quotient = theirs.map((residue, i) => (residue * inverse(mine[i], q0)) % q0);
  const coefficients = transform(runtime, shape, quotient, 'coefficients');
  return Array.from({ length: target.dimension }, (_, j) => {
    const integer = centred(coefficients[j === 0 ? 0 : preset.degree - j], q0);
    return (j === 0 ? integer : 0 - integer) / 2 ** preset.weightBits;
  });
}

/**
 * Attack 1 on a service that rescales: rounding hides the quotient, but a guess of all the weights can be checked.
 * @returns for each guess the share of c1's coefficients that agree with it; by chance one does with 3 / 2^45
 */
export async function confirmGuess(
  attacker: Attacker,
  service: Service,
  guesses: readonly LinearModel[],
): Promise<number[]> {
  const { runtime } = attacker;
  const { degree } = runtime.preset;
  const { request, parts } = frameOf(attacker, 'row', [[[0, 1]]]);
  const c1 = c1Of(attacker, await replyOf(service, request));
  return guesses.map((guess) => {
    using scope = new Scope();
    const product = scope.own(loadUpload(runtime, parts[0]));
    runtime.evaluator.multiplyPlainInplace(product, scope.own(loadPlaintext(runtime, rowWeights(runtime, guess))));
    runtime.evaluator.rescaleToNextInplace(product);
    runtime.evaluator.cipherTransformFromNttInplace(product);
    const expected = ciphertextResidues(runtime, product).subarray(degree);
    return c1.filter((residue, i) => distance(residue, expected[i]) <= 1n).length / degree;
  });
}

/**
 * Attack 2: a mask whose slots are real has a_k = -a_(N-k), so r_k + r_(N-k) is free of it: N/2 - 1 linear equations in
 * the weights, whose coefficients are the caller's own errors. Transactions of zeros keep the message out of them.
 * @returns least-squares estimates of the weights
 */
export async function symmetricMask(attacker: Attacker, service: Service): Promise<number[]> {
  const { runtime, encryption, key } = attacker;
  const { preset } = runtime;
  const { degree } = preset;
  const { header, request, parts } = frameOf(
    attacker,
    'column',
    Array.from({ length: degree }, () => []),
  );
  const errors = parts.map((part) => ownError(attacker, part));
  const logits = encryption.decryptReply(key, header, await replyOf(service, request));
  const half = Number(preset.primes[0]) / 2;
  const phase = logits.map((logit) => Math.round(logit * replyScale(preset)));
  const rows = Array.from({ length: degree / 2 - 1 }, (_, i) => i + 1);
  const right = rows.map((k) => {
    const sum = phase[k] + phase[degree - k];
    return Math.abs(sum) > half ? sum - Math.sign(sum) * 2 * half : sum;
  });
  const matrix = rows.map((k) => errors.map((error) => error[k] + error[degree - k]));
  return leastSquares(matrix, right).map((integer) => integer / 2 ** preset.weightBits);
}

/** Attack 3. @returns the dimension that a refusal names, or null when the service answered */
export async function zeroWeight(attacker: Attacker, service: Service): Promise<number | null> {
  const answer = await service(frameOf(attacker, 'column', [[[0, 1]]]).request);
  if ('reply' in answer) return null;
  return Number(/ciphertext (\d+)/.exec(answer.refused)?.[1] ?? Number.NaN);
}

/** Says one transaction and encrypts as many as a column holds. @returns how many results come back */
export async function smuggledColumns(attacker: Attacker, service: Service): Promise<number> {
  const { degree } = attacker.runtime.preset;
  const { request } = frameOf(
    attacker,
    'column',
    Array.from({ length: degree }, () => [[0, 1]]),
  );
  const reply = await replyOf(service, withTransactions(request, 1));
  return (reply.length - 124) / 8 - degree;
}

/**
 * Sends the same frame several times and compares every two replies.
 * @returns the logits of each, and the largest shares of c1 that are equal and that differ by less than 2^30
 */
export async function repeated(attacker: Attacker, service: Service, times: number, transactions: number) {
  const { key, encryption, runtime } = attacker;
  const { header, request } = frameOf(
    attacker,
    'row',
    Array.from({ length: transactions }, () => [[0, 1]]),
  );
  const replies = await Promise.all(Array.from({ length: times }, () => replyOf(service, request)));
  const c1 = replies.map((reply) => c1Of(attacker, reply));
  const [q0] = runtime.preset.primes;
  let [equal, close] = [0, 0];
  for (let a = 0; a < times; a++) {
    for (let b = 0; b < a; b++) {
      const gaps = c1[a].map((residue, i) => {
        const gap = centred((residue - c1[b][i] + q0) % q0, q0);
        return BigInt(Math.abs(gap));
      });
      equal = Math.max(equal, gaps.filter((gap) => gap === 0n).length / gaps.length);
      close = Math.max(close, gaps.filter((gap) => gap < 2n ** 30n).length / gaps.length);
    }
  }
  return { logits: replies.map((reply) => encryption.decryptReply(key, header, reply)), equal, close };
}

/** A request with another number of transactions in its header; number and lengths of parts stay. */
export function withTransactions(request: Uint8Array, transactions: number): Uint8Array {
  const changed = request.slice();
  new DataView(changed.buffer).setUint32(8, transactions, true);
  return changed;
}

/** The second polynomial of the first part of a reply, in coefficient form. */
function c1Of({ runtime }: Attacker, reply: Uint8Array): BigUint64Array {
  const { degree } = runtime.preset;
  const [part] = readFrame('reply', reply).parts;
  return residuesAfter(part, part.length - 8 * degree, degree);
}

async function replyOf(service: Service, request: Uint8Array): Promise<Uint8Array> {
  const answer = await service(request);
  if ('reply' in answer) return answer.reply;
  // The attack fails here: it needs an answer.
  throw new TypeError(answer.refused);
}

function loadUpload(runtime: SealRuntime, bytes: Uint8Array) {
  const ciphertext = new runtime.seal.Ciphertext();
  ciphertext.loadFromArray(runtime.context, bytes);
  return ciphertext;
}

/** The error of the caller's own encryption of zero, exact, which nobody else knows. */
function ownError({ runtime, key }: Attacker, part: Uint8Array): Float64Array {
  const { preset } = runtime;
  using scope = new Scope();
  const upload = scope.own(loadUpload(runtime, part));
  const secret = scope.own(new runtime.seal.SecretKey());
  secret.loadFromArray(runtime.context, key.exposeSealBytes());
  const decryptor = scope.own(new runtime.seal.Decryptor(runtime.context, secret));
  const plaintext = scope.own(new runtime.seal.Plaintext());
  decryptor.decrypt(upload, plaintext);
  const bytes: Uint8Array = plaintext.saveToArray(runtime.seal.ComprModeType.none);
  const ntt = residuesAfter(bytes, PLAINTEXT_PREAMBLE_BYTES, 2 * preset.degree);
  const residues = transform(runtime, uploadShape(preset), ntt, 'coefficients');
  return Float64Array.from({ length: preset.degree }, (_, i) => centred(residues[i], preset.primes[0]));
}

function distance(a: bigint, b: bigint): bigint {
  return a > b ? a - b : b - a;
}

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
