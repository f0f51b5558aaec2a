/**
 * The caller's half: key pair, encryption of transactions, decryption of replies.
 *
 * A feature value is the integer x * 2^inputBits in one coefficient of the plaintext polynomial; nothing passes through
 * the slot encoder, so the message is exact and SEAL's fresh error is the only noise (THREATS.md says why that matters).
 * Row: transaction i of a ciphertext fills coefficients i*d to i*d + d - 1. Column: ciphertext j holds feature j,
 * coefficient i is transaction i.
 * Source: coefficient packing as in Huang et al., "Cheetah", USENIX Security 2022, section 3.1; seeded ciphertexts of
 * SEAL (`encrypt_symmetric` with its seed saved) halve the upload.
 * Limit: `decryptReply` returns raw logits; whoever sends them anywhere gives up IND-CPA-D security (Li, Micciancio,
 * EUROCRYPT 2021). The SDK rounds.
 */
import { EncryptionError } from '../errors.ts';
import { uploadShape } from './preamble.ts';
import { MAX_INPUT_MASS, type Preset, replyScale, rowCapacity } from './presets.ts';
import { centred, polynomialOf, scaled } from './residues.ts';
import {
  attempt,
  type Decryptor,
  type Encryptor,
  loadCiphertext,
  loadPlaintext,
  Scope,
  type SealRuntime,
  type SealSecretKey,
  transform,
} from './seal.ts';
import { PLAINTEXT_PREAMBLE_BYTES, plaintextBytes, residuesAfter } from './sealBytes.ts';
import { SecretKey } from './secretKey.ts';
import { type FrameHeader, readFrame, replyCounts, resultStride, rowCounts, writeFrame } from './wire.ts';

/** The non-zero features of a transaction, by strictly increasing dimension. A one-hot vector has value 1 at each. */
export type SparseVector = readonly (readonly [dimension: number, value: number])[];

/** Work in pieces of some milliseconds, so that a thread can do something else between them. */
export type Steps<T> = Generator<undefined, T, undefined>;

export function createKeys(runtime: SealRuntime): SecretKey {
  using scope = new Scope();
  const none = runtime.seal.ComprModeType.none;
  const generator = scope.own(new runtime.seal.KeyGenerator(runtime.context));
  const secret = scope.own(generator.secretKey());
  const open = scope.own(generator.createPublicKeySerializable());
  return new SecretKey(runtime.preset.name, open.saveToArray(none), secret.saveToArray(none));
}

/**
 * A whole request frame.
 *
 * @param vectors one a transaction; as many as the header says
 * @throws EncryptionError ENCRYPTION_INPUT naming the transaction by its position
 */
export function encryptRequest(
  runtime: SealRuntime,
  key: SecretKey,
  header: FrameHeader,
  vectors: readonly SparseVector[],
): Uint8Array {
  return finish(encryptSteps(runtime, key, header, vectors));
}

/** `encryptRequest` one ciphertext a step. Whoever stops early calls `return()`, which frees SEAL's objects. */
export function* encryptSteps(
  runtime: SealRuntime,
  key: SecretKey,
  header: FrameHeader,
  vectors: readonly SparseVector[],
): Steps<Uint8Array> {
  if (header.preset !== key.preset || header.keyId !== key.keyId || vectors.length !== header.transactions) {
    throw new EncryptionError('ENCRYPTION_INPUT', 'key, header and transactions do not belong together', {
      where: 'request',
    });
  }
  for (const [at, vector] of vectors.entries()) checkVector(vector, header.dimension, at);
  const polynomials =
    header.layout === 'row' ? rowPolynomials(header, runtime.preset, vectors) : columnPolynomials(header, vectors);
  using scope = new Scope();
  const encryptor = openEncryptor(runtime, key, scope);
  const parts: Uint8Array[] = [];
  for (const entries of polynomials) {
    parts.push(encryptPolynomial(runtime, encryptor, entries));
    yield;
  }
  return writeFrame('request', header, parts);
}

/**
 * The logits of a reply, one a transaction, as the service computed them. See the limit above.
 *
 * @param sent header of the request
 * @throws EncryptionError FRAME_MALFORMED, FRAME_MISMATCH (a reply to something else)
 */
export function decryptReply(runtime: SealRuntime, key: SecretKey, sent: FrameHeader, reply: Uint8Array): Float64Array {
  return finish(decryptSteps(runtime, key, sent, reply));
}

/** `decryptReply` one ciphertext a step; as `encryptSteps`. */
export function* decryptSteps(
  runtime: SealRuntime,
  key: SecretKey,
  sent: FrameHeader,
  reply: Uint8Array,
): Steps<Float64Array> {
  const { header, parts } = readFrame('reply', reply);
  // Safe: a header made by this room has no other members; one more would be refused.
  for (const field of Object.keys(sent) as (keyof FrameHeader)[]) {
    if (header[field] === sent[field]) continue;
    throw new EncryptionError('FRAME_MISMATCH', 'the reply is not for this request', {
      where: `reply frame, ${field}`,
    });
  }
  const logits = new Float64Array(header.transactions);
  const { degree } = runtime.preset;
  using scope = new Scope();
  const secret = loadSecret(runtime, key, scope);
  const decryptor = scope.own(new runtime.seal.Decryptor(runtime.context, secret));
  const stride = resultStride(header);
  let first = 0;
  for (const [p, count] of replyCounts(header).entries()) {
    const kept = residuesAfter(parts[p], 0, count + degree);
    const both = new BigUint64Array(2 * degree);
    for (let i = 0; i < count; i++) both[i * stride] = kept[i];
    both.set(kept.subarray(count), degree);
    logits.set(decryptPolynomial(runtime, decryptor, both, { count, stride }), first);
    first += count;
    yield;
  }
  return logits;
}

