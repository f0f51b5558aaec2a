/**
 * The only importer of node-seal: loads the WASM once, opens a context per preset, and frees what it made.
 *
 * Source: Microsoft SEAL 4.1 through node-seal 7 (embind). Every object lives in WASM memory until `delete()`; a
 * `Scope` deletes in reverse order. The `allows` build is used because the `throws` build refuses products that are
 * zero and so tells the caller which weights are.
 * Limit: bytes given to the loaders here have passed preamble.ts; SEAL is not trusted with others.
 */
import loadSeal, {
  type Ciphertext,
  type ClassHandle,
  type Evaluator,
  type MainModule,
  type Plaintext,
  type SEALContext,
} from 'node-seal/allows';
import { EncryptionError, type EncryptionErrorCode } from '../errors.ts';
import { assertSecure, PRESETS, type Preset, type PresetName } from './presets.ts';
import {
  bytesOf,
  CIPHERTEXT_PREAMBLE_BYTES,
  ciphertextBytes,
  type PolynomialShape,
  residuesAfter,
} from './sealBytes.ts';

export type {
  Ciphertext,
  Decryptor,
  Encryptor,
  Plaintext,
  SecretKey as SealSecretKey,
} from 'node-seal/allows';

export interface SealRuntime {
  readonly preset: Preset;
  readonly seal: MainModule;
  readonly context: SEALContext;
  readonly evaluator: Evaluator;
}

let module: Promise<MainModule> | undefined;
const runtimes = new Map<PresetName, Promise<SealRuntime>>();

/** The runtime of a preset; the WASM module and the contexts live as long as the thread. */
export function sealRuntime(name: PresetName): Promise<SealRuntime> {
  let runtime = runtimes.get(name);
  if (runtime === undefined) {
    module ??= loadSeal();
    runtime = module.then((seal) => ({ preset: PRESETS[name], seal, ...openContext(seal, PRESETS[name]) }));
    runtimes.set(name, runtime);
  }
  return runtime;
}

function openContext(seal: MainModule, preset: Preset): { context: SEALContext; evaluator: Evaluator } {
  assertSecure(preset.degree, preset.primeBits);
  using scope = new Scope();
  const parameters = scope.own(new seal.EncryptionParameters(seal.SchemeType.ckks));
  parameters.setPolyModulusDegree(preset.degree);
  const primes = scope.own(seal.CoeffModulus.Create(preset.degree, Int32Array.from(preset.primeBits)));
  parameters.setCoeffModulus(primes);
  const context = new seal.SEALContext(parameters, true, seal.SecLevelType.tc128);
  const levels = [scope.own(context.keyParmsId()), scope.own(context.firstParmsId()), scope.own(context.lastParmsId())];
  const expected = [preset.keyParmsId, preset.uploadParmsId, preset.replyParmsId];
  const same = levels.every((level, i) => hexOf(level.values()) === expected[i]);
  if (!context.parametersSet() || !same) {
    context.delete();
    throw new EncryptionError('ENCRYPTION_PARAMETER', 'SEAL disagrees with the preset', {
      where: preset.name,
      fix: 'Use the pinned version of node-seal.',
    });
  }
  return { context, evaluator: new seal.Evaluator(context) };
}

function hexOf(words: BigUint64Array): string {
  return Array.from(bytesOf(words), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Owns WASM objects: `using scope = new Scope()`, then `scope.own(...)`; all are deleted when the block ends. */
export class Scope implements Disposable {
  readonly #owned: ClassHandle[] = [];

  own<T extends ClassHandle>(object: T): T {
    this.#owned.push(object);
    return object;
  }

  [Symbol.dispose](): void {
    for (let object = this.#owned.pop(); object !== undefined; object = this.#owned.pop()) object.delete();
  }
}

/** Runs a step of SEAL; what it throws becomes one EncryptionError of the given code. */
export function attempt<T>(code: EncryptionErrorCode, where: string, step: () => T): T {
  try {
    return step();
  } catch (cause) {
    if (cause instanceof EncryptionError) throw cause;
    throw new EncryptionError(code, 'the encryption library refused the input', { where, cause });
  }
}

/** A ciphertext of two polynomials, both given as residues. The caller owns the result. */
export function loadCiphertext(
  runtime: SealRuntime,
  shape: PolynomialShape,
  residues: BigUint64Array,
  ntt: boolean,
): Ciphertext {
  const bytes = ciphertextBytes(shape, residues, ntt);
  return loaded(new runtime.seal.Ciphertext(), (ciphertext) => ciphertext.loadFromArray(runtime.context, bytes));
}

/** The residues of both polynomials, in whatever form the ciphertext is. */
export function ciphertextResidues(runtime: SealRuntime, ciphertext: Ciphertext): BigUint64Array {
  const bytes: Uint8Array = ciphertext.saveToArray(runtime.seal.ComprModeType.none);
  return residuesAfter(bytes, CIPHERTEXT_PREAMBLE_BYTES, (bytes.length - CIPHERTEXT_PREAMBLE_BYTES) / 8);
}

/**
 * The number-theoretic transform of one polynomial, by way of a ciphertext whose second polynomial is zero: SEAL
 * transforms plaintexts only up to 64 bits and only in one direction.
 */
export function transform(
  runtime: SealRuntime,
  shape: PolynomialShape,
  polynomial: BigUint64Array,
  to: 'ntt' | 'coefficients',
): BigUint64Array {
  using scope = new Scope();
  const both = new BigUint64Array(2 * polynomial.length);
  both.set(polynomial);
  const carrier = scope.own(loadCiphertext(runtime, shape, both, to === 'coefficients'));
  if (to === 'ntt') runtime.evaluator.cipherTransformToNttInplace(carrier);
  else runtime.evaluator.cipherTransformFromNttInplace(carrier);
  return ciphertextResidues(runtime, carrier).slice(0, polynomial.length);
}

export function loadPlaintext(runtime: SealRuntime, bytes: Uint8Array): Plaintext {
  return loaded(new runtime.seal.Plaintext(), (plaintext) => plaintext.loadFromArray(runtime.context, bytes));
}

/** An object that refuses its bytes is deleted here: nobody else knows it. */
function loaded<T extends ClassHandle>(object: T, load: (object: T) => void): T {
  try {
    load(object);
    return object;
  } catch (error) {
    object.delete();
    throw error;
  }
}