function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

function checkVector(vector: SparseVector, dimension: number, at: number): void {
  const refuse = (message: string) =>
    new EncryptionError('ENCRYPTION_INPUT', message, { where: `transaction ${at}`, fix: 'Encode it by the contract.' });
  let before = -1;
  let mass = 0;
  for (const [index, value] of vector) {
    if (!Number.isInteger(index) || index <= before || index >= dimension) throw refuse('a dimension is out of order');
    if (!Number.isFinite(value)) throw refuse('a value is not a finite number');
    before = index;
    mass += Math.abs(value);
  }
  if (mass > MAX_INPUT_MASS) throw refuse(`absolute values sum to more than ${MAX_INPUT_MASS}`);
}

function rowPolynomials(header: FrameHeader, preset: Preset, vectors: readonly SparseVector[]): [number, number][][] {
  const capacity = rowCapacity(preset, header.dimension);
  return rowCounts(header).map((count, p) => {
    const mine = vectors.slice(p * capacity, p * capacity + count);
    return mine.flatMap((vector, i) =>
      vector.map(([index, value]): [number, number] => [i * header.dimension + index, value]),
    );
  });
}

function columnPolynomials(header: FrameHeader, vectors: readonly SparseVector[]): [number, number][][] {
  const columns: [number, number][][] = Array.from({ length: header.dimension }, () => []);
  for (const [i, vector] of vectors.entries()) for (const [index, value] of vector) columns[index].push([i, value]);
  return columns;
}

function encryptPolynomial(
  runtime: SealRuntime,
  encryptor: Encryptor,
  entries: readonly [number, number][],
): Uint8Array {
  const { preset } = runtime;
  const shape = uploadShape(preset);
  using scope = new Scope();
  const integers = entries.map(([index, value]) => [index, scaled(value, preset.inputBits)] as const);
  const polynomial = polynomialOf(preset.degree, preset.primes.slice(0, 2), integers);
  const message = transform(runtime, shape, polynomial, 'ntt');
  const plaintext = scope.own(loadPlaintext(runtime, plaintextBytes(shape, message)));
  const ciphertext = scope.own(encryptor.encryptSymmetricSerializable(plaintext));
  return ciphertext.saveToArray(runtime.seal.ComprModeType.none);
}

/**
 * The phase c0 + c1 * s of a reply, over the scale, at the coefficients that hold results.
 *
 * @param residues c0 and c1 in coefficient form
 */
function decryptPolynomial(
  runtime: SealRuntime,
  decryptor: Decryptor,
  residues: BigUint64Array,
  { count, stride }: { count: number; stride: number },
): Float64Array {
  const { preset } = runtime;
  const shape = { parmsId: preset.replyParmsId, degree: preset.degree, primes: 1, scale: replyScale(preset) };
  const prime = preset.primes[0];
  if (residues.some((residue) => residue >= prime)) {
    throw new EncryptionError('CIPHERTEXT_MALFORMED', 'a residue of the reply is not below its prime', {
      where: 'reply',
    });
  }
  using scope = new Scope();
  const ciphertext = scope.own(loadCiphertext(runtime, shape, residues, false));
  runtime.evaluator.cipherTransformToNttInplace(ciphertext);
  const plaintext = scope.own(new runtime.seal.Plaintext());
  decryptor.decrypt(ciphertext, plaintext);
  const bytes: Uint8Array = plaintext.saveToArray(runtime.seal.ComprModeType.none);
  const phase = transform(
    runtime,
    shape,
    residuesAfter(bytes, PLAINTEXT_PREAMBLE_BYTES, preset.degree),
    'coefficients',
  );
  return Float64Array.from({ length: count }, (_, i) => centred(phase[i * stride], prime) / shape.scale);
}

function openEncryptor(runtime: SealRuntime, key: SecretKey, scope: Scope): Encryptor {
  const open = scope.own(new runtime.seal.PublicKey());
  attempt('PUBLIC_KEY_MALFORMED', 'public key', () => open.loadFromArray(runtime.context, key.publicKey));
  return scope.own(new runtime.seal.Encryptor(runtime.context, open, loadSecret(runtime, key, scope)));
}

function loadSecret(runtime: SealRuntime, key: SecretKey, scope: Scope): SealSecretKey {
  const secret = scope.own(new runtime.seal.SecretKey());
  attempt('ENCRYPTION_INPUT', 'secret key', () => secret.loadFromArray(runtime.context, key.exposeSealBytes()));
  return secret;
}
